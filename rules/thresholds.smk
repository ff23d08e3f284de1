# The boost of every latent at which the first attempt scores the target.


def threshold_files():
    """Pairs of a model and a table of its thresholds, one a target."""
    found = []
    for model in searched(CONFIG.models):
        arms = [CONFIG.arms[arm] for arm in CONFIG.arms_of(model)]
        targets = sorted({arm.target for arm in arms if arm.target is not None})
        names = ["thresholds", *[f"thresholds-{target}" for target in targets]]
        found += [(model, f"<results>/{model}/{name}.parquet") for name in names]
    return found


THRESHOLDS = threshold_files()


rule find_thresholds:
    """Find the threshold of every selected latent; keep every boost tried and its score."""
    input:
        prompts=CONFIG.prompts,
        latents=of_base("latents/latents.parquet"),
        model="<results>/{model}/assets/model.json",
        sae=of_base("assets/sae.safetensors"),
        fit=ancient(of_base("sae_fit.parquet")),  # must exist: it is made if the SAE fits
        environment=engine_environment,
        local=run_here(CONFIG.judging.primary),
        judge=ancient(judge_files),
    output:
        thresholds="<results>/{model}/thresholds.parquet",
        trials="<results>/{model}/threshold_trials.parquet",
    params:
        journal=f"{RESULTS}/{{model}}/journals/thresholds.jsonl",
        replies=f"{RESULTS}/replies/find_thresholds/{{model}}/{CONFIG.judging.primary}.jsonl",
        contents=contents(judge_files),
        settings=settings(
            "thresholds",
            "generation",
            "seeds.thresholds",
            "engine.name",
            "engine.batch_size",
            "judging.primary",
            f"judging.judges.{CONFIG.judging.primary}",
            "models.{model}.threshold_prior",
            "models.{model}.dtype",
            "models.{model}.template",
            "models.{model}.quantization",
            "models.{model}.steer_layer",
            "models.{model}.ablate_layer",
            "models.{model}.repetition_penalty",
        ),
    log:
        "<logs>/{model}/find_thresholds.log",
    benchmark:
        "<benchmarks>/{model}/find_thresholds.tsv"
    threads: CONFIG.engine.threads
    resources:
        **engine_job("find_thresholds"),
    script:
        "../scripts/thresholds/find_thresholds.py"


rule estimate_thresholds:
    """Estimate thresholds for another target from the responses judged for the first one."""
    input:
        thresholds="<results>/{model}/thresholds.parquet",
        trials="<results>/{model}/threshold_trials.parquet",
        fit=ancient(of_base("sae_fit.parquet")),
    output:
        "<results>/{model}/thresholds-{target}.parquet",
    params:
        settings=settings(
            "thresholds",
            "models.{model}.threshold_prior",
            "models.{model}.steer_layer",
        ),
    log:
        "<logs>/{model}/estimate_thresholds_{target}.log",
    benchmark:
        "<benchmarks>/{model}/estimate_thresholds_{target}.tsv"
    resources:
        mem_mb=1000,
    script:
        "../scripts/thresholds/estimate_thresholds.py"


rule tabulate_thresholds:
    """Tabulate the threshold of every latent and target, and how the searches ended."""
    input:
        [path for _, path in THRESHOLDS],
    output:
        csv="<results>/tables/thresholds.csv",
        tex="<results>/tables/thresholds.tex",
    params:
        models=[model for model, _ in THRESHOLDS],
    log:
        "<logs>/tabulate_thresholds.log",
    benchmark:
        "<benchmarks>/tabulate_thresholds.tsv"
    resources:
        mem_mb=1000,
    script:
        "../scripts/thresholds/tabulate_thresholds.py"

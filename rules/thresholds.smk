# The boost of every latent at which the first attempt scores the target.
from esr.planning.searches import search_group


def threshold_files():
    """Model, set of directions and path of every table of thresholds, one a target."""
    found = []
    for model in CONFIG.models:
        for directions, targets in CONFIG.searches(model).items():
            names = ["thresholds", *[f"thresholds-{target}" for target in targets]]
            folder = f"<results>/{model}/{along(directions)}"
            found += [(model, directions, f"{folder}{name}.parquet") for name in names]
    return found


def steered_directions(wildcards):
    """The directions whose thresholds are searched: latents, or those of a set."""
    if wildcards.along:
        return of_base(f"{wildcards.along}directions.parquet")(wildcards)
    return of_base("latents/latents.parquet")(wildcards)


def vectors_along(wildcards):
    """Vectors of the set whose thresholds are searched; latents need none."""
    if not wildcards.along:
        return []
    return [of_base(f"{wildcards.along}vectors.safetensors")(wildcards)]


def probes_of(wildcards):
    """Probes of boosts, on which the prior of a model rests that has none in its settings."""
    if CONFIG.models[wildcards.model].threshold_prior is not None:
        return []
    return [of_base("boost_probes.parquet")(wildcards)]


@cache
def searched_in(model):
    """Group of the search of a model's latents, and its number of searches, if it is in one."""
    return submitted_together(search_group(CONFIG, model, arms_together()))


def searched_with(wildcards):
    """The same by wildcards; searches along a set of directions are in no group."""
    return None if wildcards.along else searched_in(wildcards.model)


THRESHOLDS = threshold_files()


rule probe_boosts:
    """Measure how far a ladder of boosts moves a model's predictions; no judge, no generation."""
    input:
        prompts=CONFIG.prompts,
        candidates="<results>/{model}/latents/candidates.parquet",
        model="<results>/{model}/assets/model.json",
        sae="<results>/{model}/assets/sae.safetensors",
        fit=ancient("<results>/{model}/sae_fit.parquet"),
        answers=unsteered_answers(),
    output:
        "<results>/{model}/boost_probes.parquet",
    params:
        settings=settings(
            "generation.doubled_header",
            "models.{model}.template",
            "models.{model}.dtype",
            "models.{model}.steer_layer",
        ),
    log:
        "<logs>/{model}/probe_boosts.log",
    benchmark:
        "<benchmarks>/{model}/probe_boosts.tsv"
    threads: CONFIG.engine.threads
    resources:
        **engine_job("probe_boosts"),
    wildcard_constraints:
        model=one_of(CONFIG.base_models),
    script:
        "../scripts/thresholds/probe_boosts.py"


rule find_thresholds:
    """Find the threshold of every selected latent; keep every boost tried and its score."""
    input:
        prompts=CONFIG.prompts,
        latents=steered_directions,
        directions=vectors_along,
        model="<results>/{model}/assets/model.json",
        sae=of_base("assets/sae.safetensors"),
        fit=ancient(of_base("sae_fit.parquet")),  # must exist: it is made if the SAE fits
        probes=ancient(probes_of),
        environment=engine_environment,
        local=run_here(CONFIG.judging.primary),
        judge=ancient(judge_files),
    output:
        thresholds="<results>/{model}/{along}thresholds.parquet",
        trials="<results>/{model}/{along}threshold_trials.parquet",
    params:
        journal=f"{RESULTS}/{{model}}/{{along}}journals/thresholds.jsonl",
        replies=f"{RESULTS}/replies/find_thresholds/{{model}}/{{along}}{CONFIG.judging.primary}.jsonl",
        contents=contents(judge_files),
        settings=steered_as(
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
            of=computed_as,
        ),
    log:
        "<logs>/{model}/{along}find_thresholds.log",
    benchmark:
        "<benchmarks>/{model}/{along}find_thresholds.tsv"
    threads: CONFIG.engine.threads
    resources:
        **engine_job("find_thresholds"),
        **shared_by(searched_with),
    group:
        allocation_by(searched_with)
    script:
        "../scripts/thresholds/find_thresholds.py"


rule estimate_thresholds:
    """Estimate thresholds for another target from the responses judged for the first one."""
    input:
        thresholds="<results>/{model}/{along}thresholds.parquet",
        trials="<results>/{model}/{along}threshold_trials.parquet",
        fit=ancient(of_base("sae_fit.parquet")),
        probes=ancient(probes_of),
    output:
        "<results>/{model}/{along}thresholds-{target}.parquet",
    params:
        settings=settings(
            "thresholds",
            "models.{model}.threshold_prior",
            "models.{model}.steer_layer",
        ),
    log:
        "<logs>/{model}/{along}estimate_thresholds_{target}.log",
    benchmark:
        "<benchmarks>/{model}/{along}estimate_thresholds_{target}.tsv"
    resources:
        mem_mb=1000,
    script:
        "../scripts/thresholds/estimate_thresholds.py"


rule tabulate_thresholds:
    """Tabulate the threshold of every latent and target, and how the searches ended."""
    input:
        thresholds=[path for _, _, path in THRESHOLDS],
        fit=[
            f"<results>/{CONFIG.base_of(model)}/sae_fit.parquet"
            for model, _, _ in THRESHOLDS
        ],
    output:
        csv="<results>/tables/thresholds.csv",
        tex="<results>/tables/thresholds.tex",
    params:
        searches=[[model, directions] for model, directions, _ in THRESHOLDS],
        settings=settings(*[f"models.{model}.steer_layer" for model in CONFIG.models]),
    log:
        "<logs>/tabulate_thresholds.log",
    benchmark:
        "<benchmarks>/tabulate_thresholds.tsv"
    resources:
        mem_mb=1000,
    script:
        "../scripts/thresholds/tabulate_thresholds.py"

# From all latents of an SAE to those that are steered.

RATER = CONFIG.latents.concreteness.rater
RATER_FILES = (
    [] if RATER == "lexical" else [CONFIG.latents.concreteness.rubric.as_posix()]
)


rule draw_candidates:
    """Draw the latents that selection starts from."""
    input:
        "<results>/{model}/labels.parquet",
    output:
        "<results>/{model}/latents/candidates.parquet",
    params:
        settings=settings("latents.count", "latents.candidates", "seeds.latents"),
    log:
        "<logs>/{model}/draw_candidates.log",
    benchmark:
        "<benchmarks>/{model}/draw_candidates.tsv"
    resources:
        mem_mb=1000,
    script:
        "../scripts/latents/draw_candidates.py"


rule rate_concreteness:
    """Rate how concrete the labels of the candidates are."""
    input:
        candidates="<results>/{model}/latents/candidates.parquet",
        lexicon=CONFIG.latents.concreteness.lexicon or [],
        local=run_here(RATER),
        rubric=ancient(RATER_FILES),
    output:
        "<results>/{model}/latents/concreteness.parquet",
    params:
        replies=f"{RESULTS}/replies/rate_concreteness/{{model}}/{RATER}.jsonl",
        contents=contents(RATER_FILES),
        settings=settings("latents.concreteness.rater", "latents.concreteness.batch"),
    log:
        "<logs>/{model}/rate_concreteness.log",
    benchmark:
        "<benchmarks>/{model}/rate_concreteness.tsv"
    resources:
        **(judge_job(RATER) | shared_rater("rate_concreteness", RATER)),
    group:
        allocation_by(lambda wildcards: rated_in("rate_concreteness"))
    script:
        "../scripts/latents/rate_concreteness.py"


rule measure_relevance:
    """Measure the activation of every latent on each prompt (or on its unsteered answer)."""
    input:
        prompts=CONFIG.prompts,
        candidates="<results>/{model}/latents/candidates.parquet",
        model="<results>/{model}/assets/model.json",
        sae="<results>/{model}/assets/sae.safetensors",
        environment=engine_environment,
        answers=(
            expand(
                "<results>/{{model}}/arms/{arm}/{table}.parquet",
                arm=CONFIG.latents.relevance.answers,
                table=["plan", "responses"],
            )
            if CONFIG.latents.relevance.criterion == "top_n"
            else []
        ),
    output:
        "<results>/{model}/latents/relevance.parquet",
    params:
        settings=computed_as(
            "latents.relevance",
            "generation.doubled_header",
            "models.{model}.template",
            "engine.name",
            "engine.batch_size",
            "models.{model}.dtype",
            "models.{model}.quantization",
            "models.{model}.read_layer",
        ),
    log:
        "<logs>/{model}/measure_relevance.log",
    benchmark:
        "<benchmarks>/{model}/measure_relevance.tsv"
    threads: CONFIG.engine.threads
    resources:
        **engine_job("measure_relevance"),
        **shared_engine("measure_relevance"),
    group:
        allocation_of("measure_relevance")
    script:
        "../scripts/latents/measure_relevance.py"


def answers_to_own_prompts(wildcards):
    """Unsteered answers to the prompts of an arm that has its own, if relevance is read on them."""
    if CONFIG.latents.relevance.criterion != "top_n":
        return []
    answers = f"<results>/{{model}}/arms/{CONFIG.answers_to(wildcards.arm)}"
    return [f"{answers}/{table}.parquet" for table in ("plan", "responses")]


use rule measure_relevance as measure_relevance_of_arm with:
    input:
        prompts=lambda wildcards: CONFIG.arms[wildcards.arm].prompts,
        candidates="<results>/{model}/latents/candidates.parquet",
        model="<results>/{model}/assets/model.json",
        sae="<results>/{model}/assets/sae.safetensors",
        environment=engine_environment,
        answers=answers_to_own_prompts,
    output:
        "<results>/{model}/arms/{arm}/relevance.parquet",
    log:
        "<logs>/{model}/{arm}/measure_relevance_of_arm.log",
    benchmark:
        "<benchmarks>/{model}/{arm}/measure_relevance_of_arm.tsv"
    wildcard_constraints:
        arm=one_of(CONFIG.held_out),


rule select_latents:
    """Select the latents to steer, with the reason for every exclusion."""
    input:
        candidates="<results>/{model}/latents/candidates.parquet",
        concreteness="<results>/{model}/latents/concreteness.parquet",
        relevance="<results>/{model}/latents/relevance.parquet",
    output:
        "<results>/{model}/latents/latents.parquet",
    params:
        settings=settings("latents", "trials_per_latent"),
    log:
        "<logs>/{model}/select_latents.log",
    benchmark:
        "<benchmarks>/{model}/select_latents.tsv"
    resources:
        mem_mb=1000,
    script:
        "../scripts/latents/select_latents.py"

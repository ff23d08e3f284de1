# Episodes of self-correction, encoded token by token.


# Imported responses have no tokens to encode.
TRACED = [
    model
    for model in CONFIG.base_models
    if CONFIG.generates(model, CONFIG.episodes.arm)
]


def episode_tables(table):
    """A table of the episodes, one file a model."""
    return expand(
        "<results>/{model}/episodes/{table}.parquet", model=TRACED, table=table
    )


rule annotate_boundaries:
    """Locate each self-correction in its response: a language model quotes its start and end."""
    input:
        scores=f"<results>/{{model}}/arms/{CONFIG.episodes.arm}/scores/{CONFIG.judging.primary}.parquet",
        responses=f"<results>/{{model}}/arms/{CONFIG.episodes.arm}/responses.parquet",
        plan=f"<results>/{{model}}/arms/{CONFIG.episodes.arm}/plan.parquet",
        local=run_here(CONFIG.episodes.boundaries),
        rubric=ancient(CONFIG.episodes.boundaries_rubric.as_posix()),
    output:
        "<results>/{model}/episodes/boundaries.parquet",
    params:
        replies=f"{RESULTS}/replies/annotate_boundaries/{{model}}/{CONFIG.episodes.boundaries}.jsonl",
        contents=contents(CONFIG.episodes.boundaries_rubric),
        settings=settings("episodes"),
    log:
        "<logs>/{model}/annotate_boundaries.log",
    benchmark:
        "<benchmarks>/{model}/annotate_boundaries.tsv"
    resources:
        **judge_job(CONFIG.episodes.boundaries),
    script:
        "../scripts/episodes/annotate_boundaries.py"


rule extract_episodes:
    """Find the self-corrections of an arm, their regions, and responses to compare them with."""
    input:
        boundaries=(
            []
            if CONFIG.episodes.boundaries == "detector"
            else "<results>/{model}/episodes/boundaries.parquet"
        ),
        scores=f"<results>/{{model}}/arms/{CONFIG.episodes.arm}/scores/{CONFIG.judging.primary}.parquet",
        judgments=f"<results>/{{model}}/arms/{CONFIG.episodes.arm}/judgments/{CONFIG.judging.primary}.parquet",
        responses=f"<results>/{{model}}/arms/{CONFIG.episodes.arm}/responses.parquet",
        phrases=ancient(PHRASES),
    output:
        "<results>/{model}/episodes/episodes.parquet",
    params:
        contents=contents(PHRASES),
        settings=settings("episodes", "models.{model}.backtracking"),
    log:
        "<logs>/{model}/extract_episodes.log",
    benchmark:
        "<benchmarks>/{model}/extract_episodes.tsv"
    resources:
        mem_mb=1000,
    script:
        "../scripts/episodes/extract_episodes.py"


rule read_episodes:
    """Encode detectors and backtracking latents at every token of episodes and controls."""
    input:
        episodes="<results>/{model}/episodes/episodes.parquet",
        detectors="<results>/{model}/detectors/detectors.parquet",
        plan=f"<results>/{{model}}/arms/{CONFIG.episodes.arm}/plan.parquet",
        responses=f"<results>/{{model}}/arms/{CONFIG.episodes.arm}/responses.parquet",
        model="<results>/{model}/assets/model.json",
        sae="<results>/{model}/assets/sae.safetensors",
        environment=engine_environment,
    output:
        "<results>/{model}/episodes/episode_activations.parquet",
    params:
        settings=computed_as(
            "episodes",
            "generation.doubled_header",
            "models.{model}.template",
            "engine.name",
            "engine.batch_size",
            "models.{model}.backtracking",
            "models.{model}.dtype",
            "models.{model}.quantization",
            "models.{model}.steer_layer",
            "models.{model}.read_layer",
            "models.{model}.ablate_layer",
        ),
    log:
        "<logs>/{model}/read_episodes.log",
    benchmark:
        "<benchmarks>/{model}/read_episodes.tsv"
    threads: CONFIG.engine.threads
    resources:
        **engine_job("read_episodes"),
        **shared_engine("read_episodes"),
    group:
        allocation_of("read_episodes")
    script:
        "../scripts/episodes/read_episodes.py"

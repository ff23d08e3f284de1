# Episodes of self-correction, read token by token.


def episode_tables(table):
    """A table of the episodes, one file a model."""
    return expand(
        "results/{study}/{model}/episodes/{table}.parquet",
        study=CONFIG.study,
        model=CONFIG.models,
        table=table,
    )


rule extract_episodes:
    """Find the self-corrections of an arm, their stretches, and responses to compare them with."""
    input:
        scores=f"results/{{study}}/{{model}}/arms/{CONFIG.episodes.arm}/scores/{CONFIG.judging.primary}.parquet",
        judgments=f"results/{{study}}/{{model}}/arms/{CONFIG.episodes.arm}/judgments/{CONFIG.judging.primary}.parquet",
        responses=f"results/{{study}}/{{model}}/arms/{CONFIG.episodes.arm}/responses.parquet",
        phrases=CONFIG.judging.restart_phrases,
    output:
        "results/{study}/{model}/episodes/episodes.parquet",
    log:
        "logs/{study}/{model}/extract_episodes.log",
    benchmark:
        "benchmarks/jobs/{study}/{model}/extract_episodes.tsv"
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=1000,
    params:
        settings=settings("episodes", "models.{model}.backtracking"),
    script:
        "../scripts/extract_episodes.py"


rule read_episodes:
    """Read detectors and backtracking latents at every token of episodes and controls."""
    input:
        episodes="results/{study}/{model}/episodes/episodes.parquet",
        detectors="results/{study}/{model}/detectors/detectors.parquet",
        plan=f"results/{{study}}/{{model}}/arms/{CONFIG.episodes.arm}/plan.parquet",
        responses=f"results/{{study}}/{{model}}/arms/{CONFIG.episodes.arm}/responses.parquet",
        model="results/{study}/{model}/assets/model.json",
        sae="results/{study}/{model}/assets/sae.safetensors",
    output:
        "results/{study}/{model}/episodes/episode_activations.parquet",
    log:
        "logs/{study}/{model}/read_episodes.log",
    benchmark:
        "benchmarks/jobs/{study}/{model}/read_episodes.tsv"
    conda:
        "../envs/main.yaml"
    threads: CONFIG.engine.threads
    resources:
        mem_mb=2000,
    params:
        settings=settings(
            "episodes",
            "generation.doubled_header",
            "engine.batch_size",
            "models.{model}.backtracking",
            "models.{model}.dtype",
            "models.{model}.steer_layer",
            "models.{model}.read_layer",
            "models.{model}.ablate_layer",
        ),
    script:
        "../scripts/read_episodes.py"

# Episodes of self-correction, read token by token.


rule annotate_boundaries:
    """Let a language model say where in each self-correction it begins and ends, by quotes."""
    input:
        scores=f"results/{{study}}/{{model}}/arms/{CONFIG.episodes.arm}/scores/{CONFIG.judging.primary}.parquet",
        responses=f"results/{{study}}/{{model}}/arms/{CONFIG.episodes.arm}/responses.parquet",
        plan=f"results/{{study}}/{{model}}/arms/{CONFIG.episodes.arm}/plan.parquet",
        rubric=ancient(CONFIG.episodes.boundaries_rubric.as_posix()),
    output:
        "results/{study}/{model}/episodes/boundaries.parquet",
    log:
        "logs/{study}/{model}/annotate_boundaries.log",
    benchmark:
        "benchmarks/jobs/{study}/{model}/annotate_boundaries.tsv"
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=1000,
    params:
        replies=f"results/{{study}}/replies/annotate_boundaries/{{model}}/{CONFIG.episodes.boundaries}.jsonl",
        contents=contents(CONFIG.episodes.boundaries_rubric),
        settings=settings("episodes"),
    script:
        "../scripts/episodes/annotate_boundaries.py"


rule extract_episodes:
    """Find the self-corrections of an arm, their stretches, and responses to compare them with."""
    input:
        boundaries=(
            []
            if CONFIG.episodes.boundaries == "detector"
            else "results/{study}/{model}/episodes/boundaries.parquet"
        ),
        scores=f"results/{{study}}/{{model}}/arms/{CONFIG.episodes.arm}/scores/{CONFIG.judging.primary}.parquet",
        judgments=f"results/{{study}}/{{model}}/arms/{CONFIG.episodes.arm}/judgments/{CONFIG.judging.primary}.parquet",
        responses=f"results/{{study}}/{{model}}/arms/{CONFIG.episodes.arm}/responses.parquet",
        phrases=ancient(PHRASES),
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
        contents=contents(PHRASES),
        settings=settings("episodes", "models.{model}.backtracking"),
    script:
        "../scripts/episodes/extract_episodes.py"


rule read_episodes:
    """Read detectors and backtracking latents at every token of episodes and controls."""
    input:
        episodes="results/{study}/{model}/episodes/episodes.parquet",
        detectors="results/{study}/{model}/detectors/detectors.parquet",
        plan=f"results/{{study}}/{{model}}/arms/{CONFIG.episodes.arm}/plan.parquet",
        responses=f"results/{{study}}/{{model}}/arms/{CONFIG.episodes.arm}/responses.parquet",
        model="results/{study}/{model}/assets/model.json",
        sae="results/{study}/{model}/assets/sae.safetensors",
        environment=engine_environment,
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
        **engine_job("read_episodes"),
    params:
        settings=settings(
            "episodes",
            "generation.doubled_header",
            "engine.name",
            "engine.batch_size",
            "models.{model}.backtracking",
            "models.{model}.dtype",
            "models.{model}.quantization",
            "models.{model}.steer_layer",
            "models.{model}.read_layer",
            "models.{model}.ablate_layer",
        ),
    script:
        "../scripts/episodes/read_episodes.py"


rule plot_fig7:
    """Plot detectors and backtracking latents over the tokens of one self-correction (Figure 7)."""
    input:
        episodes=episode_tables("episodes"),
        activations=episode_tables("episode_activations"),
        responses=expand(
            "results/{study}/{model}/arms/{arm}/responses.parquet",
            study=CONFIG.study,
            model=CONFIG.originals,
            arm=CONFIG.episodes.arm,
        ),
    output:
        pdf="results/{study}/figures/fig7.pdf",
        png=report(
            "results/{study}/figures/fig7.png",
            caption="../resources/captions/fig7.rst",
            category="Figures",
            labels={"figure": TITLES["fig7"]},
        ),
        csv="results/{study}/figures/fig7.csv",
    log:
        "logs/{study}/plot_fig7.log",
    benchmark:
        "benchmarks/jobs/{study}/plot_fig7.tsv"
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=1000,
    params:
        settings=settings("title", "episodes"),
        models=figure_models(),
    script:
        "../scripts/figures/plot_fig7.py"


rule plot_figA5:
    """Plot activations by token around the start of the correction (Figure A5)."""
    input:
        episodes=episode_tables("episodes"),
        activations=episode_tables("episode_activations"),
    output:
        pdf="results/{study}/figures/figA5.pdf",
        png=report(
            "results/{study}/figures/figA5.png",
            caption="../resources/captions/figA5.rst",
            category="Figures",
            labels={"figure": TITLES["figA5"]},
        ),
        csv="results/{study}/figures/figA5.csv",
    log:
        "logs/{study}/plot_figA5.log",
    benchmark:
        "benchmarks/jobs/{study}/plot_figA5.tsv"
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=1000,
    params:
        settings=settings("title", "episodes", "statistics"),
        models=figure_models(),
    script:
        "../scripts/figures/plot_figA5.py"


rule plot_figA6:
    """Plot activations by stretch of the response, and their contrasts (Figure A6)."""
    input:
        episodes=episode_tables("episodes"),
        activations=episode_tables("episode_activations"),
    output:
        pdf="results/{study}/figures/figA6.pdf",
        png=report(
            "results/{study}/figures/figA6.png",
            caption="../resources/captions/figA6.rst",
            category="Figures",
            labels={"figure": TITLES["figA6"]},
        ),
        csv="results/{study}/figures/figA6.csv",
    log:
        "logs/{study}/plot_figA6.log",
    benchmark:
        "benchmarks/jobs/{study}/plot_figA6.tsv"
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=1000,
    params:
        settings=settings("title", "episodes", "statistics"),
        models=figure_models(),
    script:
        "../scripts/figures/plot_figA6.py"


rule tabulate_activation:
    """Tabulate activations in episodes: stretches, contrasts, single latents, lead time."""
    input:
        episodes=episode_tables("episodes"),
        activations=episode_tables("episode_activations"),
        labels=expand(
            "results/{study}/{model}/labels.parquet",
            study=CONFIG.study,
            model=CONFIG.originals,
        ),
    output:
        regions_csv="results/{study}/tables/activation_regions.csv",
        regions_tex="results/{study}/tables/activation_regions.tex",
        contrasts_csv="results/{study}/tables/activation_contrasts.csv",
        contrasts_tex="results/{study}/tables/activation_contrasts.tex",
        latents_csv="results/{study}/tables/activation_latents.csv",
        latents_tex="results/{study}/tables/activation_latents.tex",
        lead_csv="results/{study}/tables/activation_lead.csv",
        lead_tex="results/{study}/tables/activation_lead.tex",
    log:
        "logs/{study}/tabulate_activation.log",
    benchmark:
        "benchmarks/jobs/{study}/tabulate_activation.tsv"
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=1000,
    params:
        settings=settings("episodes", "statistics"),
        models=figure_models(),
    script:
        "../scripts/analysis/tabulate_activation.py"

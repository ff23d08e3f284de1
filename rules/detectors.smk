# Off-topic detectors, random sets of latents to compare them with, and what ablating either does.


rule find_detectors:
    """Find the latents that tell mismatched pairs of prompt and response from matched ones."""
    input:
        prompts=detector_prompts(),
        labels="results/{study}/{model}/labels.parquet",
        model="results/{study}/{model}/assets/model.json",
        sae="results/{study}/{model}/assets/sae.safetensors",
        environment=engine_environment,
        plan=f"results/{{study}}/{{model}}/arms/{CONFIG.detectors.arm}/plan.parquet",
        responses=f"results/{{study}}/{{model}}/arms/{CONFIG.detectors.arm}/responses.parquet",
    output:
        detectors="results/{study}/{model}/detectors/detectors.parquet",
        pairs="results/{study}/{model}/detectors/detector_pairs.parquet",
    log:
        "logs/{study}/{model}/find_detectors.log",
    benchmark:
        "benchmarks/jobs/{study}/{model}/find_detectors.tsv"
    conda:
        "../envs/main.yaml"
    threads: CONFIG.engine.threads
    resources:
        **engine_job("find_detectors"),
    params:
        settings=settings(
            "detectors",
            "generation.doubled_header",
            "engine.name",
            "engine.batch_size",
            "models.{model}.detectors",
            "models.{model}.dtype",
            "models.{model}.quantization",
            "models.{model}.read_layer",
        ),
    script:
        "../scripts/detectors/find_detectors.py"


rule match_controls:
    """Draw random sets of latents that are as active on steered text as the detectors."""
    input:
        detectors="results/{study}/{model}/detectors/detectors.parquet",
        model="results/{study}/{model}/assets/model.json",
        sae="results/{study}/{model}/assets/sae.safetensors",
        environment=engine_environment,
        plan="results/{study}/{model}/arms/steered/plan.parquet",
        responses="results/{study}/{model}/arms/steered/responses.parquet",
    output:
        "results/{study}/{model}/detectors/controls.parquet",
    log:
        "logs/{study}/{model}/match_controls.log",
    benchmark:
        "benchmarks/jobs/{study}/{model}/match_controls.tsv"
    conda:
        "../envs/main.yaml"
    threads: CONFIG.engine.threads
    resources:
        **engine_job("match_controls"),
    params:
        settings=settings(
            "detectors.random_sets",
            "detectors.nearest",
            "detectors.seed",
            "generation.doubled_header",
            "engine.name",
            "engine.batch_size",
            "models.{model}.dtype",
            "models.{model}.quantization",
            "models.{model}.steer_layer",
            "models.{model}.read_layer",
        ),
    script:
        "../scripts/detectors/match_controls.py"


rule plot_fig5:
    """Plot off-topic detectors and what ablating them changes (Figure 5)."""
    input:
        scores=scores_of(cells("steered", "ablate-otd", models=CONFIG.originals)),
        detectors=detector_files("detectors"),
        pairs=detector_files("detector_pairs"),
    output:
        pdf="results/{study}/figures/fig5.pdf",
        png=report(
            "results/{study}/figures/fig5.png",
            caption="../resources/captions/fig5.rst",
            category="Figures",
            labels={"figure": TITLES["fig5"]},
        ),
        csv="results/{study}/figures/fig5.csv",
    log:
        "logs/{study}/plot_fig5.log",
    benchmark:
        "benchmarks/jobs/{study}/plot_fig5.tsv"
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=1000,
    params:
        settings=settings("title", "statistics", "detectors"),
        models=figure_models(),
    script:
        "../scripts/figures/plot_fig5.py"


rule plot_figA9:
    """Plot ablations of random sets beside that of the detectors (Figure A9)."""
    input:
        scores=scores_of(
            cells("steered", "ablate-otd", *random_arms(), models=CONFIG.originals)
        ),
        detectors=detector_files("detectors"),
        controls=detector_files("controls"),
    output:
        pdf="results/{study}/figures/figA9.pdf",
        png=report(
            "results/{study}/figures/figA9.png",
            caption="../resources/captions/figA9.rst",
            category="Figures",
            labels={"figure": TITLES["figA9"]},
        ),
        csv="results/{study}/figures/figA9.csv",
    log:
        "logs/{study}/plot_figA9.log",
    benchmark:
        "benchmarks/jobs/{study}/plot_figA9.tsv"
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=1000,
    params:
        settings=settings("title", "statistics"),
        models=figure_models(),
    script:
        "../scripts/figures/plot_figA9.py"


rule tabulate_tableA1:
    """Tabulate the statistics of every off-topic detector (Table A1)."""
    input:
        detectors=detector_files("detectors"),
        pairs=detector_files("detector_pairs"),
    output:
        csv="results/{study}/tables/tableA1.csv",
        tex="results/{study}/tables/tableA1.tex",
    log:
        "logs/{study}/tabulate_tableA1.log",
    benchmark:
        "benchmarks/jobs/{study}/tabulate_tableA1.tsv"
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=1000,
    params:
        settings=settings("statistics"),
        models=figure_models(),
    script:
        "../scripts/analysis/tabulate_tableA1.py"

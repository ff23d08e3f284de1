# Figures: from scores to PDF, PNG and the CSV that is plotted.


rule plot_fig2:
    """Plot ESR across models: score change, multi-attempt rate, ESR rate, MSI (Figure 2)."""
    input:
        scores=scores_of(cells("steered", models=CONFIG.originals)),
    output:
        pdf="results/{study}/figures/fig2.pdf",
        png=report(
            "results/{study}/figures/fig2.png",
            caption="../resources/captions/fig2.rst",
            category="Figures",
            labels={"figure": TITLES["fig2"]},
        ),
        csv="results/{study}/figures/fig2.csv",
    log:
        "logs/{study}/plot_fig2.log",
    benchmark:
        "benchmarks/jobs/{study}/plot_fig2.tsv"
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=1000,
    params:
        settings=settings("title", "statistics"),
        models=figure_models(),
    script:
        "../scripts/figures/plot_fig2.py"


rule plot_fig3:
    """Plot the measures against the level of a boost sweep, and their peaks (Figure 3)."""
    input:
        scores=scores_of(cells("boost-sweep", models=CONFIG.originals)),
    output:
        pdf="results/{study}/figures/fig3.pdf",
        png=report(
            "results/{study}/figures/fig3.png",
            caption="../resources/captions/fig3.rst",
            category="Figures",
            labels={"figure": TITLES["fig3"]},
        ),
        csv="results/{study}/figures/fig3.csv",
    log:
        "logs/{study}/plot_fig3.log",
    benchmark:
        "benchmarks/jobs/{study}/plot_fig3.tsv"
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=1000,
    params:
        settings=settings("title", "statistics"),
        models=figure_models(),
    script:
        "../scripts/figures/plot_fig3.py"


rule plot_fig4:
    """Plot what each meta-prompt changes on the same steered trials (Figure 4)."""
    input:
        scores=scores_of(cells("steered", *CONFIG.meta_arms, models=CONFIG.originals)),
    output:
        pdf="results/{study}/figures/fig4.pdf",
        png=report(
            "results/{study}/figures/fig4.png",
            caption="../resources/captions/fig4.rst",
            category="Figures",
            labels={"figure": TITLES["fig4"]},
        ),
        csv="results/{study}/figures/fig4.csv",
    log:
        "logs/{study}/plot_fig4.log",
    benchmark:
        "benchmarks/jobs/{study}/plot_fig4.tsv"
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=1000,
    params:
        settings=settings(
            "title",
            "statistics",
            *[f"arms.{arm}.meta_prompt" for arm in CONFIG.meta_arms],
        ),
        models=figure_models(),
    script:
        "../scripts/figures/plot_fig4.py"


rule plot_figA7:
    """Plot attempts and improvement with and without steering (Figure A7)."""
    input:
        scores=scores_of(cells("steered", "unsteered", models=CONFIG.originals)),
    output:
        pdf="results/{study}/figures/figA7.pdf",
        png=report(
            "results/{study}/figures/figA7.png",
            caption="../resources/captions/figA7.rst",
            category="Figures",
            labels={"figure": TITLES["figA7"]},
        ),
        csv="results/{study}/figures/figA7.csv",
    log:
        "logs/{study}/plot_figA7.log",
    benchmark:
        "benchmarks/jobs/{study}/plot_figA7.tsv"
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=1000,
    params:
        settings=settings("title", "statistics"),
        models=figure_models(),
    script:
        "../scripts/figures/plot_figA7.py"


rule plot_figA8:
    """Plot the scores of first attempts with and without steering (Figure A8)."""
    input:
        scores=scores_of(cells("steered", "unsteered", models=CONFIG.originals)),
    output:
        pdf="results/{study}/figures/figA8.pdf",
        png=report(
            "results/{study}/figures/figA8.png",
            caption="../resources/captions/figA8.rst",
            category="Figures",
            labels={"figure": TITLES["figA8"]},
        ),
        csv="results/{study}/figures/figA8.csv",
    log:
        "logs/{study}/plot_figA8.log",
    benchmark:
        "benchmarks/jobs/{study}/plot_figA8.tsv"
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=1000,
    params:
        settings=settings("title", "statistics"),
        models=figure_models(),
    script:
        "../scripts/figures/plot_figA8.py"

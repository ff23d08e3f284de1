# Figures: from scores to PDF, PNG and the CSV that is plotted.


rule plot_fig2:
    """Plot ESR across models: score change, multi-attempt rate, ESR rate, MSI (Figure 2)."""
    input:
        scores=primary_scores("steered"),
    output:
        pdf="results/{study}/figures/fig2.pdf",
        png=report(
            "results/{study}/figures/fig2.png",
            caption="../resources/captions/fig2.rst",
            category="Figures",
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
        "../scripts/plot_fig2.py"

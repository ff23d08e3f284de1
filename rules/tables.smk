# Tables and numbers: from the scores of all arms to what a text cites.

STEERED = cells(*[arm for arm in CONFIG.arms if arm.startswith("steered")])


rule tabulate_summary:
    """Tabulate every measure of every model and arm."""
    input:
        scores=scores_of(cells()),
    output:
        csv="results/{study}/tables/summary.csv",
        tex="results/{study}/tables/summary.tex",
    log:
        "logs/{study}/tabulate_summary.log",
    benchmark:
        "benchmarks/jobs/{study}/tabulate_summary.tsv"
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=2000,
    params:
        settings=settings("statistics"),
        cells=cells(),
    script:
        "../scripts/analysis/tabulate_summary.py"


rule tabulate_comparisons:
    """Compare every replayed arm with the arm that it replays, trial by trial."""
    input:
        scores=scores_of(cells()),
    output:
        csv="results/{study}/tables/comparisons.csv",
        tex="results/{study}/tables/comparisons.tex",
    log:
        "logs/{study}/tabulate_comparisons.log",
    benchmark:
        "benchmarks/jobs/{study}/tabulate_comparisons.tsv"
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=2000,
    params:
        settings=settings("statistics"),
        cells=cells(),
    script:
        "../scripts/analysis/tabulate_comparisons.py"


rule tabulate_models:
    """Compare models with each other, and tabulate slopes over size and over boost."""
    input:
        scores=scores_of(
            cells("steered", "boost-sweep", *CONFIG.meta_arms, models=CONFIG.originals)
        ),
    output:
        csv="results/{study}/tables/models.csv",
        tex="results/{study}/tables/models.tex",
    log:
        "logs/{study}/tabulate_models.log",
    benchmark:
        "benchmarks/jobs/{study}/tabulate_models.tsv"
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=2000,
    params:
        settings=settings("statistics"),
        models=figure_models(),
    script:
        "../scripts/analysis/tabulate_models.py"


rule tabulate_exclusions:
    """Count trials by status, so that whatever was dropped is seen."""
    input:
        scores=scores_of(cells()),
    output:
        csv="results/{study}/tables/exclusions.csv",
        tex="results/{study}/tables/exclusions.tex",
    log:
        "logs/{study}/tabulate_exclusions.log",
    benchmark:
        "benchmarks/jobs/{study}/tabulate_exclusions.tsv"
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=2000,
    params:
        settings=settings("statistics"),
        cells=cells(),
    script:
        "../scripts/analysis/tabulate_exclusions.py"


rule tabulate_ledger:
    """Tabulate what judges and raters cost, from the replies themselves."""
    input:
        scores=scores_of(cells()),
        agreement="results/{study}/agreement/agreement.parquet",
        prices=CONFIG.judging.prices,
    output:
        csv=report(
            "results/{study}/tables/ledger.csv",
            caption="../resources/captions/ledger.rst",
            category="Tables",
        ),
        tex="results/{study}/tables/ledger.tex",
    log:
        "logs/{study}/tabulate_ledger.log",
    benchmark:
        "benchmarks/jobs/{study}/tabulate_ledger.tsv"
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=2000,
    params:
        settings=settings("judging"),
    script:
        "../scripts/analysis/tabulate_ledger.py"


rule tabulate_robustness:
    """Repeat the main result under other choices."""
    input:
        scores=scores_of(STEERED),
    output:
        csv="results/{study}/tables/robustness.csv",
        tex="results/{study}/tables/robustness.tex",
    log:
        "logs/{study}/tabulate_robustness.log",
    benchmark:
        "benchmarks/jobs/{study}/tabulate_robustness.tsv"
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=2000,
    params:
        settings=settings("statistics"),
        cells=STEERED,
    script:
        "../scripts/analysis/tabulate_robustness.py"


rule collect_numbers:
    """Name every number that a text can cite, as JSON and as LaTeX macros."""
    input:
        summary="results/{study}/tables/summary.csv",
        comparisons="results/{study}/tables/comparisons.csv",
        fig3="results/{study}/figures/fig3.csv",
        fig5="results/{study}/figures/fig5.csv",
        fig6="results/{study}/figures/fig6.csv",
        contrasts="results/{study}/tables/activation_contrasts.csv",
        lead="results/{study}/tables/activation_lead.csv",
        agreement="results/{study}/agreement/agreement.parquet",
    output:
        json="results/{study}/numbers.json",
        tex="results/{study}/numbers.tex",
    log:
        "logs/{study}/collect_numbers.log",
    benchmark:
        "benchmarks/jobs/{study}/collect_numbers.tsv"
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=1000,
    script:
        "../scripts/analysis/collect_numbers.py"

# What a reader opens: the scorecard, pictures of the graph, and the report with its transcripts.

GRAPHS = ["all", *FIGURES]
STAGES = [
    "organisms",
    "assets",
    "downloads",
    "latents",
    "thresholds",
    "arms",
    "detectors",
    "episodes",
    "finetuning",
    "agreement",
    "tables",
    "figures",
    "report",
    "bundle",
]
LEDGER = ["results/{study}/tables/ledger.csv"]


rule score_claims:
    """Judge every claim by what was measured: confirmed, refuted, undecided, or not run."""
    input:
        claims=[path.as_posix() for path in CONFIG.claims],
        tables=[f"results/{{study}}/tables/{name}.csv" for name in TABLES],
        figures=[f"results/{{study}}/figures/{name}.csv" for name in FIGURES],
    output:
        report(
            "results/{study}/scorecard.csv",
            caption="../resources/captions/scorecard.rst",
            category="Scorecard",
            labels={"table": "Scorecard"},
        ),
    log:
        "logs/{study}/score_claims.log",
    benchmark:
        "benchmarks/jobs/{study}/score_claims.tsv"
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=1000,
    params:
        settings=settings("statistics.level"),
    script:
        "../scripts/analysis/score_claims.py"


rule draw_graph:
    """Draw the rules behind everything and behind each figure, and tabulate what these take."""
    input:
        snakefile="Snakefile",
        rules=expand("rules/{name}.smk", name=STAGES),
    output:
        svg=expand("results/{{study}}/graph/{name}.svg", name=GRAPHS),
        png=expand("results/{{study}}/graph/{name}.png", name=GRAPHS),
        csv="results/{study}/graph/dependencies.csv",
    log:
        "logs/{study}/draw_graph.log",
    benchmark:
        "benchmarks/jobs/{study}/draw_graph.tsv"
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=1000,
    params:
        settings=settings("arms", "models"),
        makers={name: f"plot_{name}" for name in FIGURES},
    script:
        "../scripts/report/draw_graph.py"


rule build_report:
    """Build the report: a static site with scorecard, figures, tables, transcripts, provenance."""
    input:
        scorecard="results/{study}/scorecard.csv",
        figures=[f"results/{{study}}/figures/{name}.csv" for name in FIGURES],
        pictures=expand(
            "results/{{study}}/figures/{name}.{kind}",
            name=FIGURES,
            kind=["png", "pdf"],
        ),
        captions=expand("resources/captions/{name}.rst", name=FIGURES),
        tables=[f"results/{{study}}/tables/{name}.csv" for name in TABLES],
        ledger=LEDGER,
        graphs=expand(
            "results/{{study}}/graph/{name}.{kind}", name=GRAPHS, kind=["svg", "png"]
        ),
        dependencies="results/{study}/graph/dependencies.csv",
        plans=[f"results/{{study}}/{m}/arms/{a}/plan.parquet" for m, a in cells()],
        responses=[
            f"results/{{study}}/{m}/arms/{a}/responses.parquet" for m, a in cells()
        ],
        judgments=[
            f"results/{{study}}/{m}/arms/{a}/judgments/{CONFIG.judging.primary}.parquet"
            for m, a in cells()
        ],
        scores=scores_of(cells()),
        episodes=episode_tables("episodes"),
        activations=episode_tables("episode_activations"),
        masks=[
            f"results/{{study}}/{name}/finetuning/masks.json"
            for name in CONFIG.finetuned
        ],
        phrases=PHRASES,
        deviations="docs/deviations.md",
        templates=expand("resources/report/{name}", name=TEMPLATES),
    output:
        directory("results/{study}/report"),
    log:
        "logs/{study}/build_report.log",
    benchmark:
        "benchmarks/jobs/{study}/build_report.tsv"
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=2000,
    params:
        settings=settings(*Config.model_fields),
        cells=cells(),
        figures={name: TITLES[name] for name in FIGURES},
        records=job_records(),
    script:
        "../scripts/report/build_report.py"

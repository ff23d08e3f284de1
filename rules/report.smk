# The report with scorecard and transcripts, and pictures of the graph.

GRAPHS = ["all", *DRAWN]
TEMPLATES = """
    base.html macros.html index.html figures.html tables.html transcripts.html
    graph.html provenance.html style.css tables.js graph.js transcripts.js
""".split()
LEDGER = ["<results>/tables/ledger.csv"]


def job_records():
    """Benchmark files of all jobs, by rule; a missing file is not counted."""
    values = {
        "model": CONFIG.models,
        "arm": CONFIG.arms,
        "judge": CONFIG.judging.judges,
        "round": {round_name(arm) for arm in CONFIG.arms},
        "directions": CONFIG.directions,
        "along": [along(name) for name in (None, *CONFIG.directions)],
        "shard": range(max(CONFIG.shards(arm) for arm in CONFIG.arms)),
        "target": {arm.target for arm in CONFIG.arms.values() if arm.target},
    }
    # Snakemake writes the constraints of a wildcard into the pattern: {shard,\d+}.
    patterns = {
        each.name: re.sub(r"{(\w+),[^{}]*}", r"{\1}", each.benchmark or "")
        for each in workflow.rules
    }
    return {
        name: sorted(expand(pattern, **values))
        for name, pattern in patterns.items()
        if pattern.startswith(f"{BENCHMARKS}/{CONFIG.study}/")
    }


rule draw_graph:
    """Draw the rules behind the study and behind each figure, and tabulate what each figure needs."""
    input:
        snakefile="Snakefile",
        rules=expand("rules/{name}.smk", name=STAGES),
    output:
        svg=expand("<results>/graph/{name}.svg", name=GRAPHS),
        png=expand("<results>/graph/{name}.png", name=GRAPHS),
        csv="<results>/graph/dependencies.csv",
    params:
        settings=settings("arms", "models"),
        makers={name: f"plot_{name}" for name in DRAWN},
        # A function, since rules of later stages are not parsed yet.
        stages=lambda wildcards: {
            rule.name: Path(rule.snakefile).stem for rule in workflow.rules
        },
    log:
        "<logs>/draw_graph.log",
    benchmark:
        "<benchmarks>/draw_graph.tsv"
    resources:
        mem_mb=1000,
    script:
        "../scripts/report/draw_graph.py"


rule build_report:
    """Build the report: a static site with scorecard, figures, tables, transcripts, provenance."""
    input:
        scorecard="<results>/scorecard.csv",
        claims=[path.as_posix() for path in CONFIG.claims],
        figures=[f"<results>/figures/{name}.csv" for name in DRAWN],
        pictures=expand(
            "<results>/figures/{name}.{kind}",
            name=DRAWN,
            kind=["png", "pdf"],
        ),
        captions=expand("resources/captions/{name}.rst", name=DRAWN),
        tables=[*[f"<results>/tables/{name}.csv" for name in TABLES], POWER],
        ledger=LEDGER,
        drift=DRIFT,
        failures=FAILURES,
        fits=[f"<results>/{name}/sae_fit.parquet" for name in CONFIG.engine_models],
        graphs=expand("<results>/graph/{name}.{kind}", name=GRAPHS, kind=["svg", "png"]),
        dependencies="<results>/graph/dependencies.csv",
        plans=[f"<results>/{m}/arms/{a}/plan.parquet" for m, a in cells()],
        responses=[f"<results>/{m}/arms/{a}/responses.parquet" for m, a in cells()],
        judgments=[
            f"<results>/{m}/arms/{a}/judgments/{CONFIG.judging.primary}.parquet"
            for m, a in cells()
        ],
        scores=scores_of(cells()),
        episodes=episode_tables("episodes"),
        activations=episode_tables("episode_activations"),
        masks=[f"<results>/{name}/finetuning/masks.json" for name in CONFIG.finetuned],
        phrases=PHRASES,
        deviations="docs/deviations.md",
        templates=expand("resources/report/{name}", name=TEMPLATES),
    output:
        directory("<results>/report"),
    params:
        settings=settings(*Config.model_fields),
        figures={name: spec.title for name, spec in DRAWN.items()},
        records=job_records(),
    log:
        "<logs>/build_report.log",
    benchmark:
        "<benchmarks>/build_report.tsv"
    resources:
        mem_mb=2000,
    script:
        "../scripts/report/build_report.py"

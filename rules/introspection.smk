# Self-report of an injected direction, read as log-probabilities; no judge, nothing is generated.

# Models that report on themselves; none without a section `introspection`.
INTROSPECTED = [] if CONFIG.introspection is None else CONFIG.engine_models
DRAWN = FIGURES if CONFIG.introspection is None else ALL_FIGURES


def doses_of(wildcards):
    """Thresholds that doses are multiples of; none where doses are in decoder units."""
    if CONFIG.introspection.unit == "decoder":
        return {}
    return {"thresholds": f"<results>/{wildcards.model}/thresholds.parquet"}


def random_vectors(wildcards):
    """Vectors of the random directions that stand in for the latents."""
    return [
        f"<results>/{wildcards.model}/{along(name)}vectors.safetensors"
        for name in CONFIG.introspection.controls
    ]


def behaviour_thresholds():
    """Thresholds of behaviour by model, if they stand beside those of self-report."""
    if CONFIG.introspection is None or not CONFIG.introspection.behaviour:
        return {}
    return {name: f"{RESULTS}/{name}/thresholds.parquet" for name in INTROSPECTED}


rule plan_introspection:
    """List every question with every direction, dose and window, and without an injection."""
    input:
        unpack(doses_of),
        latents="<results>/{model}/latents/latents.parquet",
        questions=lambda wildcards: CONFIG.introspection.questions.as_posix(),
    output:
        "<results>/{model}/introspection/plan.parquet",
    params:
        settings=settings("introspection"),
    log:
        "<logs>/{model}/plan_introspection.log",
    benchmark:
        "<benchmarks>/{model}/plan_introspection.tsv"
    resources:
        mem_mb=1000,
    wildcard_constraints:
        model=one_of(INTROSPECTED),
    script:
        "../scripts/introspection/plan_introspection.py"


rule read_self_reports:
    """Read log-probabilities of yes and no, and of letters; the journal keeps every batch."""
    input:
        plan="<results>/{model}/introspection/plan.parquet",
        model="<results>/{model}/assets/model.json",
        sae="<results>/{model}/assets/sae.safetensors",
        directions=random_vectors,
        environment=engine_environment,
    output:
        "<results>/{model}/introspection/readouts.parquet",
    params:
        journal=f"{RESULTS}/{{model}}/journals/introspection.jsonl",
        settings=settings(
            "introspection",
            "generation.doubled_header",
            "engine.name",
            "engine.batch_size",
            "models.{model}.dtype",
            "models.{model}.template",
            "models.{model}.quantization",
            "models.{model}.steer_layer",
        ),
    log:
        "<logs>/{model}/read_self_reports.log",
    benchmark:
        "<benchmarks>/{model}/read_self_reports.tsv"
    threads: CONFIG.engine.threads
    resources:
        **engine_job("read_self_reports"),
    wildcard_constraints:
        model=one_of(INTROSPECTED),
    script:
        "../scripts/introspection/read_self_reports.py"


rule measure_self_reports:
    """Subtract unsteered, off-target and random log-odds; score the letters of forced choices."""
    input:
        plan="<results>/{model}/introspection/plan.parquet",
        readouts="<results>/{model}/introspection/readouts.parquet",
    output:
        self_reports="<results>/{model}/introspection/self_reports.parquet",
        choices="<results>/{model}/introspection/choices.parquet",
    log:
        "<logs>/{model}/measure_self_reports.log",
    benchmark:
        "<benchmarks>/{model}/measure_self_reports.tsv"
    resources:
        mem_mb=1000,
    wildcard_constraints:
        model=one_of(INTROSPECTED),
    script:
        "../scripts/introspection/measure_self_reports.py"


rule tabulate_introspection:
    """Tabulate excess log-odds, forced choices, and thresholds of self-report beside behaviour."""
    input:
        self_reports=expand(
            "<results>/{model}/introspection/self_reports.parquet", model=INTROSPECTED
        ),
        choices=expand(
            "<results>/{model}/introspection/choices.parquet", model=INTROSPECTED
        ),
        thresholds=list(behaviour_thresholds().values()),
    output:
        introspection_csv="<results>/tables/introspection.csv",
        introspection_tex="<results>/tables/introspection.tex",
        thresholds_csv="<results>/tables/self_report_thresholds.csv",
        thresholds_tex="<results>/tables/self_report_thresholds.tex",
    params:
        settings=settings("introspection", "statistics"),
        models=figure_models(),
        thresholds=behaviour_thresholds(),
    log:
        "<logs>/tabulate_introspection.log",
    benchmark:
        "<benchmarks>/tabulate_introspection.tsv"
    resources:
        mem_mb=1000,
    script:
        "../scripts/introspection/tabulate_introspection.py"

# Self-report of an injected direction, read as log-probabilities; no judge, nothing is generated.

# Models that report on themselves; none without a section `introspection`.
INTROSPECTED = [] if CONFIG.introspection is None else CONFIG.engine_models
DRAWN = FIGURES if CONFIG.introspection is None else ALL_FIGURES


def injected_set():
    """Set of directions that is injected in place of latents; None = latents."""
    return None if CONFIG.introspection is None else CONFIG.introspection.directions


def injected_table(wildcards):
    """Table of what is injected: latents, or the vectors of a set."""
    name = injected_set()
    table = (
        "latents/latents.parquet"
        if name is None
        else f"{along(name)}directions.parquet"
    )
    return f"<results>/{wildcards.model}/{table}"


def doses_of(wildcards):
    """Thresholds that doses are multiples of; none where doses are in decoder units."""
    if CONFIG.introspection.unit == "decoder":
        return {}
    folder = f"<results>/{wildcards.model}/{along(injected_set())}"
    return {"thresholds": f"{folder}thresholds.parquet"}


def injected_vectors(wildcards):
    """Vectors of the set that is injected, if any, and of the random directions in its place."""
    here = f"<results>/{wildcards.model}"
    controls = CONFIG.introspection.controls
    if injected_set() is None:
        return [f"{here}/{along(name)}vectors.safetensors" for name in controls]
    matched = [f"{here}/introspection/{name}.safetensors" for name in controls]
    return [f"{here}/{along(injected_set())}vectors.safetensors", *matched]


def behaviour_thresholds():
    """Thresholds of behaviour by model, if they stand beside those of self-report."""
    if CONFIG.introspection is None or not CONFIG.introspection.behaviour:
        return {}
    return {
        name: f"{RESULTS}/{name}/{along(injected_set())}thresholds.parquet"
        for name in INTROSPECTED
    }


rule match_directions:
    """Draw random directions as long as the injected vectors of a set, to stand in for them."""
    input:
        lambda wildcards: f"<results>/{wildcards.model}/{along(injected_set())}vectors.safetensors",
    output:
        "<results>/{model}/introspection/{directions}.safetensors",
    params:
        settings=settings("directions.{directions}"),
    log:
        "<logs>/{model}/match_directions_{directions}.log",
    benchmark:
        "<benchmarks>/{model}/match_directions_{directions}.tsv"
    resources:
        mem_mb=2000,
    wildcard_constraints:
        model=one_of(INTROSPECTED if injected_set() else []),
        directions=sets_of("random"),
    script:
        "../scripts/introspection/match_directions.py"


rule plan_introspection:
    """List every question with every direction, dose and window, and without an injection."""
    input:
        unpack(doses_of),
        latents=injected_table,
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
        directions=injected_vectors,
        environment=engine_environment,
    output:
        "<results>/{model}/introspection/readouts.parquet",
    params:
        journal=f"{RESULTS}/{{model}}/journals/introspection.jsonl",
        settings=computed_as(
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

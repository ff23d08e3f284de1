# Endogenous Steering Resistance, from model and SAE to figures. See README.md.
#
# config.yaml holds the protocol and names the study; studies/<study>.yaml holds its models and
# overrides; `--config` on the command line wins over both.
configfile: "config.yaml"


include: "rules/common.smk"


refuse_interpreter(sys.executable)
os.environ.setdefault(
    "PYTHONUTF8", "1"
)  # jobs read and write UTF-8, whatever the locale
# Else `uv sync --project envs/serve` would install vLLM into this environment.
os.environ.pop("UV_PROJECT_ENVIRONMENT", None)


configfile: study_file(config["study"])


CONFIG, LEFT_OUT = load_config(config)
PHRASES = CONFIG.judging.restart_phrases.as_posix()
RESULTS = results_of(CONFIG.study).as_posix()


# One study exists a run: <results>, <logs> and <benchmarks> in the rules are its folders.
pathvars:
    results=RESULTS,
    logs=f"{LOGS}/{CONFIG.study}",
    benchmarks=f"{BENCHMARKS}/{CONFIG.study}",


wildcard_constraints:
    model=one_of(CONFIG.models),
    arm=one_of(CONFIG.arms),
    judge=one_of(CONFIG.judging.judges),
    directions=one_of(CONFIG.directions),
    along=r"(directions/[^/]+/)?",
    shard=r"\d+",
    target=r"\d+",
    organism=r"[a-z]+",
    export=r"[^/]+",
    sae=r"[^/]+",
    list=one_of(ORIGINAL_PROMPTS),
    environment=one_of(ENVIRONMENTS),


refuse_other_studies(sys.argv[1:])


# Engines at a time: in an allocation, not in the run.
resource_scopes:
    engine="local",


# Before the first job: GPU memory, environments, partitions and judges of what is going to run.
onstart:
    # Imported here, since every job of a run parses this file.
    from esr.evaluations import evaluate_once_a_second
    from esr.forks import install
    from esr.kept import keep_finished
    from esr.planning.jobs import (
        called_kinds,
        check_called_judges,
        check_run,
        loaded_models,
    )

    for name, why in LEFT_OUT.items():
        logger.info(f"judge {name} is left out: {why}")
    jobs = list(workflow.dag.needrun_jobs())
    try:
        executor = workflow.executor_plugin.name
        submitted = {}
        for job in jobs:
            submitted.setdefault(workflow.dag.get_job_group(job) or job, []).append(
                job
            )
        problems = list(check_run(CONFIG, jobs, executor, submitted.values()))
        for line in check_called_judges(CONFIG, jobs):
            logger.info(line)
    except EsrError as error:
        raise WorkflowError(str(error)) from None
    if problems:
        raise WorkflowError("\n".join(problems))
    evaluate_once_a_second()
    if executor == "slurm":
        keep_finished()
    if executor == "local":
        kinds = called_kinds(CONFIG, jobs)
        install(len(jobs), engine=bool(loaded_models(jobs)), judges=kinds)


include: "rules/allocations.smk"


for stage in STAGES:

    include: f"rules/{stage}.smk"


rule all:
    """The whole study: scores of every arm, every figure, table and number, and the report."""
    default_target: True
    input:
        scores_of(cells()),
        readouts_of_arms(),
        [figure(name) for name in DRAWN],
        rules.tableA1.input,
        rules.controls.input,
        rules.tables.input,
        rules.activation_tables.input,
        rules.exclusions.input,
        rules.thresholds.input,
        rules.recovery.input,
        rules.robustness.input,
        rules.corrected.input,
        rules.ledger.input,
        rules.numbers.input,
        [] if CONFIG.introspection is None else rules.introspection.input,
        rules.scorecard.input,
        rules.dag.input,
        rules.report.input,

# Endogenous Steering Resistance, from model and SAE to figures. See README.md.
#
# config.yaml holds the protocol and names the study; studies/<study>.yaml holds its models and
# overrides; `--config` on the command line wins over both.
configfile: "config.yaml"


include: "rules/common.smk"


configfile: study_file(config["study"])


CONFIG = load_config(config)
PHRASES = CONFIG.judging.restart_phrases.as_posix()


wildcard_constraints:
    study=STUDY_PATTERN,
    model=one_of(CONFIG.models),
    arm=one_of(CONFIG.arms),
    judge=one_of(CONFIG.judging.judges),
    shard=r"\d+",
    target=r"\d+",
    organism=r"[a-z]+",
    export=r"[^/]+",
    sae=r"[^/]+",
    list=one_of(ORIGINAL_PROMPTS),
    environment=one_of(ENVIRONMENTS),


# Before the first job of a run: do the models fit that it is going to load, are the partitions there
# that its jobs are going to, and can the judges be asked that they are sure to ask?
onstart:
    from esr.planning.check import check_judges  # not where every job of a run would wait for it
    from esr.planning.resources import check_gpu_memory, check_partitions
    from esr.assets.environments import check_environments

    jobs = list(workflow.dag.needrun_jobs())
    try:
        problems = list(check_gpu_memory(CONFIG, models_loaded(jobs)))
        problems += check_environments(environments_used(jobs))
        if workflow.executor_plugin.name == "slurm":
            problems += check_partitions(partitions_asked(jobs), "slurm_partition")
        for line in check_judges(CONFIG, judges_asked(jobs)):
            logger.info(line)
    except EsrError as error:
        raise WorkflowError(str(error)) from None
    if problems:
        raise WorkflowError("\n".join(problems))


include: "rules/environments.smk"
include: "rules/organisms.smk"
include: "rules/downloads.smk"
include: "rules/assets.smk"
include: "rules/latents.smk"
include: "rules/thresholds.smk"
include: "rules/arms.smk"
include: "rules/detectors.smk"
include: "rules/episodes.smk"
include: "rules/finetuning.smk"
include: "rules/agreement.smk"
include: "rules/tables.smk"
include: "rules/figures.smk"
include: "rules/report.smk"
include: "rules/bundle.smk"


rule fig2:
    """Figure 2: score change, multi-attempt rate, ESR rate and MSI of every model."""
    input:
        figure("fig2"),


rule fig3:
    """Figure 3: multi-attempt, success rate, MSI and ESR rate against the boost, and their peaks."""
    input:
        figure("fig3"),


rule fig4:
    """Figure 4: what each meta-prompt changes on the steered trials."""
    input:
        figure("fig4"),


rule fig5:
    """Figure 5: off-topic detectors, and ESR with and without them."""
    input:
        figure("fig5"),


rule fig6:
    """Figure 6: attempts and improvement against the share of self-corrections trained on."""
    input:
        figure("fig6"),


rule training:
    """Losses while adapters were trained."""
    input:
        figure("training"),


rule fig7:
    """Figure 7: detectors and backtracking latents over the tokens of one self-correction."""
    input:
        figure("fig7"),


rule figA2:
    """Figure A2: do judges find several attempts in the same responses?"""
    input:
        figure("figA2"),


rule figA3:
    """Figure A3: how each judge ranks the models."""
    input:
        figure("figA3"),


rule figA4:
    """Figure A4: attempts and first scores, judge against judge."""
    input:
        figure("figA4"),


rule figA5:
    """Figure A5: activations around the start of the correction, beside responses without one."""
    input:
        figure("figA5"),


rule figA6:
    """Figure A6: activations by stretch of the response, and their contrasts."""
    input:
        figure("figA6"),


rule figA7:
    """Figure A7: attempts and improvement with and without steering."""
    input:
        figure("figA7"),


rule figA8:
    """Figure A8: scores of first attempts with and without steering."""
    input:
        figure("figA8"),


rule figA9:
    """Figure A9: ablation of random latents, as active as the detectors, as a control."""
    input:
        figure("figA9"),


rule tableA1:
    """Table A1: statistics of the off-topic detectors."""
    input:
        table("tableA1"),


rule tables:
    """Every measure of every arm, replayed arms against the one they replay, models compared."""
    input:
        table("summary"),
        table("comparisons"),
        table("models"),


rule tables_activation:
    """Activations in episodes: stretches, contrasts, single latents, lead time."""
    input:
        table("activation_regions"),
        table("activation_contrasts"),
        table("activation_latents"),
        table("activation_lead"),


rule exclusions:
    """Trials by status, for every model and arm."""
    input:
        table("exclusions"),


rule robustness:
    """The main result under other choices: degraded out, other target, other clustering."""
    input:
        table("robustness"),


rule costs:
    """What judges and raters cost: the ledger."""
    input:
        table("ledger"),


rule label_sheet:
    """A blinded sheet of responses for people to judge."""
    input:
        f"results/{CONFIG.study}/agreement/label_sheet.csv",


rule numbers:
    """Every number that a text can cite, as JSON and LaTeX macros."""
    input:
        f"results/{CONFIG.study}/numbers.json",
        f"results/{CONFIG.study}/numbers.tex",


rule scorecard:
    """Every claim, as measured, with a verdict."""
    input:
        f"results/{CONFIG.study}/scorecard.csv",


rule dag:
    """Pictures of the graph: the whole study, and what each figure takes."""
    input:
        expand("results/{study}/graph/{name}.svg", study=CONFIG.study, name=GRAPHS),
        f"results/{CONFIG.study}/graph/dependencies.csv",


rule report:
    """The report, a static site: open results/<study>/report/index.html."""
    input:
        f"results/{CONFIG.study}/report",


rule all:
    """The whole study: scores of every arm, every figure, table and number, and the report."""
    default_target: True
    input:
        scores_of(cells()),
        [figure(name) for name in FIGURES],
        rules.tableA1.input,
        rules.tables.input,
        rules.tables_activation.input,
        rules.exclusions.input,
        rules.robustness.input,
        rules.costs.input,
        rules.numbers.input,
        rules.scorecard.input,
        rules.dag.input,
        rules.report.input,


rule rebuild_organisms:
    """Train and measure the planted organisms anew, in results/organisms/ (the shipped ones stay)."""
    input:
        expand("results/organisms/{organism}/measured.csv", organism=ORGANISMS),


rule bundle:
    """What was paid for, in one file: any checkout that imports it rebuilds the figures."""
    input:
        f"results/{CONFIG.study}/bundle.tar.gz",


rule downloads:
    """All that needs a network before the first GPU job: environments, models, SAEs, labels, prompts."""
    input:
        downloads(),


# What talks to the terminal, and asks the hub and the judges: never as a job of a cluster.
localrules:
    check,
    estimate,
    rejudge,
    write_bundle,


rule check:
    """Validate configuration and assets as far as that goes without a GPU; runs every time."""
    log:
        f"logs/{CONFIG.study}/check.log",
    conda:
        "envs/main.yaml"
    script:
        "scripts/planning/check.py"


rule estimate:
    """Print GPU hours, disk, and calls and dollars of every rule; starts and sends nothing."""
    log:
        f"logs/{CONFIG.study}/estimate.log",
    conda:
        "envs/main.yaml"
    script:
        "scripts/planning/estimate.py"


rule rejudge:
    """Ask again for the replies that are missing, and for no other."""
    log:
        f"logs/{CONFIG.study}/rejudge.log",
    conda:
        "envs/main.yaml"
    params:
        cells=cells(),
    script:
        "scripts/judges/rejudge.py"

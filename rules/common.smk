# Shared by rules of several stages: the validated configuration and names derived from it.
import os
import re
import sys
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError

from esr.assets.checkpoints import ADAPTER_FILES, checkpoint_files
from esr.assets.downloads import ORIGINAL_PROMPTS
from esr.config import Config, NAME, load, matched_arms, plain_settings, random_sets
from esr.config.files import check_study_file, read_study_file
from esr.errors import EsrError
from esr.figures.catalogue import ALL_FIGURES, FIGURES
from esr.judges.absent import absent_judges
from esr.paths import (
    BENCHMARKS,
    DOWNLOADS,
    LOGS,
    check_interpreter,
    along,
    check_targets,
    results_of,
)
from esr.planning.files import check_files
from esr.provenance import content_digest

ORGANISMS = ["planted", "twin"]
ENVIRONMENTS = ["serve", "serve-cpu", "finetune"]
STAGES = """
    organisms assets latents directions thresholds arms judges detectors episodes introspection finetuning agreement analysis
    figures report bundle targets deposit planning
""".split()


def refuse_interpreter(path):
    """Raise if Snakemake could not run scripts with this Python."""
    try:
        check_interpreter(Path(path))
    except EsrError as error:
        raise WorkflowError(str(error)) from None


def study_file(study):
    """The file of a study; an unknown study is an error that lists the known ones."""
    path = Path("studies") / f"{study}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in Path("studies").glob("*.yaml")))
        raise WorkflowError(f"study: there is no {path}; choose one of: {known}")
    try:
        check_study_file(path)
    except EsrError as error:
        raise WorkflowError(str(error)) from None
    return path.as_posix()


def refuse_other_studies(arguments):
    """Raise if a requested file belongs to another study than that of this run."""
    studies = [path.stem for path in Path("studies").glob("*.yaml")]
    try:
        check_targets(arguments, CONFIG.study, studies)
    except EsrError as error:
        raise WorkflowError(str(error)) from None


def load_config(raw):
    """The validated configuration; every problem is named before any job runs."""
    try:
        for path in workflow.configfiles:  # Snakemake lets the last of equal keys win
            read_study_file(Path(path))
        loaded = load(raw)
        left_out = absent_judges(loaded)
        for (
            name
        ) in left_out:  # null disables a judge, here and in every job of this run
            raw["judging"]["judges"][name] = None
        loaded = load(raw) if left_out else loaded
        problems = check_files(loaded)
    except EsrError as error:
        raise WorkflowError(str(error)) from None
    if problems:
        lines = "\n".join(f"  - {problem}" for problem in problems)
        raise WorkflowError(
            f"Files of study {loaded.study!r} are missing or do not fit:\n{lines}"
        )
    return loaded, left_out


def one_of(names):
    """Pattern that matches these names alone; without any, one that matches nothing."""
    return "|".join(re.escape(name) for name in names) or "(?!)"


def settings(*keys):
    """Configuration keys that a rule depends on; a change to one of them reruns it.

    Keys are dotted and may contain wildcards: settings("generation", "models.{model}.dtype").
    """
    return lambda wildcards: plain_settings(
        CONFIG, [key.format(**dict(wildcards)) for key in keys]
    )


def computed_as(*keys):
    """Settings of a rule that computes with an engine; `engine.batch_size` is that of its model."""

    def settings_of(wildcards):
        rows = CONFIG.batch_size(wildcards.model)
        return settings(*keys)(wildcards) | {"engine.batch_size": rows}

    return settings_of


def steered_as(*keys, of=settings):
    """Settings of a rule that steers; whether the prompt is counts only where it is not."""
    bare = {} if CONFIG.steering.prompt else {"steering.prompt": False}
    return lambda wildcards: of(*keys)(wildcards) | bare


def contents(*files):
    """Contents of files without comments; a job with these files as `ancient` reruns if they change.

    Files are paths, lists of paths, or functions of the wildcards that return such a list.
    """

    def of(wildcards):
        paths = []
        for each in files:
            found = each(wildcards) if callable(each) else each
            paths += found if isinstance(found, list) else [found]
        digests = {
            Path(path).as_posix(): digest_if_present(Path(path)) for path in paths
        }
        return {path: digest for path, digest in digests.items() if digest is not None}

    return of


@cache
def digest_if_present(path):
    """Digest of a file's contents, None without the file; one look at the disk for all jobs."""
    return content_digest(path) if path.is_file() else None


def of_base(name):
    """A file of the model, or of the model that it was fine-tuned from."""
    return lambda wildcards: f"<results>/{CONFIG.base_of(wildcards.model)}/{name}"


def vectors_of(wildcards):
    """Vectors that an arm steers along, if these are not decoder rows."""
    found = CONFIG.directions_of(wildcards.arm)
    if found is None:
        return []
    base = CONFIG.base_of(wildcards.model)
    return [f"<results>/{base}/{along(found)}vectors.safetensors"]


def cells(*arms, models=None):
    """Pairs of model and arm in the study, of all arms and models or of those given."""
    return [
        [model, arm]
        for model in (CONFIG.models if models is None else models)
        for arm in CONFIG.arms_of(model)
        if not arms or arm in arms
    ]


def searched(models):
    """Models whose thresholds are searched: those with an arm that steers along decoder rows."""
    return [model for model in models if None in CONFIG.searches(model)]


def scores_of(cells):
    """Scores by the primary judge, one file a cell."""
    judge = CONFIG.judging.primary
    return [
        f"<results>/{model}/arms/{arm}/scores/{judge}.parquet" for model, arm in cells
    ]


def readouts_of_arms():
    """Log-probabilities of named tokens of every arm that has any (`readouts`)."""
    return [
        f"<results>/{model}/arms/{arm}/readouts.parquet"
        for model, arm in cells()
        if arm in CONFIG.readouts
    ]


def figure_models():
    """Label and size of every model that is not fine-tuned; plain data, so a change is a rerun."""
    return {
        name: {"label": model.label, "parameters": model.parameters}
        for name, model in CONFIG.base_models.items()
    }


def engine_job(rule):
    """Resources of a rule's jobs for the model of the wildcards, from `jobs`.

    A retry gets half as much memory again and, where it starts from scratch, as much time again.
    """

    def of_size(value, otherwise):
        def resource(wildcards, attempt):
            size = CONFIG.job_size(wildcards.model)
            return otherwise if size is None else value(size, attempt)

        return resource

    # A threshold search runs its judge beside the engine, if the workflow runs the judge at all.
    judge = CONFIG.judging.local.get(CONFIG.judging.primary)
    beside = rule == "find_thresholds" and judge and CONFIG.size_for(judge.parameters)
    memory, cpus = (beside.memory, beside.cpus) if beside else (0, 0)

    def cores(wildcards, threads):
        size = CONFIG.job_size(wildcards.model)
        return threads if size is None else max(size.cpus, threads) + cpus

    def gpus(wildcards):
        if beside:
            return CONFIG.search_job_gpus(wildcards.model)
        size = CONFIG.job_size(wildcards.model)
        return 0 if size is None else size.gpus

    return {
        "gpu": gpus,
        "mem_mb": of_size(
            lambda size, attempt: round(500 * (size.memory + memory) * (attempt + 1)),
            4000,
        ),
        "runtime": of_size(
            lambda size, attempt: round(60 * size.hours(rule, attempt)), 60
        ),
        "cpus_per_task": cores,
    }


def unsteered_answers():
    """Plan and responses of the arm whose answers stand for a model's own text, if there is one."""
    arm = CONFIG.fit_arm
    if arm is None:
        return []
    return [
        f"<results>/{{model}}/arms/{arm}/{table}.parquet"
        for table in ("plan", "responses")
    ]


def engine_environment(wildcards):
    """The environment that the engine of a model runs in, if it is not the main one."""
    name = CONFIG.environment(wildcards.model)
    return [] if name is None else f"results/environments/{name}.txt"


def judge_files(wildcards):
    """Files that a judge uses: the judge of the wildcard, or the primary one."""
    name = getattr(wildcards, "judge", CONFIG.judging.primary)
    return [path.as_posix() for path in CONFIG.judging.judges[name].files.values()]


def run_here(*names):
    """Environment and weights of judges that the workflow itself runs, among these or the job's."""

    def files(wildcards):
        found = names or [getattr(wildcards, "judge", CONFIG.judging.primary)]
        local = {
            name: CONFIG.judging.local[name]
            for name in found
            if name in CONFIG.judging.local
        }
        environments = {CONFIG.judge_environment(judge) for judge in local.values()}
        installed = [
            f"results/environments/{name}.txt" for name in sorted(environments)
        ]
        return [*installed, *(f"<results>/judges/{name}/model.json" for name in local)]

    return files


SLURM_TEXTS = ["slurm_partition", "slurm_account", "clusters", "constraint", "qos"]
SLURM_TEXTS += ["reservation", "gpu_model", "gres", "slurm_extra"]
"""Resources that a Slurm profile gives as text; jobs of one allocation need the same ones."""


def given_by_profile(rule, resource):
    """What a profile gives to a rule of a resource, or by default; None if it gives nothing."""
    settings = workflow.resource_settings
    for given in (settings.overwrite_resources.get(rule), settings.default_resources):
        found = (given or {}).get(resource)
        if found is not None:
            return getattr(found, "raw", found)  # not evaluated outside of a rule
    return None


def partition_of(rule):
    """Partition that a Slurm profile gives to a rule, if it gives any."""
    return given_by_profile(rule, "slurm_partition")


def judge_job(*names, mem_mb=1000, unless=lambda judge: False):
    """Resources of jobs that call judges: GPUs, from `jobs`, where the workflow runs the judge.

    Names are those of the judges, else the job's. `unless` leaves out judges whose replies another
    job has written.
    """

    def size(wildcards):
        found = names or [getattr(wildcards, "judge", CONFIG.judging.primary)]
        local = CONFIG.judging.local
        judges = [
            local[name] for name in found if name in local and not unless(local[name])
        ]
        largest = max(judges, key=lambda judge: judge.parameters, default=None)
        return largest, largest and CONFIG.size_for(largest.parameters)

    def resource(value, otherwise):
        def of_job(wildcards, attempt):
            judge, requested = size(wildcards)
            return otherwise if requested is None else value(judge, requested, attempt)

        return of_job

    if not any(name in CONFIG.judging.local for name in names or CONFIG.judging.judges):
        return {"mem_mb": mem_mb}
    resources = {
        "gpu": resource(lambda judge, requested, attempt: CONFIG.judge_gpus(judge), 0),
        "mem_mb": resource(
            lambda judge, requested, attempt: round(
                500 * requested.memory * (attempt + 1)
            ),
            mem_mb,
        ),
        "runtime": resource(
            lambda judge, requested, attempt: round(60 * requested.judge), 60
        ),
        "cpus_per_task": resource(lambda judge, requested, attempt: requested.cpus, 1),
    }
    on_gpus = partition_of("generate_responses")
    if on_gpus is not None:
        elsewhere = partition_of("score_trials")
        resources["slurm_partition"] = resource(
            lambda judge, requested, attempt: (
                on_gpus if CONFIG.judge_gpus(judge) else elsewhere
            ),
            elsewhere,
        )
    return resources

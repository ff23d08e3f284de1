"""Checks of the jobs in Snakemake's graph, before the first one starts.

Jobs are instances of `snakemake.jobs.Job`, of which the rule, wildcards, input, output, params and
resources are used.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from esr.assets.environments import check_environments
from esr.config import ENGINE_HOURS, Config
from esr.planning.hardware import (
    check_gpu_memory,
    check_gpu_present,
    check_judge_memory,
    check_shared_gpus,
)
from esr.planning.judges import check_judges
from esr.planning.partitions import check_partitions

Jobs = Sequence[Any]
"""Jobs of a Snakemake graph."""


def check_run(
    config: Config, jobs: Iterable[Any], executor: str, submitted: Iterable[Jobs]
) -> Iterator[str]:
    """Problems that would stop a run later: GPU memory, GPUs, environments, partitions.

    Args:
        config: The study.
        jobs: Jobs that this run will start.
        executor: Snakemake's executor: `local` jobs need a GPU on this machine, `slurm` jobs need
            their partitions.
        submitted: The same jobs, in groups that the executor submits together. Those of a group
            run one after the other.
    """
    listed = list(jobs)
    yield from check_gpu_memory(config, loaded_models(listed))
    searched = sorted({job.wildcards.model for job in listed if job.rule.name == "find_thresholds"})
    yield from check_shared_gpus(config, searched)
    yield from check_judge_memory(config, set(called_judges(listed)) & set(config.judging.local))
    if executor == "local":
        yield from check_gpu_present(config, loaded_models(listed))
    yield from check_environments(used_environments(listed))
    if executor == "slurm":
        yield from check_partitions(requested_partitions(submitted), "slurm_partition")


def check_called_judges(config: Config, jobs: Iterable[Any]) -> Iterator[str]:
    """Check every judge that the jobs are certain to call; one line each.

    Raises:
        EsrError: a judge cannot be called.
    """
    return check_judges(config, called_judges(list(jobs)))


def called_judges(jobs: Jobs) -> list[str]:
    """Judges that jobs are certain to call: those whose journal has no reply.

    A job that has some replies may have all of them, and then needs neither key nor model.
    """
    journals = [Path(job.params.replies) for job in jobs if job.params.get("replies")]
    for job in jobs:
        journals += map(Path, (job.params.get("replies_of_arms") or {}).values())
    return sorted({p.stem for p in journals if not (p.is_file() and p.stat().st_size)})


def called_kinds(config: Config, jobs: Jobs) -> list[str]:
    """Kinds of the language models that jobs are certain to call as judges."""
    known = config.judging.llms
    return sorted({known[name].kind for name in called_judges(jobs) if name in known})


def loaded_models(jobs: Jobs) -> list[str]:
    """Models that the jobs will load: those of rules that run an engine."""
    engine = [job for job in jobs if job.rule.name in ENGINE_HOURS]
    return sorted({job.wildcards.model for job in engine})


def used_environments(jobs: Jobs) -> list[str]:
    """Environments that the jobs use and that this run does not install."""
    used = {Path(path) for job in jobs for path in job.input}
    made = {Path(path) for job in jobs for path in job.output}
    listed = [path for path in used - made if path.parent == Path("results/environments")]
    return sorted(path.stem for path in listed)


def requested_partitions(submitted: Iterable[Jobs]) -> dict[str, float]:
    """Partitions that groups of jobs use, and the longest walltime requested there in hours."""
    requested: dict[str, float] = {}
    for jobs in submitted:
        partition = jobs[0].resources.get("slurm_partition")
        if partition and not jobs[0].is_local:
            hours = sum(job.resources.get("runtime", 0) for job in jobs) / 60
            requested[partition] = max(requested.get(partition, 0), hours)
    return requested

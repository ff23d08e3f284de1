"""Partitions of Slurm: whether they exist, and whether they allow the hours of the jobs."""

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from esr.config import ENGINE_HOURS, Config
from esr.plain_yaml import load_yaml
from esr.planning import searches
from esr.planning.allocations import requested_hours
from esr.planning.waves import GROUP

PROFILE = Path("profiles/slurm/config.yaml")


def arms_together(profile: Path = PROFILE) -> int:
    """Most arms of a model that share an allocation by a profile; 1 = each has its own."""
    if not profile.is_file():
        return 1
    return _together(load_yaml(profile.read_text(encoding="utf-8")))


def _together(settings: Mapping[str, Any]) -> int:
    pairs = (str(entry).partition("=") for entry in settings.get("group-components", []))
    return next((int(number) for name, _, number in pairs if name == GROUP), 1)


def partition_problems(config: Config, profile: Path = PROFILE) -> Iterator[str]:
    """A line for every partition of the Slurm profile that does not exist or is too short.

    None without Slurm. The last retries count, since they request most. An allocation of several
    jobs requests the hours of all.
    """
    if not profile.is_file():
        return
    settings = load_yaml(profile.read_text(encoding="utf-8"))
    attempts = 1 + settings.get("retries", 0)
    together = _together(settings)
    requested: dict[str, float] = {}
    for entry in map(str, settings.get("default-resources", [])):
        if entry.startswith("slurm_partition="):
            requested[entry.split("=", 1)[1]] = 0
    for rule, resources in settings.get("set-resources", {}).items():
        hours = resources.get("runtime", 60 * _longest(config, rule, attempts, together)) / 60
        partition = resources.get("slurm_partition")
        if partition:
            requested[partition] = max(requested.get(partition, 0), hours)
    yield from check_partitions(requested, str(profile))


def _longest(config: Config, rule: str, attempt: int, together: int) -> float:
    """Most hours that a job of the cluster requests for a rule; 0 if the rule runs no engine."""
    if rule not in ENGINE_HOURS:
        return 0
    sizes = (config.job_size(model) for model in config.models)
    alone = max((size.hours(rule, attempt) for size in sizes if size is not None), default=0)
    if rule == "find_thresholds":
        return max(alone, searches.requested_hours(config, together, attempt))
    if rule != "generate_responses":
        return alone
    return max(alone, *(requested_hours(config, m, together, attempt) for m in config.models))


def check_partitions(requested: Mapping[str, float], where: str) -> Iterator[str]:
    """A line for every partition that does not exist or whose limit is below the requested hours.

    None without Slurm.

    Args:
        requested: Most hours that a job requests, by partition.
        where: What requests them.
    """
    if shutil.which("sinfo") is None:
        return
    done = subprocess.run(["sinfo", "-h", "-o", "%R %l"], capture_output=True, text=True)
    if done.returncode != 0:
        return
    limits = {name: _hours(limit) for name, limit in map(str.split, done.stdout.splitlines())}
    for name, hours in requested.items():
        if name not in limits:
            there = ", ".join(sorted(limits))
            yield f"{where}: there is no partition {name!r} here; choose among {there}"
        elif hours > limits[name]:
            yield (
                f"{where}: jobs request {hours:g} h of partition {name}, whose limit is "
                f"{limits[name]:g} h, so they would never start; take another partition, or lower "
                "the hours in `jobs` (jobs of `thresholds` and `generate` resume after a limit; "
                "encoding and training start from scratch, and request more with every retry), or "
                f"the arms that share an allocation (`group-components: [{GROUP}=...]`)"
            )


def _hours(limit: str) -> float:
    """Hours of a Slurm time limit: `infinite`, or days-hours:minutes:seconds, from the right."""
    if limit == "infinite":
        return float("inf")
    days, _, rest = limit.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    seconds = sum(part * 60**i for i, part in enumerate(reversed(parts)))
    return 24 * int(days or 0) + seconds / 3600

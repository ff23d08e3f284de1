"""A job ends when the Snakemake that started it is gone.

A Snakemake that is killed leaves the job that it runs behind: that job would go on paying for
replies beside the one that the next run starts. Where there is no `/proc`, nothing is watched.
"""

import logging
import os
import threading
import time
from pathlib import Path
from typing import NamedTuple

log = logging.getLogger(__name__)

PROC = Path("/proc")
EVERY = 2.0
"""Seconds between two looks at the process."""
ALLOCATION = "slurm-jobstep"
"""Executor of a Snakemake that runs jobs within an allocation, as its command line names it."""
ORPHANED = 70
"""Exit code of a job whose Snakemake is gone."""


class Process(NamedTuple):
    """A running process. A later one of the same number has another time of its start.

    Attributes:
        pid: Its number.
        parent: Number of the process that started it.
        started: Time of its start, in clock ticks since the machine started.
    """

    pid: int
    parent: int
    started: int


def find_process(pid: int) -> Process | None:
    """A process by its number; None if there is none, or it has ended and waits to be collected."""
    try:
        text = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The second field, the name in parentheses, may contain anything.
    state, parent, *rest = text.rpartition(")")[2].split()
    return None if state in "ZX" else Process(pid, int(parent), int(rest[17]))


def find_snakemake(pid: int) -> Process | None:
    """The nearest Snakemake among the processes above one; None if there is none."""
    process = find_process(pid)
    while process is not None and process.parent > 1:
        process = find_process(process.parent)
        if process is not None and _is_snakemake(process.pid):
            return process
    return None


def find_run(pid: int) -> Process | None:
    """The Snakemake above a process that outlives its job; None if there is none.

    That is the nearest one, which runs all jobs of a local run. In an allocation of Slurm, every
    job of a group has a Snakemake of its own, below the one that runs the group.
    """
    found = find_snakemake(pid)
    above = found
    while above is not None:
        above = find_snakemake(above.pid)
        if above is not None and ALLOCATION in _command(above.pid):
            found = above
    return found


def end_with_snakemake() -> None:
    """Have this process end soon after the Snakemake that started it, if one did."""
    snakemake = find_snakemake(os.getpid())
    if snakemake is not None:
        threading.Thread(target=_watch, args=[snakemake], daemon=True).start()


def _command(pid: int) -> list[str]:
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return [""]


def _is_snakemake(pid: int) -> bool:
    words = _command(pid)
    # `python -m snakemake`, or the script `snakemake`; not a shell with the word in a command.
    interpreter = Path(words[0]).name.startswith("python")
    names = [word.removesuffix("/__main__.py").rpartition("/")[2] for word in words[1:3]]
    return interpreter and "snakemake" in names


def _watch(process: Process) -> None:
    while find_process(process.pid) == process:
        time.sleep(EVERY)
    log.critical("the Snakemake that started this job is gone, so the job ends")
    logging.shutdown()
    os._exit(ORPHANED)

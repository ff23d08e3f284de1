"""What a fork of the server of `esr.forks` costs, by size of its pages: benchmarks/forks.csv.

    uv run python benchmarks/forks.py

Loads what the server loads for a run with an engine, then forks for jobs that read and write a
small table, in turn with and without `use_huge_pages`. Columns: round, pages (`small`, `huge`),
at_a_time (jobs at a time), jobs, server (CPU seconds of the server, a job), job (CPU seconds of
the job itself), wall (seconds a job). Linux alone.
"""

import atexit
import gc
import importlib
import io
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pandas as pd

from esr import forks, huge_pages

TABLE = Path("benchmarks/forks.csv")
JOBS, ROUNDS = 40, 3


def load_libraries() -> None:
    """Load what the server of a run with an engine does, all but its huge pages."""
    with mock.patch.object(huge_pages, "use_huge_pages"):
        for name in [*forks.LIBRARIES, *forks.ENGINE, forks.READY]:
            importlib.import_module(name)


def job() -> None:
    """Write, read and merge a table of 300 rows, and end as a fork does."""
    gc.enable()
    table = pd.DataFrame({"trial_id": [f"t{i}" for i in range(300)], "text": ["a b c"] * 300})
    table.to_parquet(file := io.BytesIO())
    file.seek(0)
    pd.read_parquet(file).merge(table, on="trial_id").sort_values("trial_id")
    atexit._run_exitfuncs()


def in_fork(work: Callable[[], None]) -> None:
    """Begin work in a fork."""
    if os.fork() == 0:
        work()
        os._exit(0)


def measure(pages: str, at_a_time: int, number: int) -> dict[str, str | float]:
    """Fork for all jobs; one row of the table."""
    begin, ours, theirs = (
        time.perf_counter(),
        cpu(resource.RUSAGE_SELF),
        cpu(resource.RUSAGE_CHILDREN),
    )
    for started in range(JOBS):
        if started >= at_a_time:
            os.wait()
        in_fork(job)
    for _ in range(min(at_a_time, JOBS)):
        os.wait()
    taken = {
        "server": cpu(resource.RUSAGE_SELF) - ours,
        "job": cpu(resource.RUSAGE_CHILDREN) - theirs,
        "wall": time.perf_counter() - begin,
    }
    row: dict[str, str | float] = {
        "round": number,
        "pages": pages,
        "at_a_time": at_a_time,
        "jobs": JOBS,
    }
    return row | {name: round(seconds / JOBS, 4) for name, seconds in taken.items()}


def cpu(who: int) -> float:
    """CPU seconds of this process, or of its children that have ended."""
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def measure_both(number: int) -> None:
    """Append the rows of a round; each kind of pages in a fork, which has its own."""
    for pages in ("small", "huge"):

        def rows(pages: str = pages) -> None:
            if pages == "huge":
                huge_pages.use_huge_pages()
            found = pd.DataFrame([measure(pages, n, number) for n in (1, 2)])
            found.to_csv(TABLE, mode="a", header=not TABLE.exists(), index=False)

        in_fork(rows)
        os.wait()


if __name__ == "__main__":
    TABLE.unlink(missing_ok=True)
    load_libraries()
    for each in range(ROUNDS):
        measure_both(each)

"""Snakemake that reads the status of its Slurm jobs every two seconds.

Its plugin for Slurm waits ten seconds longer each time that no job has ended, up to three minutes,
and has no setting for that. A run of short jobs would spend half its time waiting.

    python tests/helpers/snakemake/on_slurm.py <arguments of Snakemake>
"""

import runpy
import sys
from pathlib import Path
from typing import Any

from snakemake_executor_plugin_slurm import Executor

EVERY = 2.0
"""Seconds between two readings."""

if __name__ == "__main__":
    executor: Any = Executor
    executor.next_seconds_between_status_checks = property(lambda _: EVERY, lambda _, longer: None)
    sys.path[0] = str(Path.cwd())
    runpy.run_module("snakemake", run_name="__main__", alter_sys=True)

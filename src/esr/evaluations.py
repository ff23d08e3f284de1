"""Snakemake's scheduler evaluates the ready jobs when a job ends, and once a second.

Snakemake 9 starts a timer of one second at each evaluation. So each job that ends adds one further
evaluation a second until the run ends, which took 266 CPU seconds in a run of 364 jobs.
`evaluate_once_a_second` replaces the one method that starts timers, in the version that the project
pins.
"""

import threading
from typing import Any


def evaluate_once_a_second() -> None:
    """Make schedulers start no timer while one is running."""
    from snakemake.scheduling.job_scheduler import JobScheduler

    def schedule(self: Any, delay: float) -> None:
        if getattr(self, "_is_scheduled", False):
            return
        self._is_scheduled = True

        def release() -> None:
            self._is_scheduled = False  # first, so that no evaluation is lost
            self._open_jobs.release()

        timer = threading.Timer(delay, release)
        timer.daemon = True  # a run that has ended does not wait for it
        timer.start()

    JobScheduler._schedule_reevalutation = schedule

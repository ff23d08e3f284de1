"""Snakemake looks at the jobs that are ready as a job ends, and once a second.

Snakemake 9 starts a timer of a second each time it looks, so that each job that ends adds one more
look a second, for good: after 300 jobs of seconds, its own process takes as much time as a job.
`evaluate_once_a_second` replaces the one method that starts timers, in the version that the project
pins.
"""

import threading
from typing import Any


def evaluate_once_a_second() -> None:
    """Have a scheduler start no timer while one is running."""
    from snakemake.scheduling.job_scheduler import JobScheduler

    def schedule(self: Any, delay: float) -> None:
        if getattr(self, "_is_scheduled", False):
            return
        self._is_scheduled = True

        def release() -> None:
            self._is_scheduled = False  # first, so that no look is lost
            self._open_jobs.release()

        timer = threading.Timer(delay, release)
        timer.daemon = True  # a run that has ended does not wait for it
        timer.start()

    JobScheduler._schedule_reevalutation = schedule

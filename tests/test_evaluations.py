"""Snakemake's scheduler has one timer at a time."""

import threading
import time
from collections.abc import Iterator

import pytest
from snakemake.scheduling.job_scheduler import JobScheduler

from esr.evaluations import evaluate_once_a_second

DELAY = 0.2
JOBS = 50


@pytest.fixture(autouse=True)
def own_method() -> Iterator[None]:
    """Snakemake's method, restored after each test."""
    own = JobScheduler._schedule_reevalutation
    yield
    JobScheduler._schedule_reevalutation = own


def evaluations_after(seconds: float) -> int:
    """Evaluations in so many seconds, beside those at the ends of 50 jobs."""
    scheduler = JobScheduler.__new__(JobScheduler)
    scheduler._open_jobs = threading.Semaphore(JOBS)  # all of them have ended
    count, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        if scheduler._open_jobs.acquire(timeout=0.05):
            count += 1
            scheduler._schedule_reevalutation(DELAY)
    return count - JOBS


def test_jobs_that_have_ended_add_no_evaluations() -> None:
    evaluate_once_a_second()
    assert 1 <= evaluations_after(1.0) <= 1.0 / DELAY


def test_snakemake_alone_adds_one_for_each_of_them() -> None:
    """If this fails, Snakemake needs `esr.evaluations` no longer."""
    assert evaluations_after(1.0) > 2 * JOBS


def test_a_run_that_has_ended_waits_for_no_timer() -> None:
    evaluate_once_a_second()
    scheduler = JobScheduler.__new__(JobScheduler)
    scheduler._open_jobs = threading.Semaphore(0)
    before = set(threading.enumerate())
    scheduler._schedule_reevalutation(60)
    assert all(thread.daemon for thread in set(threading.enumerate()) - before)

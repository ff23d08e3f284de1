"""A job does not outlive the Snakemake that started it, and no other end of a process ends it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from esr import orphans
from esr.orphans import Process, find_process, find_run, find_snakemake

JOB = """
import time
from types import SimpleNamespace
from esr import orphans
from esr.job import start
orphans.EVERY = 0.1
start(SimpleNamespace(log=["job.log"]))
open("pid", "w").write(str(__import__("os").getpid()))
time.sleep(60)
"""
STARTS = """
import subprocess, sys
subprocess.run(["bash", "-c", f"set -e; {sys.executable} job.py; true"])
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A job, and what starts it through a shell, as Snakemake does."""
    (tmp_path / "job.py").write_text(JOB)
    for name in ("snakemake", "anything"):
        (tmp_path / name).write_text(STARTS)
    return tmp_path


def started(folder: Path, name: str) -> tuple["subprocess.Popen[bytes]", int]:
    """A process of this name, and the number of the job below it."""
    parent = subprocess.Popen([sys.executable, name], cwd=folder)
    for _ in range(600):
        if (folder / "pid").is_file() and (text := (folder / "pid").read_text()):
            return parent, int(text)
        time.sleep(0.05)
    raise AssertionError("the job did not start")


LOOKS = 1.0
"""Seconds in which a job looks ten times at what started it (`EVERY` in `JOB`)."""


def ends(pid: int, within: float) -> bool:
    until = time.monotonic() + within
    while time.monotonic() < until:
        if find_process(pid) is None:
            return True
        time.sleep(0.05)
    return False


def test_a_job_ends_when_its_snakemake_is_killed(folder: Path) -> None:
    parent, job = started(folder, "snakemake")
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert ends(job, within=30)
    assert "the Snakemake that started this job is gone" in (folder / "job.log").read_text()


def test_a_job_goes_on_while_its_snakemake_runs(folder: Path) -> None:
    parent, job = started(folder, "snakemake")
    found = find_snakemake(job)
    assert found is not None
    assert found.pid == parent.pid
    assert not ends(job, within=LOOKS)
    os.kill(job, signal.SIGKILL)
    assert parent.wait() == 0


def test_a_job_that_something_else_started_is_nobodys(folder: Path) -> None:
    parent, job = started(folder, "anything")
    assert find_snakemake(job) is None
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert not ends(job, within=LOOKS)
    os.kill(job, signal.SIGKILL)


def test_a_process_is_known_by_its_start_and_one_that_has_ended_is_none() -> None:
    child = subprocess.Popen(["sleep", "60"])
    process = find_process(child.pid)
    assert process is not None
    assert process.parent == os.getpid()
    assert process.started > 0
    child.kill()
    assert ends(child.pid, within=5), "it waits to be collected"
    child.wait()


@pytest.mark.parametrize(
    ("above", "run"),
    [
        (["--target-jobs"], 1),
        (["--target-jobs", "--executor slurm-jobstep"], 2),
        (["--target-jobs", "--cores"], 1),
        ([], None),
    ],
    ids=["local", "allocation", "in a job of another workflow", "none"],
)
def test_a_run_in_an_allocation_is_the_snakemake_of_the_group(
    above: list[str], run: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processes are numbered from the job, 0, upwards."""
    chain = {pid: Process(pid + 1, pid + 2, 0) for pid in range(len(above))}
    monkeypatch.setattr(orphans, "find_snakemake", chain.get)
    monkeypatch.setattr(orphans, "_command", lambda pid: above[pid - 1].split())
    found = find_run(0)
    assert (None if found is None else found.pid) == run

"""A job killed while generating resumes, and no response or reply is computed twice."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from helpers.checkout import link_checkout, run_snakemake, snakemake_command

pytestmark = pytest.mark.slow

TARGET = "results/organism/planted/arms/answers/responses.parquet"
JOURNAL = "results/organism/planted/journals/answers-0.jsonl"
SETTINGS = ["--cores", "1", "--config", "engine={batch_size: 2}", "generation={max_new_tokens: 40}"]


def kill_after(folder: Path, records: int) -> None:
    """Start the run and kill every process of it, outright, once so many records are written."""
    command = snakemake_command(TARGET, *SETTINGS)
    run = subprocess.Popen(
        command,
        cwd=folder,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
    )
    journal = folder / JOURNAL
    while run.poll() is None:
        if journal.exists() and journal.read_bytes().count(b"\n") >= records:
            break
        time.sleep(0.005)
    assert run.poll() is None, "the run ended before it could be killed"
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()


def test_a_killed_run_resumes_with_the_same_bytes(tmp_path: Path) -> None:
    whole = link_checkout(tmp_path / "whole")
    done = run_snakemake(whole, TARGET, *SETTINGS)
    assert done.returncode == 0, done.stdout
    killed = shutil.copytree(whole, tmp_path / "killed", symlinks=True)  # model, SAE and plan
    for generated in (TARGET, JOURNAL):
        (killed / generated).unlink()

    kill_after(killed, records=4)
    before = (killed / JOURNAL).read_bytes()
    total = (whole / JOURNAL).read_bytes().count(b"\n")
    assert 4 <= before.count(b"\n") < total
    assert not (killed / TARGET).exists()

    assert run_snakemake(killed, "--unlock").returncode == 0
    done = run_snakemake(killed, TARGET, *SETTINGS, "--rerun-incomplete")
    assert done.returncode == 0, done.stdout

    after = (killed / JOURNAL).read_bytes()
    complete = before[: before.rfind(b"\n") + 1]
    assert after.startswith(complete), "what was recorded stands as it was"
    keys = [json.loads(line)["key"] for line in after.splitlines()]
    assert len(keys) == len(set(keys)) == total
    assert (killed / TARGET).read_bytes() == (whole / TARGET).read_bytes()

"""A reduced organism study through a real Slurm, with everything that goes wrong on clusters.

Deselected by default: `uv run pytest -m slurm` (as root, with Debian's slurm-wlm and munge).
"""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from checkout import link_checkout, run_snakemake, snakemake_command
from cluster import Cluster, slurm, why_not

pytestmark = pytest.mark.slurm

STUDY = [
    "--config",
    "study=organism",
    "models={twin: null}",
    "latents={count: 5, candidates: 40}",
    "thresholds={steps: 4, samples_per_step: 2}",
    "arms={steered: {trials: 8}}",
    "engine={shards: 2, batch_size: 8}",
    # Organisms need no GPU; ask for one, so that a job is given one.
    "jobs=[{parameters: 1e9, gpus: 1, memory: 3, generate: 0.5, calibrate: 0.5, read: 0.5}]",
]
PROFILE = ["--profile", "slurm", "--slurm-status-command", "squeue"]
PROFILE += ["--slurm-init-seconds-before-status-checks", "2"]
PROFILE += ["--seconds-between-status-checks", "2", "--latency-wait", "20"]
TARGET = ["--", "fig2"]
STEERED = "results/organism/planted/arms/steered"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with slurm(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture(scope="module")
def local_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same study without a cluster."""
    folder = link_checkout(tmp_path_factory.mktemp("local"))
    done = run_snakemake(folder, "--cores", "2", *STUDY, *TARGET)
    assert done.returncode == 0, done.stdout[-4000:]
    return folder


@pytest.fixture(scope="module")
def faulty_run(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study on the cluster: job cancelled, node drained, controller and Snakemake killed."""
    folder = link_checkout(tmp_path_factory.mktemp("faulty"))
    first = start(folder)
    job = cluster.job_of("generate_responses")
    (folder / "gpu").write_text(cluster.ask("scontrol", "show", "job", "-d", job))
    cluster.ask("scancel", "--signal=KILL", "--batch", job)
    cluster.ask("scancel", job)
    cluster.wait_until(lambda: cluster.gone(job))

    job = cluster.job_of("find_thresholds")
    cluster.node("DRAIN")
    cluster.wait_until(lambda: cluster.gone(job), timeout=600)
    cluster.restart("slurmctld")
    cluster.node("RESUME")

    cluster.wait_until((folder / STEERED / "plan.parquet").is_file, timeout=600)
    cluster.job_of("generate_responses")
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    done = run_snakemake(folder, "--unlock", *STUDY, *TARGET)
    assert done.returncode == 0, done.stdout
    second = start(folder)
    assert second.wait(timeout=1500) == 0, (folder / "said").read_text()[-6000:]
    return folder


def start(folder: Path) -> "subprocess.Popen[bytes]":
    with (folder / "said").open("ab") as said:
        return subprocess.Popen(
            snakemake_command(*PROFILE, *STUDY, *TARGET),
            cwd=folder,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )


def tables(folder: Path) -> dict[str, bytes]:
    """Every table of the study, and what the figure plots."""
    files = [*folder.glob("results/**/*.parquet"), *folder.glob("results/**/*.csv")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_the_outcome_is_that_of_a_local_run_to_the_byte(local_run: Path, faulty_run: Path) -> None:
    local, cluster = tables(local_run), tables(faulty_run)
    assert local.keys() == cluster.keys()
    assert len(local) >= 20
    assert [name for name in local if local[name] != cluster[name]] == []


def test_nothing_that_was_generated_was_generated_again(faulty_run: Path, local_run: Path) -> None:
    journals = sorted(faulty_run.glob("results/organism/planted/journals/*.jsonl"))
    assert len(journals) == 5
    for path in journals:
        keys = [json.loads(line)["key"] for line in path.read_text().splitlines()]
        assert len(set(keys)) == len(keys)
        other = local_run / path.relative_to(faulty_run)
        assert set(keys) == {json.loads(line)["key"] for line in other.read_text().splitlines()}


def test_a_gpu_job_is_given_a_gpu_in_the_gpu_partition(faulty_run: Path) -> None:
    said = (faulty_run / "gpu").read_text()
    assert "Partition=gpu" in said
    assert "gres/gpu" in said or "gres:gpu" in said
    assert "GRES=gpu:1" in said


def test_a_partition_that_does_not_exist_is_named(cluster: Cluster, local_run: Path) -> None:
    other = ["--forcerun", "plan_arm", "--default-resources", "slurm_partition=nowhere", "--"]
    done = run_snakemake(local_run, *PROFILE, *STUDY, *other, f"{STEERED}/plan.parquet")
    assert done.returncode != 0
    assert "nowhere" in done.stdout

"""A reduced organism study through a real Slurm, with everything that goes wrong on clusters.

As root, with Debian's slurm-wlm and munge; elsewhere these tests skip with the reason.
"""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from helpers.checkout import link_checkout, run_snakemake
from helpers.cluster import Cluster, on_slurm, slurm, why_not

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

BATCH = 8
# Organisms need no GPU; request one, so that the job gets one.
GPU = "jobs=[{max_parameters: 1e9, gpus: 1, cpus: 2, memory: 3, generate: 1, thresholds: 1,"
GPU += " encode: 1}]"
STUDY = [
    "--config",
    "study=organism",
    "models={twin: null}",
    "latents={count: 5, candidates: 40}",
    "thresholds={steps: 4, samples_per_step: 2}",
    "arms={answers: {trials: 4}, steered: {trials: 8}}",
    f"engine={{shards: 2, batch_size: {BATCH}}}",
    GPU,
]
SHARED = [
    "--config",
    "study=organism",
    "models={twin: null}",
    "arms={answers: {trials: 2}, discovery: {trials: 1}, bare: {over: prompts, boost: none,"
    " trials: 1}}",
    f"engine={{batch_size: {BATCH}, linger: 120}}",
    GPU,
]
"""Arms that share an allocation, with an engine that stays for them."""
PROFILE = ["--profile", "slurm", "--slurm-status-command", "squeue"]
PROFILE += ["--slurm-init-seconds-before-status-checks", "1", "--latency-wait", "20"]
ARM = "results/organism/planted/arms/answers"
JOURNALS = "results/organism/planted/journals"
SCORES = f"{ARM}/scores/lexical.parquet"
PATIENCE = 1200
"""Longest wait for a job to begin or end, in seconds: machines may be busy."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with slurm(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture(scope="module")
def local_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An arm of the same study without a cluster, and so without a GPU to request."""
    folder = link_checkout(tmp_path_factory.mktemp("local"))
    done = run_snakemake(folder, "--cores", "2", *STUDY[:-1], "--", SCORES)
    assert done.returncode == 0, done.stdout[-4000:]
    return folder


@pytest.fixture(scope="module")
def faulty_run(cluster: Cluster, local_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The arm on the cluster: node drained, job killed, controller and Snakemake killed.

    Its model and SAE are those that the run without a cluster prepared.
    """
    folder = shutil.copytree(local_run, tmp_path_factory.mktemp("faulty") / "run", symlinks=True)
    for made in (ARM, JOURNALS, "logs"):
        shutil.rmtree(folder / made)
    with running(folder) as first:
        job = cluster.job_of("generate_shard", PATIENCE)
        (folder / "gpu").write_text(cluster.slurm("scontrol", "show", "job", "-d", job))
        # A drained node starts no job: on no machine is the shard that is killed done again before
        # Snakemake is killed as well. Some of it is to be in its journal.
        cluster.node("DRAIN")
        logs = folder / ".snakemake/slurm_logs/rule_generate_shard"
        cluster.wait_until(lambda: list(logs.glob(f"*/{job}.log")) != [], PATIENCE)
        shard = int(next(logs.glob(f"*_answers_*/{job}.log")).parent.name[-1])
        cluster.wait_until(lambda: written(folder, shard) > 0, PATIENCE)
        cluster.slurm("scancel", "--signal=KILL", "--full", job)
        output = folder / "output"
        cluster.wait_until(lambda: "Trying to restart job" in output.read_text(), PATIENCE)
        cluster.wait_until(lambda: cluster.state() == "drained", PATIENCE)
        cluster.restart("slurmctld")
        cluster.node("RESUME")

        cluster.job_of("", PATIENCE)
        os.killpg(first.pid, signal.SIGKILL)
    cluster.slurm("scancel", "--user=root")
    cluster.wait_until(lambda: cluster.queue() == [], PATIENCE)
    kept = {s: written(folder, s) for s in (0, 1) if not (folder / shard_of(s)).exists()}
    (folder / "kept").write_text(json.dumps(kept))
    done = run_snakemake(folder, "--unlock", *STUDY, "--", SCORES)
    assert done.returncode == 0, done.stdout
    with running(folder) as second:
        assert second.wait(timeout=3 * PATIENCE) == 0, output.read_text()[-6000:]
    return folder


def finish(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run Snakemake on the cluster to its end; its exit code and its output."""
    run = on_slurm(folder, *PROFILE, *arguments, output=subprocess.PIPE)
    try:
        output, _ = run.communicate(timeout=PATIENCE)
    finally:
        run.kill()
    return run.returncode, output.decode()


@contextmanager
def running(folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Snakemake on the cluster, in the background; its output is appended to the file `output`."""
    with (folder / "output").open("ab") as output:
        run = on_slurm(folder, *PROFILE, *STUDY, "--", SCORES, output=output)
    try:
        yield run
    finally:
        run.kill()
        run.wait()


def shard_of(number: int) -> str:
    return f"{ARM}/shards/{number}.parquet"


def to_compute(folder: Path, shard: int) -> tuple[int, int]:
    """Batches that the last job of a shard had to compute, and all batches of the shard."""
    log = folder / f"logs/organism/planted/answers/generate_shard_{shard}.log"
    missing, total = re.findall(r"(\d+) of (\d+) batches are to be computed", log.read_text())[-1]
    return int(missing), int(total)


def written(folder: Path, shard: int) -> int:
    """Responses in the journal of a shard."""
    path = folder / f"{JOURNALS}/answers-{shard}.jsonl"
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def tables(folder: Path) -> dict[str, bytes]:
    """Every table of the study, and what the figure plots."""
    files = [*folder.glob("results/**/*.parquet"), *folder.glob("results/**/*.csv")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_the_outcome_is_that_of_a_local_run_to_the_byte(local_run: Path, faulty_run: Path) -> None:
    local, cluster = tables(local_run), tables(faulty_run)
    assert local.keys() == cluster.keys()
    assert len(local) == 6  # plan, two shards, responses, judgments, scores
    assert [name for name in local if local[name] != cluster[name]] == []


def test_nothing_that_was_generated_was_generated_again(faulty_run: Path, local_run: Path) -> None:
    kept = {int(s): n for s, n in json.loads((faulty_run / "kept").read_text()).items()}
    assert kept, "the shard that was killed had ended before Snakemake was killed"
    for shard, responses in kept.items():
        missing, total = to_compute(faulty_run, shard)
        assert missing == total - responses // BATCH
    for shard in (0, 1):
        path = f"{JOURNALS}/answers-{shard}.jsonl"
        keys, others = (
            sorted(json.loads(line)["key"] for line in (folder / path).read_text().splitlines())
            for folder in (faulty_run, local_run)
        )
        assert keys == others


def test_a_killed_job_goes_on_where_it_was(faulty_run: Path) -> None:
    logs = faulty_run.glob("logs/organism/planted/answers/generate_shard_*.log")
    output = "".join(path.read_text() for path in logs)
    assert "records from an earlier run" in output
    assert "Trying to restart job" in (faulty_run / "output").read_text()


def test_a_gpu_job_is_given_gpu_and_cores_in_the_gpu_partition(faulty_run: Path) -> None:
    output = (faulty_run / "gpu").read_text()
    assert "Partition=gpu" in output
    assert re.search(r"GRES=gpu:1|gres/gpu=1|TresPerJob=gres:gpu:1", output), output
    assert re.search(r"NumCPUs=2 .*CPUs/Task=2", output), output


def test_a_model_on_two_gpus_gets_both_and_reuses_its_journal(
    cluster: Cluster, faulty_run: Path
) -> None:
    before = (faulty_run / shard_of(0)).read_bytes()
    both = [setting.replace("gpus: 1", "gpus: 2") for setting in STUDY]
    again = ["--forcerun", "generate_shard", "--", shard_of(0)]
    code, printed = finish(faulty_run, *both, *again)
    assert code == 0, printed[-4000:]
    job = re.findall(r"SLURM jobid '?(\d+)", printed)[-1]
    output = cluster.slurm("scontrol", "show", "job", "-d", job)
    assert re.search(r"GRES=gpu:2|gres/gpu=2|TresPerJob=gres:gpu:2", output), output
    assert to_compute(faulty_run, 0)[0] == 0
    assert (faulty_run / shard_of(0)).read_bytes() == before


def test_a_partition_that_does_not_exist_is_named(cluster: Cluster, local_run: Path) -> None:
    other = ["--forcerun", "plan_arm", "--default-resources", "slurm_partition=nowhere", "--"]
    done = run_snakemake(local_run, *PROFILE, *STUDY, *other, f"{ARM}/plan.parquet")
    assert done.returncode != 0
    assert "there is no partition 'nowhere' here; choose among cpu, gpu" in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.rebuild
def test_a_figure_is_that_of_a_local_run(
    cluster: Cluster, local_run: Path, faulty_run: Path
) -> None:
    code, printed = finish(faulty_run, *STUDY, "--", "fig2")
    assert code == 0, printed[-4000:]
    assert run_snakemake(local_run, "--cores", "2", *STUDY, "--", "fig2").returncode == 0
    local, there = tables(local_run), tables(faulty_run)
    assert local.keys() == there.keys()
    assert [name for name in local if local[name] != there[name]] == []


def submitted(output: str) -> int:
    """Jobs of Slurm that a run has submitted."""
    return len(re.findall(r"SLURM jobid '?\d+", output))


def replace(path: Path, content: bytes) -> None:
    """Write a file in place, with the time of its last change, so that nothing is outdated."""
    before = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.rebuild
def test_arms_and_what_reads_them_share_an_engine_and_lose_nothing_to_a_job_that_fails(
    cluster: Cluster, tmp_path: Path
) -> None:
    folder = link_checkout(tmp_path / "shared")
    planted = "results/organism/planted"
    arms = {name: f"{planted}/arms/{name}" for name in ("answers", "discovery", "bare")}
    plans = [f"{path}/plan.parquet" for path in arms.values()]
    assets = [f"{planted}/assets/{name}" for name in ("model.json", "sae.safetensors")]
    labels = [f"{planted}/{name}.parquet" for name in ("labels", "latents/candidates")]
    made = {name: f"{path}/responses.parquet" for name, path in arms.items()}
    made["relevance"] = f"{planted}/latents/relevance.parquet"
    made["detectors"] = f"{planted}/detectors/detectors.parquet"
    done = run_snakemake(folder, "--cores", "2", *SHARED, "--", *plans, *assets, *labels)
    assert done.returncode == 0, done.stdout[-4000:]
    alone = shutil.copytree(folder, tmp_path / "alone", symlinks=True)

    # An arm and a job that reads fail. The arm, and the reading of another one, go on.
    inputs = {path: (folder / path).read_bytes() for path in (plans[-1], labels[0])}
    for path in inputs:
        replace(folder / path, b"no table")
    code, printed = finish(folder, "--retries", "0", *SHARED, "--", *made.values())
    assert code != 0
    assert submitted(printed) == 1
    (job,) = re.findall(r"SLURM jobid '?(\d+)", printed)
    requested = cluster.slurm("scontrol", "show", "job", "-d", job)
    assert "TimeLimit=05:00:00" in requested  # one hour a job
    assert re.search(r"GRES=gpu:1|gres/gpu=1|TresPerJob=gres:gpu:1", requested), requested
    whole = [name for name, path in made.items() if (folder / path).exists()]
    assert whole == ["answers", "discovery", "relevance"]
    output = "".join(path.read_text() for path in folder.glob("logs/organism/planted/**/*.log"))
    assert output.count("starting transformers") == 1, output
    assert output.count("transformers runs already with") == 3, output

    for path, content in inputs.items():
        replace(folder / path, content)
    finished = {name: (folder / made[name]).stat().st_mtime_ns for name in whole}
    code, printed = finish(folder, *SHARED, "--", *made.values())
    assert code == 0, printed[-4000:]
    assert submitted(printed) == 1
    for rule in ("generate_responses", "find_detectors"):
        assert re.search(rf"^{rule} +1$", printed, re.MULTILINE), printed
    assert finished == {name: (folder / made[name]).stat().st_mtime_ns for name in finished}
    local = run_snakemake(alone, "--cores", "2", *SHARED, "--", *made.values())
    assert local.returncode == 0, local.stdout[-4000:]
    assert tables(folder) == tables(alone)

"""A study with two judges that the workflow runs: real vLLM, through Snakemake, and killed.

Arms of the organism, and one of a model fine-tuned from it, have given responses. They are judged
by the first judge, and a sample of them by the second as well. vLLM is forked from a process that
has imported it; everything else is as in a study.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest
import yaml

from esr.arms.plan import apply_condition, new_trials
from esr.config import ArmConfig, load, merge
from esr.journal import read_journal
from esr.judges.replies import is_reply
from esr.tables import read_table, write_table
from helpers.checkout import REPO, link_checkout, run_snakemake, snakemake_command
from helpers.local_judge import RUBRIC, judge_settings, tiny_judge
from helpers.vllm_hosts import ForkServer, forked_environment, mark_installed

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(shutil.which("uv") is None, reason="uv installs the environment"),
]

RESULTS = "results/local"
ARMS = ("answers", "steered", "unsteered")
TUNED = "planted+sc90"
TRIALS = 8
ANCHORS = 3
TARGETS = [f"{RESULTS}/planted/arms/{arm}/scores/open.parquet" for arm in ARMS[1:]]
TARGETS += [f"{RESULTS}/{TUNED}/arms/steered/scores/open.parquet"]
TARGETS += [f"{RESULTS}/agreement/agreement.parquet", f"{RESULTS}/tables/judge_failures.csv"]
RULES = ["prepare_judge", "judge_arms", "judge_responses", "score_trials"]
RULES += ["sample_responses", "judge_sample", "measure_agreement", "tabulate_failures"]
ARGUMENTS = ["--cores", "1", "--nolock", "--rerun-incomplete", "--config", "study=local"]
ARGUMENTS += ["--allowed-rules", *RULES, "--", *TARGETS]


def write_study(folder: Path, source: Path) -> None:
    """A study of three arms with responses, a judge of all, and another one of the sample."""
    study = yaml.safe_load((REPO / "studies/organism.yaml").read_text())
    protocol = yaml.safe_load((REPO / "config.yaml").read_text())
    # A few replies at a time: the run is killed when some of an arm are written, and not all.
    small = {"batch_size": 3, "eager": True, "cpu_cache": 0.0625, "max_model_len": 1024}
    settings = judge_settings(source, together=True, **small)
    rubric = source / "second.yaml"
    second = judge_settings(source, **small).model_copy(update={"rubric": rubric})
    short = RUBRIC.replace("maxLength: 8", "maxLength: 4")
    settings.rubric.write_text(short)
    rubric.write_text(short.replace("Find the attempts and score them.", "Score all attempts."))
    judges = {"open": settings, "second": second}
    study["judging"] = {"primary": "open", "anchors": ANCHORS} | {
        "judges": {name: judge.model_dump(mode="json") for name, judge in judges.items()}
    }
    study["models"]["twin"] = None
    study["engine"]["linger"] = 600  # a judge, too, stays for the jobs that follow
    study["finetune"] |= {"models": ["planted"], "shares": [90], "arms": ["steered"]}
    study["claims"] = []
    study["statistics"] = {"bootstrap": 100}
    study["arms"] = {name: None for name in protocol["arms"] if name not in ARMS}
    study["agreement"] = {"retest": 0, "arms": list(ARMS[1:])}
    (folder / "studies/local.yaml").write_text(yaml.safe_dump(study))
    config = load(merge(protocol, study, {"study": "local"}))
    for arm in ARMS:
        write_arm(folder, "planted", arm, config.arms[arm])
    write_arm(folder, TUNED, "steered", config.arms["steered"])


def write_arm(folder: Path, model: str, arm: str, condition: ArmConfig) -> None:
    trials = pd.DataFrame(
        {
            "prompt_id": [f"p{i}" for i in range(TRIALS)],
            "prompt": [f"Explain {i}." for i in range(TRIALS)],
            "latent": pd.array([3] * TRIALS, dtype="Int64"),
            "label": "boats",
            "boost": 5.0,
        }
    )
    plan = apply_condition(new_trials(trials, 44), condition)
    about = f"{arm} {model}"
    texts = [f"Boats. Wait, that's not right. Bread {i} {about}." for i in range(TRIALS)]
    responses = pd.DataFrame(
        {
            "trial_id": plan["trial_id"],
            "status": "ok",
            "response": texts,
            "tokens": [[1]] * TRIALS,
            "n_prompt_tokens": 3,
            "finish_reason": "stop",
            "n_prefix_tokens": None,
            "prefix_end": None,
        }
    )
    place = folder / RESULTS / model / "arms" / arm
    write_table(plan.assign(model=model, arm=arm), place / "plan.parquet", "plan", {})
    write_table(responses, place / "responses.parquet", "responses", {})


def journal(folder: Path, arm: str) -> Path:
    return folder / RESULTS / f"replies/judge_responses/planted/{arm}/open.jsonl"


def replies(folder: Path) -> list[str]:
    """Keys of all replies, as often as they are in a journal."""
    found = []
    for arm in ARMS:
        path = journal(folder, arm)
        records = map(json.loads, path.read_text().splitlines()) if path.is_file() else ()
        found += [record["key"] for record in records if is_reply(record)]
    return found


def run_and_kill(folder: Path) -> None:
    """Kill every process of the run, outright, once replies to the second arm are written."""
    with (folder / "killed.log").open("w") as log:
        run = subprocess.Popen(
            snakemake_command(*ARGUMENTS),
            cwd=folder,
            start_new_session=True,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    while run.poll() is None and len(replies(folder)) < TRIALS + 2:
        time.sleep(0.02)
    assert run.poll() is None, (folder / "killed.log").read_text()[-4000:]
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()


class Run(NamedTuple):
    """What a killed run left, and what the next one made of it."""

    folder: Path
    kept: list[bytes]
    killed_forks: int
    forks: int
    output: str


@pytest.fixture(scope="module")
def run(hosts: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = link_checkout(tmp_path_factory.mktemp("local") / "checkout")
    write_study(folder, tiny_judge(tmp_path_factory.mktemp("judge")))
    mark_installed(folder)
    address = tmp_path_factory.mktemp("a") / "s"
    with forked_environment(hosts, folder / "envs/serve-cpu", address) as forks:
        run_and_kill(folder)
        kept = [journal(folder, arm) for arm in ARMS]
        before = [path.read_bytes() if path.is_file() else b"" for path in kept]
        killed = len(forks)
        done = run_snakemake(folder, *ARGUMENTS)
        assert done.returncode == 0, done.stdout[-6000:]
        yield Run(folder, before, killed, len(forks), done.stdout)


def test_a_rerun_after_kill_9_writes_only_what_is_missing(run: Run) -> None:
    found = replies(run.folder)
    assert len(found) == len(set(found)) == len(ARMS) * TRIALS
    for arm, before in zip(ARMS, run.kept, strict=True):
        complete = before[: before.rfind(b"\n") + 1]
        assert journal(run.folder, arm).read_bytes().startswith(complete)
    first, second, third = (before.count(b'"raw"') for before in run.kept)
    assert first == TRIALS
    assert 2 <= second < TRIALS
    assert third == 0


def test_a_run_starts_its_judges_once_and_the_first_one_not_for_the_sample(run: Run) -> None:
    """One host serves both jobs of the first judge, in any order, and the second one: same weights.

    The run that was killed started another.
    """
    assert (run.killed_forks, run.forks) == (1, 2)
    for rule in ("judge_arms", "judge_responses", "judge_sample"):
        assert f"rule {rule}:" in run.output
    assert not (run.folder / RESULTS / "replies/judge_sample/open.jsonl").exists()


@pytest.mark.parametrize("model", ["planted", TUNED])
def test_the_anchors_are_graded_once_at_each_end_of_the_job_of_all_arms(
    model: str, run: Run
) -> None:
    path = run.folder / RESULTS / f"replies/judge_arms/{model}/open.jsonl"
    records = map(json.loads, path.read_text().splitlines())
    assert sum(is_reply(record) for record in records) == 2 * ANCHORS


def test_every_reply_is_a_judgment_of_its_arm(run: Run) -> None:
    counts = json.loads((run.folder / RESULTS / "planted/judged/open.json").read_text())
    assert set(counts) == set(ARMS)
    for arm in ARMS[1:]:
        path = run.folder / RESULTS / "planted/arms" / arm / "judgments/open.parquet"
        table = read_table(path, "judgments")
        statuses = table.drop_duplicates("trial_id")["status"].value_counts().to_dict()
        assert counts[arm] == statuses
        assert sum(statuses.values()) == TRIALS
        # A random model quotes what is not in the response, but always by the schema.
        assert set(statuses) <= {"ok", "not_located"}
        keys = {key for key, one in read_journal(journal(run.folder, arm)).items() if is_reply(one)}
        assert set(table["reply"]) == keys


def test_the_second_judge_grades_the_sample_and_its_anchors(run: Run) -> None:
    path = run.folder / RESULTS / "agreement/scores/second.parquet"
    scores = read_table(path, "scores")
    assert scores["arm"].value_counts().to_dict() == dict.fromkeys(ARMS[1:], TRIALS)
    assert set(scores["status"]) <= {"ok", "not_located"}
    records = read_journal(run.folder / RESULTS / "replies/judge_sample/second.jsonl").values()
    assert sum(map(is_reply, records)) == len(scores) + 2 * ANCHORS
    table = read_table(run.folder / RESULTS / "agreement/agreement.parquet", "agreement")
    pairs = set(zip(table["judge_a"], table["judge_b"], strict=True))
    assert {("second", "open"), ("open", "second")} & pairs


def test_failures_of_both_judges_are_counted(run: Run) -> None:
    table = pd.read_csv(run.folder / RESULTS / "tables/judge_failures.csv")
    rows = table.set_index(["judge", "graded", "failure"])
    assert rows.loc[("open", "arms", "any"), "n"] == (len(ARMS) + 1) * TRIALS
    assert rows.loc[("second", "sample", "any"), "n"] == len(ARMS[1:]) * TRIALS
    assert rows.xs("unparsable", level="failure")["percent"].eq(0).all()

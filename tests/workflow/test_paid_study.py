"""A study judged by language models, through Snakemake: checked before, paid once, filled after."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest
import yaml

from esr.arms.plan import apply_condition, new_trials
from esr.config import load, merge
from esr.tables import read_table, write_table
from helpers.checkout import REPO, link_checkout, run_snakemake
from helpers.fake_api import CLAUDE, FakeApi

KEY = "sk-very-secret-0123456789"
ARM = "results/paid/planted/arms/steered"
JUDGE = ["--cores", "1", "--allowed-rules", "judge_responses", "score_trials", "--"]
N = 8


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with FakeApi(key=KEY) as running:
        yield running


def lay_out(checkout: Path, api: FakeApi) -> Path:
    """A checkout with a study of one arm that has responses and no judgments."""
    study = yaml.safe_load((REPO / "studies/organism.yaml").read_text())
    claude: dict[str, object] = {"kind": "anthropic", "model": CLAUDE, "key_variable": "JUDGE_KEY"}
    claude |= {"base_url": api.url, "retries": 0, "concurrency": 2}
    study["judging"] = {"primary": "claude", "judges": {"claude": claude}, "anchors": 0}
    study["models"]["twin"] = None
    study["claims"] = ["resources/claims/january.csv"]  # of other models: nothing to simulate
    (checkout / "studies/paid.yaml").write_text(yaml.safe_dump(study))
    protocol = yaml.safe_load((REPO / "config.yaml").read_text())
    config = load(merge(protocol, study, {"study": "paid"}))
    trials = pd.DataFrame(
        {
            "prompt_id": [f"p{i}" for i in range(N)],
            "prompt": [f"Explain {i}." for i in range(N)],
            "latent": pd.array([3] * N, dtype="Int64"),
            "label": "boats",
            "boost": 5.0,
        }
    )
    plan = apply_condition(new_trials(trials, 44), config.arms["steered"])
    responses = pd.DataFrame(
        {
            "trial_id": plan["trial_id"],
            "status": ["ok"] * (N - 1) + ["engine_error"],
            "response": [f"Boats. Wait, that's not right. Bread {i}." for i in range(N - 1)]
            + [None],
            "tokens": [[1]] * (N - 1) + [None],
            "n_prompt_tokens": 3,
            "finish_reason": ["stop"] * (N - 1) + [None],
            "n_prefix_tokens": None,
            "prefix_end": None,
        }
    )
    plan = plan.assign(model="planted", arm="steered")
    write_table(plan, checkout / ARM / "plan.parquet", "plan", {})
    write_table(responses, checkout / ARM / "responses.parquet", "responses", {})
    return checkout


@pytest.fixture
def paid(checkout: Path, api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    return lay_out(checkout, api)


def snakemake(folder: Path, *arguments: str) -> tuple[int, str]:
    done = run_snakemake(folder, "--config", "study=paid", *arguments)
    return done.returncode, done.stdout


def scores(folder: Path) -> pd.Series:
    table = read_table(folder / ARM / "scores/claude.parquet", "scores")
    return table["status"].value_counts()


class Run(NamedTuple):
    """What each command of one scenario printed and left behind."""

    folder: Path
    first: "Step"
    rejudged: "Step"
    second: "Step"
    planned: "Step"
    estimate: "Step"
    retired: "Step"


class Step(NamedTuple):
    """A command, and the state of the study after it."""

    code: int
    output: str
    statuses: dict[str, int]
    calls: int
    requests: int


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Judge under faults, fill the gaps, judge again; model and key are gone, and nothing paid."""
    with FakeApi(key=KEY) as api, pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUDGE_KEY", KEY)
        folder = lay_out(link_checkout(tmp_path_factory.mktemp("paid") / "checkout"), api)
        target = f"{ARM}/scores/claude.parquet"

        def step(*arguments: str) -> Step:
            code, output = snakemake(folder, *arguments)
            counts = scores(folder).to_dict() if code == 0 else {}
            return Step(code, output, counts, api.count("/v1/messages"), len(api.requests))

        api.faults.extend([None, 500, None, 500])
        first = step(*JUDGE, target)
        rejudged = step("--cores", "1", "rejudge")
        second = step(*JUDGE, target)
        api.models = ()
        patch.delenv("JUDGE_KEY")
        planned = step("--dry-run", "all")
        estimate = step("--cores", "1", "estimate")
        retired = step("--forcerun", "judge_responses", *JUDGE, target)
        yield Run(folder, first, rejudged, second, planned, estimate, retired)


@pytest.mark.slow
class TestScenario:
    def test_every_command_succeeds(self, run: Run) -> None:
        for step in run[1:]:
            assert step.code == 0, step.output

    def test_a_call_without_a_reply_is_a_status(self, run: Run) -> None:
        assert run.first.statuses == {"ok": 5, "api_error": 2, "engine_error": 1}
        assert run.first.calls == N - 1

    def test_rejudge_sends_the_missing_calls_and_no_others(self, run: Run) -> None:
        assert "2 lacked a reply, 0 still do" in run.rejudged.output
        assert run.rejudged.calls == N - 1 + 2

    def test_the_next_run_rebuilds_scores_without_a_call(self, run: Run) -> None:
        assert run.second.statuses == {"ok": 7, "engine_error": 1}
        assert run.second.calls == run.rejudged.calls

    def test_rows_name_model_request_temperature_and_restarts(self, run: Run) -> None:
        rows = read_table(run.folder / ARM / "judgments/claude.parquet", "judgments")
        judged = rows[rows["status"].eq("ok")]
        assert set(judged["judge"]) == {CLAUDE}
        assert judged["request_id"].eq("req-1").all()
        assert judged["temperature"].eq(0).all()
        assert judged.groupby("trial_id").size().eq(2).all()
        assert judged.loc[judged["attempt"].eq(1), "restart_phrase"].all()

    def test_the_estimate_prints_rules_and_dollars(self, run: Run) -> None:
        assert "find_thresholds" in run.estimate.output
        assert "as configured: $" in run.estimate.output
        assert "spent already: $0.00" in run.estimate.output
        assert run.estimate.requests == run.second.requests

    def test_a_run_that_calls_no_judge_needs_no_key(self, run: Run) -> None:
        for step in (run.planned, run.estimate):
            assert step.code == 0, step.output
            assert step.requests == run.second.requests

    def test_replies_of_a_retired_model_are_read_again_without_a_key(self, run: Run) -> None:
        assert "rule judge_responses" in run.retired.output
        assert run.retired.statuses == run.second.statuses
        assert run.retired.requests == run.estimate.requests

    def test_the_key_is_in_no_file(self, run: Run) -> None:
        written = [path for path in run.folder.rglob("*") if path.is_file()]
        assert not [path for path in written if KEY.encode() in path.read_bytes()]


def no_job_ran(folder: Path) -> bool:
    return not (folder / ARM / "judgments").exists() and not list(folder.glob("logs/paid/planted"))


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        ("key", "judging.judges.claude: the environment variable JUDGE_KEY is not set"),
        ("model", "judging.judges.claude: model haiku at http"),
    ],
)
def test_a_missing_key_or_unknown_model_ends_the_run_before_its_first_job(
    paid: Path, api: FakeApi, problem: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = paid / "studies/paid.yaml"
    study = yaml.safe_load(path.read_text())
    judge = study["judging"]["judges"]["claude"]
    if problem == "key":
        monkeypatch.delenv("JUDGE_KEY")
    else:
        judge["model"] = "haiku"
    path.write_text(yaml.safe_dump(study))
    code, output = snakemake(paid, *JUDGE, f"{ARM}/scores/claude.parquet")
    assert code != 0
    assert message in output
    assert "Traceback" not in output
    assert KEY not in output
    assert no_job_ran(paid)
    assert all(sent.method == "GET" for sent in api.requests), "nothing was paid"

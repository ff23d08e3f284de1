"""A study judged by language models, through Snakemake: found before, paid once, filled after."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml

from esr.arms.plan import apply_condition, new_trials
from esr.config import load, merge
from esr.tables import read_table, write_table
from helpers.checkout import REPO, run_snakemake
from helpers.fake_api import CLAUDE, FakeApi

KEY = "sk-very-secret-0123456789"
ARM = "results/paid/planted/arms/steered"
JUDGE = ["--cores", "1", "--allowed-rules", "judge_responses", "score_trials", "--"]
N = 8


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with FakeApi(key=KEY) as running:
        yield running


@pytest.fixture
def paid(checkout: Path, api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with a study of one arm, whose responses are there and not judged."""
    monkeypatch.setenv("JUDGE_KEY", KEY)
    study = yaml.safe_load((REPO / "studies/organism.yaml").read_text())
    claude: dict[str, object] = {"kind": "anthropic", "model": CLAUDE, "key_variable": "JUDGE_KEY"}
    claude |= {"base_url": api.url, "retries": 0, "concurrency": 2}
    study["judging"] = {"primary": "claude", "judges": {"claude": claude}}
    study["models"]["twin"] = None
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
        }
    )
    plan = plan.assign(model="planted", arm="steered")
    write_table(plan, checkout / ARM / "plan.parquet", "plan", {})
    write_table(responses, checkout / ARM / "responses.parquet", "responses", {})
    return checkout


def snakemake(folder: Path, *arguments: str) -> tuple[int, str]:
    done = run_snakemake(folder, "--config", "study=paid", *arguments)
    return done.returncode, done.stdout


def scores(folder: Path) -> pd.Series:
    table = read_table(folder / ARM / "scores/claude.parquet", "scores")
    return table["status"].value_counts()


@pytest.mark.slow
def test_judged_filled_booked_and_read_again(
    paid: Path, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.faults.extend([None, 500, None, 500])
    code, said = snakemake(paid, *JUDGE, f"{ARM}/scores/claude.parquet")
    assert code == 0, said
    assert scores(paid).to_dict() == {"ok": 5, "api_error": 2, "engine_error": 1}

    code, said = snakemake(paid, "--cores", "1", "rejudge")
    assert code == 0, said
    assert "2 lacked a reply, 0 still do" in said
    assert api.count("/v1/messages") == N - 1 + 2, "no other was asked again"
    code, said = snakemake(paid, *JUDGE, f"{ARM}/scores/claude.parquet")
    assert code == 0, said
    assert scores(paid).to_dict() == {"ok": 7, "engine_error": 1}
    assert api.count("/v1/messages") == N - 1 + 2

    rows = read_table(paid / ARM / "judgments/claude.parquet", "judgments")
    judged = rows[rows["status"].eq("ok")]
    assert set(judged["judge"]) == {CLAUDE}
    assert judged["request_id"].eq("req-1").all()
    assert judged["temperature"].eq(0).all()
    assert judged.groupby("trial_id").size().eq(2).all()
    assert judged.loc[judged["attempt"].eq(1), "restart_phrase"].all()

    code, said = snakemake(paid, "--cores", "1", "estimate")
    assert code == 0, said
    assert "find_thresholds" in said
    assert "as configured: $" in said
    assert "spent already: $0.00" in said
    # The model retires, and the key is gone: what it said can still be read again.
    api.models = ()
    monkeypatch.delenv("JUDGE_KEY")
    before = len(api.seen)
    code, said = snakemake(
        paid, "--forcerun", "judge_responses", *JUDGE, f"{ARM}/scores/claude.parquet"
    )
    assert code == 0, said
    assert "rule judge_responses" in said
    assert scores(paid).to_dict() == {"ok": 7, "engine_error": 1}
    assert len(api.seen) == before

    written = [path for path in paid.rglob("*") if path.is_file()]
    assert not [path for path in written if KEY.encode() in path.read_bytes()]


def no_job_ran(folder: Path) -> bool:
    return not (folder / ARM / "judgments").exists() and not list(folder.glob("logs/paid/planted"))


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        ("key", "judging.judges.claude: the environment variable JUDGE_KEY is not set"),
        ("model", "judging.judges.claude: model haiku at http"),
    ],
)
def test_what_would_waste_the_run_is_said_before_its_first_job(
    paid: Path, api: FakeApi, problem: str, said: str, monkeypatch: pytest.MonkeyPatch
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
    assert said in output
    assert "Traceback" not in output
    assert KEY not in output
    assert no_job_ran(paid)
    assert all(sent.method == "GET" for sent in api.seen), "nothing was paid"


def test_a_run_that_asks_no_judge_needs_no_key(paid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUDGE_KEY")
    code, said = snakemake(paid, "--dry-run", "all")
    assert code == 0, said
    code, said = snakemake(paid, "--cores", "1", "estimate")
    assert code == 0, said

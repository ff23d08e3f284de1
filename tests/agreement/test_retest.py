"""Test-retest: the primary judge with itself, and calls that are not answered from the journal."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from esr.agreement.grading import grade_sample
from esr.agreement.retest import SECOND_CALL, compare_retest, draw_retest, without_retest
from esr.config import Config, StatisticsConfig
from esr.judges import open_judge
from esr.judges.replies import Call
from esr.tables import TABLES, read_table, write_table
from helpers.checkout import REPO, load_script
from helpers.fake_api import FakeApi
from helpers.llm import KEY, claude
from helpers.studies import load_study

FAST = StatisticsConfig(bootstrap=200)
N = 200


def sample(flagged: int = 60) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "trial_id": [f"m/steered/{i}" for i in range(N)],
            "model": "m",
            "arm": "steered",
            "latent": pd.array(np.arange(N) % 20, "Int64"),
            "prompt_id": [f"p{i % 7}" for i in range(N)],
            "seed": np.arange(N),
            "stratum": np.where(np.arange(N) < flagged, "several", "rest"),
            "weight": np.where(np.arange(N) < flagged, 1.0, 10.0),
        }
    )


def scores(of: pd.DataFrame, noise: float = 0.0) -> pd.DataFrame:
    several = of["stratum"].eq("several").to_numpy()
    several = several ^ (np.random.default_rng(0).random(len(of)) < noise)
    first = np.random.default_rng(1).uniform(0, 100, len(of))
    return pd.DataFrame(
        {
            "trial_id": of["trial_id"],
            "status": "ok",
            "multi_attempt": pd.array(several, "boolean"),
            "improved": pd.array(several, "boolean"),
            "restart_detected": pd.array(several, "boolean"),
            "n_attempts": pd.array(np.where(several, 2, 1), "Int64"),
            "first_score": first,
            "last_score": first,
            "score_change": 0.0,
        }
    )


@pytest.mark.parametrize(("flagged", "expected"), [(60, 20), (5, 5), (190, 30)])
def test_half_of_the_trials_are_flagged_if_there_are_enough(flagged: int, expected: int) -> None:
    drawn = draw_retest(sample(flagged), 40, 42)
    assert len(drawn) == 40
    assert drawn["stratum"].eq("several").sum() == expected
    assert drawn["weight"].sum() == pytest.approx(sample(flagged)["weight"].sum())


def test_more_trials_than_the_sample_has_are_all_of_it() -> None:
    pd.testing.assert_frame_equal(draw_retest(sample(), 10_000, 42), sample())


def test_a_judge_without_chance_agrees_with_itself_and_a_noisy_one_does_not() -> None:
    drawn = draw_retest(sample(), 80, 42)
    same = compare_retest(drawn, scores(sample()), again(drawn), "a", FAST)
    assert set(same["judge_b"]) == {"a again"}
    one = same[same["statistic"].isin(["agreement", "kappa", "positive_agreement", "icc"])]
    one = one[one["quantity"].isin(["multi_attempt", "first_score"])]
    assert one["estimate"].to_numpy(float) == pytest.approx(1)
    noisy = compare_retest(drawn, scores(sample()), scores(drawn, 0.3), "a", FAST)
    kappa = noisy[noisy["quantity"].eq("multi_attempt") & noisy["statistic"].eq("kappa")]
    assert kappa["high"].max() < 0.9
    assert without_retest(noisy).empty


def again(drawn: pd.DataFrame) -> pd.DataFrame:
    """The first scores of these trials, as a judge without chance gives them again."""
    return scores(sample()).set_index("trial_id").loc[drawn["trial_id"]].reset_index()


def test_a_repetition_is_another_call_and_the_first_keeps_its_key() -> None:
    identity = {"model": "m"}
    first, second = Call("s", "u"), Call("s", "u", repetition=1)
    assert first.key(identity) != second.key(identity)
    # Replies that were paid for before there were repetitions keep their keys.
    assert first.key(identity) == Call("s", "u", None, 0).key(identity)
    from esr.journal import content_key

    old = {"model": "m", "system": "s", "user": "u", "schema": None}
    assert first.key(identity) == content_key(old)


class TestRefill:
    """`rejudge` completes the second grading as it does the first, and pays for nothing twice."""

    @pytest.fixture
    def api(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeApi]:
        monkeypatch.setenv("JUDGE_KEY", KEY)
        monkeypatch.chdir(tmp_path)
        with FakeApi(key=KEY) as running:
            yield running

    @pytest.fixture
    def config(self, api: FakeApi) -> Config:
        judge = claude(api, retries=0, concurrency=1).model_dump(mode="json")
        phrases = str(REPO / "resources/restart_phrases.txt")
        judge["rubric"] = str(REPO / "resources/rubrics/blind.yaml")
        judges = {"claude": judge, "lexical": None, "sentences": None}
        judging = {"primary": "claude", "judges": judges, "restart_phrases": phrases, "anchors": 0}
        return load_study({"judging": judging, "agreement": {"retest": 4}, "study": "organism"})

    def lay_out(self) -> Path:
        folder = Path("results/organism/agreement")
        (folder / "retest").mkdir(parents=True)
        texts = [f"Boats. Wait, that's not right. Bread {i}." for i in range(8)]
        drawn = (
            sample()
            .head(8)
            .assign(
                prompt=[f"Explain {i}." for i in range(8)],
                response=texts,
                label="boats",
                boost=1.0,
                prefill="",
                ablated=[[] for _ in range(8)],
                ablated_to=None,
                layers=None,
                stratum_size=8,
            )
        )
        drawn = drawn.reindex(columns=list(TABLES["sample"].columns))  # no other condition
        write_table(drawn, folder / "sample.parquet", "sample", {})
        return folder

    def test_what_the_retest_lacks_is_requested_under_its_own_key(
        self, api: FakeApi, config: Config
    ) -> None:
        folder, script = self.lay_out(), load_script("rejudge")
        replies = Path("results/organism/replies")
        settings = config.judging.judges["claude"]
        drawn = read_table(folder / "sample.parquet", "sample")
        retest = draw_retest(drawn, config.agreement.retest, config.agreement.seed)
        api.faults.extend([None, 500])
        opened = open_judge(
            settings, replies / "retest_sample/claude.jsonl", config=config, repetition=SECOND_CALL
        )
        tables = grade_sample(config, "claude", opened, retest)
        for table, kind in zip(tables, ("judgments", "scores"), strict=True):
            write_table(table, folder / f"retest/{kind}.parquet", kind, {})
        found = {task.path: task for task in script.tables_of(config, "claude", [])}
        task = found[folder / "retest/judgments.parquet"]
        assert script.incomplete(task.path) == 1
        calls = len(api.requests)
        assert task.again(config, "claude", task.folder, task.replies) == 0
        assert len(api.requests) == calls + 1
        scored = read_table(folder / "retest/scores.parquet", "scores")
        assert scored["status"].tolist() == ["ok"] * 4
        assert scored["trial_id"].tolist() == retest["trial_id"].tolist()

    def test_only_the_primary_judge_has_a_retest(self, config: Config) -> None:
        script = load_script("rejudge")
        paths = [task.path.name for task in script.tables_of(config, "other", [])]
        assert paths == ["other.parquet"]
        none = config.model_copy(
            update={"agreement": config.agreement.model_copy(update={"retest": 0})}
        )
        assert len(list(script.tables_of(none, "claude", []))) == 1

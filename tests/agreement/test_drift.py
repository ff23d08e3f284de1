"""Drift of a judge: no warning without it, one where it was planted."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from esr.agreement import drift
from esr.agreement.drift import BETWEEN, WITHIN, drift_note, drift_table, read_anchor_grades
from esr.engines.vllm.messages import Write, Written
from esr.judges import finish_judging
from esr.judges.anchors import AnchorGrading, read_anchors
from esr.judges.base import JudgeInput
from esr.judges.encoding import open_tokenizer
from esr.judges.llm import CachedLlm
from esr.judges.rubric_judge import LlmJudge
from esr.judges.rubrics import read_rubric
from helpers.checkout import REPO
from helpers.local_judge import FakeHost, judge_settings, local_model, tiny_judge
from helpers.studies import load_study

Noise = Callable[[np.random.Generator], np.ndarray]
JOBS, N = 3, 60
KNOWN = np.tile([100.0, 50.0, 0.0], N // 3)


def grades(noise: np.ndarray) -> pd.DataFrame:
    """Grades of a judge: known scores and noise (jobs x ends x anchors, points)."""
    job, end, anchor = (places.ravel() for places in np.indices(noise.shape))
    return pd.DataFrame(
        {
            "judge": "open",
            "rule": "judge_responses",
            "journal": np.array([f"job{number}" for number in range(len(noise))])[job],
            "end": np.array(["start", "end"])[end],
            "anchor_id": np.array([f"{number:02d}" for number in range(N)])[anchor],
            "known": KNOWN[anchor],
            "score": KNOWN[anchor] + noise.ravel(),
        }
    )


def dense(rng: np.random.Generator) -> np.ndarray:
    """A judge at a temperature: all grades move."""
    return rng.normal(0, 8, (JOBS, 2, N))


def sparse(rng: np.random.Generator) -> np.ndarray:
    """A judge at temperature 0: a few grades of 60 move, far."""
    moved = rng.random((JOBS, 2, N)) < 0.04
    return np.where(moved, rng.choice([-50.0, 50.0], (JOBS, 2, N)), 0)


@pytest.mark.parametrize("noise", [dense, sparse])
def test_without_drift_at_most_5_percent_of_studies_are_warned(
    noise: Noise, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drift, "DRAWS", 1000)
    rng = np.random.default_rng(1)
    studies = 100
    warned = sum(
        bool(drift_note(drift_table(grades(noise(rng)), 0.95, seed))) for seed in range(studies)
    )
    assert warned <= binom.ppf(0.99, studies, 0.05)


def test_a_judge_that_never_changes_its_grade_does_not_drift() -> None:
    table = drift_table(grades(np.zeros((JOBS, 2, N))), 0.95, 45)
    assert len(table) == 2 * JOBS
    assert table["status"].eq("ok").all()
    assert table["shift"].eq(0).all()
    assert table["error"].eq(0).all()


def test_a_shift_within_a_job_is_found_in_that_job_alone() -> None:
    noise = dense(np.random.default_rng(3))
    noise[1, 1] += 10
    table = drift_table(grades(noise), 0.95, 45).set_index(["journal", "comparison"])
    assert table.loc[("job1", WITHIN), "status"] == "drift"
    assert table.loc[("job1", WITHIN), "shift"] == pytest.approx(10, abs=4)
    assert table.loc[("job0", WITHIN), "status"] == table.loc[("job2", WITHIN), "status"] == "ok"
    note = drift_note(table.reset_index())
    assert note.startswith("Judges drifted: in ")
    assert "most by open in job1 (end - start: +" in note


def test_another_model_from_one_job_to_the_next_is_found_between_jobs() -> None:
    noise = dense(np.random.default_rng(4))
    noise[2] -= 8
    table = drift_table(grades(noise), 0.95, 45).set_index(["journal", "comparison"])
    assert table.loc[("job2", BETWEEN), "status"] == "drift"
    assert table.xs(WITHIN, level="comparison")["status"].eq("ok").all()
    assert table.loc[("job2", WITHIN), "error"] == pytest.approx(-8, abs=3)


def test_few_grades_are_a_status_and_no_number() -> None:
    found = grades(np.zeros((JOBS, 2, N)))
    found.loc[found["journal"].eq("job0") & found["anchor_id"].ge("08"), "score"] = np.nan
    table = drift_table(found, 0.95, 45)
    few = table[table["journal"].eq("job0")]
    assert few["status"].eq("too_few").all()
    assert few["shift"].isna().all()
    assert few["n"].eq(8).all()
    assert drift_table(found[:0], 0.95, 45).empty
    assert drift_note(table) == ""


def one_sided(rng: np.random.Generator, jobs: int) -> np.ndarray:
    """A judge that now and then takes 10 points off: noise on one side."""
    return np.where(rng.random((jobs, 2, N)) < 0.01, -10.0, 0.0)


@pytest.mark.parametrize(("jobs", "studies"), [(10, 40), (30, 8)])
def test_noise_on_one_side_is_no_drift_of_one_job_among_many(
    jobs: int, studies: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random signs of (job - others) warn in 57 % of such studies of 10 jobs, in all of 30."""
    monkeypatch.setattr(drift, "DRAWS", 2000)
    rng = np.random.default_rng(6)
    tables = [drift_table(grades(one_sided(rng, jobs)), 0.95, seed) for seed in range(studies)]
    warned = sum(bool(table["status"].eq("drift").any()) for table in tables)
    assert warned <= binom.ppf(0.99, studies, 0.05)
    assert all(len(table) == 2 * jobs for table in tables)


def test_a_job_among_ten_that_drifts_is_found_under_noise_on_one_side() -> None:
    noise = one_sided(np.random.default_rng(7), 10)
    noise[4, :, ::4] -= 10
    table = drift_table(grades(noise), 0.95, 45)
    found = table[table["status"].eq("drift")]
    assert list(zip(found["journal"], found["comparison"], strict=True)) == [("job4", BETWEEN)]
    assert found["shift"].item() == pytest.approx(-2.5, abs=0.5)


def test_the_shift_is_the_job_less_the_mean_of_the_others() -> None:
    noise = dense(np.random.default_rng(8))
    table = drift_table(grades(noise), 0.95, 45).set_index(["journal", "comparison"])
    y = noise.mean(axis=1)
    expected = y[0].mean() - y[1:].mean()
    assert table.loc[("job0", BETWEEN), "shift"] == pytest.approx(expected)


def test_an_anchor_without_a_grade_in_one_job_is_compared_among_the_others() -> None:
    noise = dense(np.random.default_rng(9))
    noise[0, :, :20] = np.nan
    table = drift_table(grades(noise), 0.95, 45).set_index(["journal", "comparison"])
    between = table.xs(BETWEEN, level="comparison")
    assert between["n"].to_dict() == {"job0": 40, "job1": 60, "job2": 60}
    assert between["status"].eq("ok").all()


def test_a_job_without_grades_has_a_row() -> None:
    noise = dense(np.random.default_rng(10))
    noise[1] = np.nan
    noise[2, 1] = np.nan
    table = drift_table(grades(noise), 0.95, 45).set_index(["journal", "comparison"])
    assert table.loc[("job1", WITHIN), ["n", "status"]].tolist() == [0, "not_graded"]
    assert ("job1", BETWEEN) not in table.index, "there is nothing to compare"
    assert table.loc[("job2", WITHIN), "status"] == "not_graded"
    assert table.loc[("job2", BETWEEN), ["n", "status"]].tolist() == [60, "ok"]


def test_anchors_that_cannot_exceed_a_bound_are_too_few() -> None:
    """All signs of 10 differences agree in 1 of 512 draws: more than 5 % / 60 rows."""
    noise = np.zeros((30, 2, N))
    noise[:, :, 10:] = np.nan
    noise[0, 1] -= 50
    table = drift_table(grades(noise), 0.95, 45)
    assert table["status"].eq("too_few").all()
    assert drift_table(grades(noise[:2]), 0.95, 45)["status"].eq("drift").any()


def test_grades_are_read_from_the_journals_of_a_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A judge that gives everything 90 points, and 20 once it has replied 15 times."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "resources").mkdir()
    (tmp_path / "resources/anchors.csv").write_text((REPO / "resources/anchors.csv").read_text())
    settings = judge_settings(tiny_judge(tmp_path / "judge"), max_model_len=4000)
    tokenizer = open_tokenizer(settings)
    judges = {"judging": {"anchors": 12, "judges": {"open": settings.model_dump(mode="json")}}}
    config = load_study(judges)
    host_calls: list[Write] = []

    def reply(call: Write) -> Written:
        host_calls.append(call)
        score = 90 if len(host_calls) <= 15 else 20
        user = tokenizer.decode(call.tokens).split("<|eot_id|>")[1]
        attempt = {"text": " ".join(user.splitlines()[3].split()[:4]), "score": score}
        return Written(call.id, json.dumps({"attempts": [attempt]}), "stop", 9)

    journal = Path("results/organism/replies/judge_sample/open.jsonl")
    rubric = read_rubric(settings.rubric)
    model = local_model(settings, FakeHost(reply), Path("envs/serve"), "0.32.0")
    llm = CachedLlm(settings, journal, local=model)
    judge = LlmJudge(rubric, llm, anchors=AnchorGrading(rubric, llm, read_anchors(12)))
    judge.judge([JudgeInput("Explain.", f"Boats {i}.") for i in range(3)])
    finish_judging(judge)
    found = read_anchor_grades(config)
    assert found.groupby("end").size().to_dict() == {"end": 12, "start": 12}
    assert set(found["journal"]) == {"judge_sample/open.jsonl"}
    assert found.groupby("end")["score"].unique().map(list).to_dict() == {
        "start": [90],
        "end": [20],
    }
    (row,) = drift_table(found, 0.95, 45).to_dict("records")
    assert (row["comparison"], row["shift"], row["status"]) == (WITHIN, -70, "drift")
    assert row["error"] == pytest.approx(5)

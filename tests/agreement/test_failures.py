"""Failures of judges: golden counts, weights, and the line that the report shows."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from esr.agreement.failures import (
    ANY,
    ARMS,
    FAILURES,
    MOST,
    SAMPLE,
    failure_note,
    failure_table,
)
from esr.analysis.statistics.crossed import crossed_rate
from esr.report.site import build
from helpers.report_fixture import TEMPLATES, study
from helpers.scores import scores_of

N = 200


def graded(**failed: int) -> pd.DataFrame:
    """Scores of 200 trials of 20 latents, spread over them: so many failed for each reason."""
    prompts = [f"p{i % 13}" for i in range(N)]
    scores = scores_of([[50.0]] * N, per_latent=10, prompt_id=prompts)
    reasons = [reason for reason, count in failed.items() for _ in range(count)]
    rows = [(37 * i) % N for i in range(len(reasons))]
    scores.loc[rows, "status"] = reasons
    return scores


def by_reason(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    return {row["failure"]: row for row in table.to_dict("records")}


def test_failures_are_counted_by_reason_and_together() -> None:
    scores = graded(unparsable=6, truncated=2, no_attempts=5, not_located=2)
    found = by_reason(failure_table({("open", ARMS): scores}, 0.95))
    assert list(found) == list(FAILURES)
    counts = {reason: row["n_failed"] for reason, row in found.items() if row["n_failed"]}
    assert counts == {ANY: 10, "unparsable": 6, "truncated": 2, "not_located": 2}
    assert found["unparsable"]["percent"] == pytest.approx(3)
    assert found[ANY]["low"] < 5 < found[ANY]["high"] < 15
    assert {row["n"] for row in found.values()} == {N}
    never = found["refused"]
    assert (never["percent"], never["low"], never["status"]) == (0, 0, "no_variation")
    assert never["high"] > 100 * 3 / N, "correlated trials bound a zero less than independent ones"


def test_a_trial_without_a_response_is_no_failure_of_the_judge() -> None:
    scores = graded(unparsable=4)
    scores.loc[scores["status"].eq("ok"), ["status", "restart_detected"]] = ["engine_error", pd.NA]
    scores.loc[100:, "status"] = "ok"
    scores.loc[100:, "restart_detected"] = False
    found = by_reason(failure_table({("open", ARMS): scores}, 0.95))
    shown = scores["restart_detected"].notna().sum()
    assert found["unparsable"]["n"] == shown < N
    nothing = scores.assign(restart_detected=pd.NA)
    empty = by_reason(failure_table({("open", ARMS): nothing}, 0.95))[ANY]
    assert empty["n"] == 0
    assert empty["status"] == "undefined"
    assert pd.isna(empty["percent"])


def test_trials_without_a_latent_are_no_common_cluster() -> None:
    scores = graded(unparsable=20)
    alone = scores.assign(latent=pd.array([pd.NA] * N, "Int64"), prompt_id=range(N))
    alone["prompt_id"] = alone["prompt_id"].astype(str)
    row = by_reason(failure_table({("open", ARMS): alone}, 0.95))[ANY]
    values = alone["status"].ne("ok").to_numpy(float)
    expected = crossed_rate(values, [alone.index.to_numpy()] * 2).interval
    assert row["low"] == pytest.approx(100 * expected.low)
    assert row["status"] == "ok"


def test_the_sample_counts_in_population_weights() -> None:
    scores = graded(unparsable=50)
    scores["weight"] = scores["status"].eq("ok").map({True: 9.0, False: 1.0})
    row = by_reason(failure_table({("second", SAMPLE): scores}, 0.95))["unparsable"]
    assert row["percent"] == pytest.approx(100 * 50 / (50 + 9 * 150))
    assert row["low"] < row["percent"] < row["high"]


def test_more_than_5_percent_is_a_warning_that_names_judge_and_reasons() -> None:
    tables = {
        count: failure_table(
            {("open", ARMS): graded(unparsable=count, refused=2), ("b", SAMPLE): graded()}, 0.95
        )
        for count in (8, 9)
    }
    assert failure_note(tables[8]) == "", f"{MOST} % is not above it"
    note = failure_note(tables[9])
    assert note.startswith("Judge open failed on 5.5 % [")
    assert "of 200 responses of all arms, more than 5 %: 9 unparsable, 2 refused." in note


def test_the_report_shows_the_warning_and_the_table(tmp_path: Path) -> None:
    table = failure_table({("open", ARMS): graded(unparsable=30)}, 0.95)
    made = study(6)
    changed: dict[str, Any] = {"tables": {**made.tables, "judge_failures": table}}
    changed["warnings"] = {"judge_failures": failure_note(table), "drift": ""}
    build(replace(made, **changed), TEMPLATES, tmp_path)
    index = (tmp_path / "index.html").read_text()
    assert index.count("Warning.") == 1
    assert "Judge open failed on 15.0 %" in index
    assert 'href="tables.html#judge_failures"' in index
    assert "Responses that a judge failed to judge" in (tmp_path / "tables.html").read_text()

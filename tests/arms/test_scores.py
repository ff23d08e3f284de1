"""esr.arms.scores: from a plan, its responses and their judgments to one row a trial."""

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esr.analysis.measures import exclusions
from esr.arms.plan import CONDITION
from esr.arms.scores import JUDGED, check_scores, score_trials
from esr.errors import EsrError
from esr.judges.base import Attempt, Judgment, judgments_table
from esr.tables import TABLES, read_table, write_table

PHRASES = re.compile("wait, that", re.IGNORECASE)
Arm = tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]


def judgment(*scores: float, status: str = "ok") -> Judgment:
    """A judgment with attempts of ten characters each."""
    attempts = [Attempt(10 * i, 10 * i + 10, score) for i, score in enumerate(scores)]
    return Judgment(status, tuple(attempts))


def arm_of(judgments: list[Judgment], responses: list[str | None] | None = None) -> Arm:
    """Plan, responses and judgments of an arm; a response of None failed."""
    texts = responses or ["Bread is baked."] * len(judgments)
    ids = [f"t{i}" for i in range(len(judgments))]
    condition: dict[str, Any] = dict.fromkeys(CONDITION) | {"prefill": "", "ablated": []}
    condition |= {"model": "m", "arm": "steered"}
    plan = pd.DataFrame(
        [
            {"trial_id": name, "prompt_id": "p", "latent": 7, "boost": 1.5, "seed": i}
            | condition
            | {"prompt": "Explain how to bake."}
            for i, name in enumerate(ids)
        ]
    )
    table = pd.DataFrame(
        {
            "trial_id": ids,
            "status": ["engine_error" if text is None else "ok" for text in texts],
            "response": texts,
            "prefix_end": pd.array([None] * len(ids), dtype="Int64"),
        }
    )
    return plan, table, judgments_table(ids, judgments, "lexical")


def scored(*arguments: Any) -> pd.DataFrame:
    return score_trials(*arm_of(*arguments), PHRASES, "lexical")


def test_first_and_last_attempt_are_those_in_the_response() -> None:
    row = scored([judgment(20, 90, 60)]).iloc[0]
    assert row[["status", *JUDGED]].tolist() == ["ok", 3, 20, 60, 40, True, True]


def test_every_row_names_its_model_arm_and_judge() -> None:
    table = scored([judgment(20, 90), judgment(status="refused")])
    assert table[["model", "arm", "judge"]].to_numpy().tolist() == [["m", "steered", "lexical"]] * 2


def test_models_share_trial_ids_and_one_table_may_hold_both() -> None:
    table = scored([judgment(20, 90)])
    check_scores(pd.concat([table, table.assign(model="other")]))
    with pytest.raises(EsrError, match="trial_id is repeated"):
        check_scores(pd.concat([table, table]))


def test_a_single_attempt_changes_nothing() -> None:
    row = scored([judgment(35)]).iloc[0]
    assert row[["status", *JUDGED]].tolist() == ["ok", 1, 35, 35, 0, False, False]


@pytest.mark.parametrize("last", [50, 20])
def test_an_attempt_that_is_not_better_is_no_improvement(last: int) -> None:
    row = scored([judgment(50, last)]).iloc[0]
    assert (row["multi_attempt"], row["improved"]) == (True, False)


def test_attempts_are_ordered_by_their_number_not_by_their_row() -> None:
    plan, responses, judgments = arm_of([judgment(20, 90), judgment(70, 10, 40)])
    shuffled = judgments.sample(frac=1, random_state=3)
    expected = score_trials(plan, responses, judgments, PHRASES, "lexical")
    found = score_trials(plan, responses, shuffled, PHRASES, "lexical")
    pd.testing.assert_frame_equal(found, expected)


def test_a_trial_without_a_score_is_missing_not_zero() -> None:
    table = scored([judgment(status="refused"), judgment(status="no_attempts"), judgment(40)])
    assert table["status"].tolist() == ["refused", "no_attempts", "ok"]
    assert table.loc[:1, JUDGED].isna().all(axis=None)


def test_attempts_of_a_judgment_that_failed_are_not_scores() -> None:
    row = scored([judgment(20, 90, status="not_located")]).iloc[0]
    assert row["status"] == "not_located"
    assert row[JUDGED].isna().all()


def test_a_response_that_failed_gives_its_own_reason() -> None:
    row = scored([judgment(80, status="ok")], [None]).iloc[0]
    assert row["status"] == "engine_error"
    assert row[[*JUDGED, "restart_detected", "degraded"]].isna().all()


def test_checks_without_a_judge_are_made_whatever_the_judge_did() -> None:
    responses = ["Cats. WAIT, THAT is wrong. Bread.", "no " * 5, ""]
    table = scored([judgment(status="refused")] * 3, responses)
    assert table["restart_detected"].tolist() == [True, False, False]
    assert table["degraded"].tolist() == [False, True, False]


OUTCOMES = st.sampled_from(["ok", "refused", "unparsable"]).flatmap(
    lambda status: st.lists(
        st.integers(0, 100), min_size=int(status == "ok"), max_size=4 * int(status == "ok")
    ).map(lambda scores: judgment(*scores, status=status))
)


@given(st.lists(OUTCOMES, min_size=1, max_size=10))
@settings(max_examples=40)
def test_trials_in_are_trials_out_by_reason(judgments: list[Judgment]) -> None:
    table = scored(judgments)
    counts = exclusions(table).set_index("status")["n"]
    assert counts["total"] == len(judgments)
    assert counts.drop("total").sum() == len(judgments)
    for status in {each.status for each in judgments}:
        assert counts[status] == sum(each.status == status for each in judgments)


def test_the_table_survives_the_file(tmp_path: Path) -> None:
    table = scored([judgment(20, 90), judgment(status="refused"), judgment(40)])
    write_table(table, tmp_path / "scores.parquet", "scores", {})
    back = read_table(tmp_path / "scores.parquet", "scores")
    assert list(back) == list(TABLES["scores"].columns)
    pd.testing.assert_frame_equal(back[JUDGED], table[JUDGED])
    assert exclusions(back).equals(exclusions(table))


@pytest.mark.parametrize("which", ["responses", "judgments"])
def test_a_trial_that_is_missing_is_an_error(which: str) -> None:
    plan, responses, judgments = arm_of([judgment(20), judgment(30)])
    tables = {"responses": responses, "judgments": judgments}
    tables[which] = tables[which].iloc[:1]
    with pytest.raises(EsrError, match=f"{which}: 1 planned trials missing"):
        score_trials(plan, tables["responses"], tables["judgments"], PHRASES, "lexical")


@pytest.mark.parametrize("column", ["attempt", "score"])
def test_a_judged_trial_that_lacks_a_score_is_an_error(column: str) -> None:
    plan, responses, judgments = arm_of([judgment(20, 90)])
    judgments[column] = judgments[column].astype("Float64")
    judgments.loc[1, column] = pd.NA
    with pytest.raises(EsrError, match=r"\['t0'\]"):
        score_trials(plan, responses, judgments, PHRASES, "lexical")

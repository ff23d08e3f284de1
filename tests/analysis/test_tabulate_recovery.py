"""The table of recovery: one row a model, arm and measure, with its excess over the null."""

import pandas as pd
import pytest

from esr.analysis.ways import of_way
from helpers.arms import FAST, arm
from helpers.checkout import load_script

script = load_script("tabulate_recovery")
summary = load_script("tabulate_summary")


def cells() -> pd.DataFrame:
    """Two models; no restart phrase opens an attempt."""
    parts = [arm(events=3).assign(model=name, arm="steered") for name in "ab"]
    scores = pd.concat(parts, ignore_index=True)
    return scores.assign(gated_attempts=1, gated_last_score=scores["first_score"])


@pytest.fixture(scope="module")
def ways() -> pd.DataFrame:
    second = cells().assign(weight=1.0, judge="second")
    return script.tabulate(cells(), FAST, pd.concat([second, second.assign(arm="other")]))


@pytest.fixture(scope="module")
def table(ways: pd.DataFrame) -> pd.DataFrame:
    return of_way(ways)


def test_every_model_has_its_three_measures(table: pd.DataFrame) -> None:
    assert table.groupby("model")["measure"].agg(list).to_dict() == {
        name: ["success_rate", "esr_rate", "msi"] for name in "ab"
    }
    assert table["excess"].to_numpy() == pytest.approx(table["observed"] - table["null"])


def test_where_all_first_attempts_score_the_same_every_gain_is_excess(table: pd.DataFrame) -> None:
    rows = table[table["model"].eq("a")].set_index("measure")
    assert rows.loc["success_rate", ["observed", "null"]].tolist() == [100, 0]
    assert rows.loc["msi", "excess"] == pytest.approx(0.3 * 30)


def test_every_way_that_has_scores_has_recovery(ways: pd.DataFrame) -> None:
    assert ways["way"].unique().tolist() == ["primary", "gated", "second"]
    assert ways["arm"].eq("steered").all()
    # The second judge graded the same; without a restart phrase the gate leaves one attempt.
    by = ways.set_index(["way", "model", "measure"])["excess"]
    assert by["second"].to_dict() == pytest.approx(by["primary"].to_dict())
    assert by[("gated", "a", "msi")] == 0


def test_the_summary_shows_the_excess_of_arms_that_have_one(ways: pd.DataFrame) -> None:
    measures = ["first_score", "success_rate", "msi"]
    rows = [
        {"way": "primary", "model": "a", "arm": name, "measure": measure}
        for name in ("steered", "unsteered")
        for measure in measures
    ]
    joined = summary.with_excess(pd.DataFrame(rows), ways, summary.KEY)
    found = joined.set_index(["arm", "measure"])["excess"]
    assert found[("steered", "msi")] == pytest.approx(0.3 * 30)
    assert found.drop([("steered", "success_rate"), ("steered", "msi")]).isna().all()
    assert [summary.excess(row)[:3] for _, row in joined.iloc[2:4].iterrows()] == ["9.0", "-"]


def test_what_is_printed_has_labels_and_an_interval(table: pd.DataFrame) -> None:
    shown = script.printed(table)
    assert shown["measure"].iloc[0] == "Success rate"
    assert shown["excess"].str.contains(r"\[").all()

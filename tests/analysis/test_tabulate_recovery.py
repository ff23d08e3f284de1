"""The table of recovery: one row a model, arm and measure, with its excess over the null."""

import pandas as pd
import pytest

from helpers.arms import FAST, arm
from helpers.checkout import load_script

script = load_script("tabulate_recovery")


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    cells = [arm(events=3).assign(model=name, arm="steered") for name in "ab"]
    return script.tabulate(pd.concat(cells, ignore_index=True), FAST)


def test_every_model_has_its_three_measures(table: pd.DataFrame) -> None:
    assert table.groupby("model")["measure"].agg(list).to_dict() == {
        name: ["success_rate", "esr_rate", "msi"] for name in "ab"
    }
    assert table["excess"].to_numpy() == pytest.approx(table["observed"] - table["null"])


def test_where_all_first_attempts_score_the_same_every_gain_is_excess(table: pd.DataFrame) -> None:
    rows = table[table["model"].eq("a")].set_index("measure")
    assert rows.loc["success_rate", ["observed", "null"]].tolist() == [100, 0]
    assert rows.loc["msi", "excess"] == pytest.approx(0.3 * 30)


def test_what_is_printed_has_labels_and_an_interval(table: pd.DataFrame) -> None:
    shown = script.printed(table)
    assert shown["measure"].iloc[0] == "Success rate"
    assert shown["excess"].str.contains(r"\[").all()

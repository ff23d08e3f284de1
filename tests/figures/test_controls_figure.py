"""Figure B2: arms along other directions or for a part of the tokens, beside the steered arm."""

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from helpers.arms import FAST, arm
from helpers.checkout import load_script
from helpers.scores import stack

MODELS: dict[str, dict[str, Any]] = {"large": {"label": "Large", "parameters": 1e9}}
REPLAYS = {"random": "steered", "own-trials": None, "absent": "steered"}

script = load_script("plot_figB2")


def table() -> pd.DataFrame:
    """`random` corrects itself in fewer trials than `steered`; `absent` was not run."""
    arms = {"steered": arm(9), "random": arm(1), "own-trials": arm(2)}
    scores = stack({name: {"large": scores} for name, scores in arms.items()})
    found: pd.DataFrame = script.figure_table(scores, MODELS, REPLAYS, FAST)
    return found


def of(rows: pd.DataFrame, kind: str, name: str, measure: str = "esr_rate") -> pd.DataFrame:
    return rows[rows["kind"].eq(kind) & rows["arm"].eq(name) & rows["measure"].eq(measure)]


def test_an_arm_that_replays_is_paired_with_what_it_replays() -> None:
    rows = table()
    values = {name: of(rows, "arm", name)["value"].item() for name in ("steered", "random")}
    change = of(rows, "difference", "random")
    assert change["value"].item() == pytest.approx(values["random"] - values["steered"])
    assert change["high"].item() < 0
    assert change["against"].item() == "steered"


def test_an_arm_of_its_own_trials_has_no_difference() -> None:
    rows = table()
    assert of(rows, "arm", "own-trials")["value"].notna().all()
    assert of(rows, "difference", "own-trials").empty


def test_an_arm_that_was_not_run_has_a_status_and_no_number() -> None:
    rows = table()
    absent = of(rows, "arm", "absent")
    assert absent["status"].item() == "not_run"
    assert absent["value"].isna().all()
    assert of(rows, "difference", "absent").empty


def test_every_arm_is_a_line_and_what_is_missing_is_named() -> None:
    figure = script.draw(table(), "Title", 0.95)
    figure.draw_without_rendering()
    written = [text.get_text() for text in figure.findobj(plt.Text)]
    plt.close(figure)
    assert {"steered", *REPLAYS} <= set(written)
    assert written.count("not run") == len(script.SHOWN)


def test_a_study_without_controls_has_a_note() -> None:
    scores = stack({"steered": {"large": arm(2)}})
    figure = script.draw(script.figure_table(scores, MODELS, {}, FAST), "Title", 0.95)
    written = " ".join(text.get_text() for text in figure.findobj(plt.Text)).replace("\n", " ")
    plt.close(figure)
    assert "No arm steers or ablates in another way" in written

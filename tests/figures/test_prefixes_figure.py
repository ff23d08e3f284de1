"""Figure B3: restarts and scores after prefixes, by arm and by length of the prefix."""

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from helpers.arms import FAST, LATENTS, PER_LATENT, arm
from helpers.checkout import load_script
from helpers.scores import stack

MODELS: dict[str, dict[str, Any]] = {
    "large": {"label": "Large", "parameters": 1e9},
    "small": {"label": "Small", "parameters": 1e6},
}
ARMS = {"prefix": {"steered": True}, "off": {"steered": False}}

script = load_script("plot_figB3")


def continued(events: int, where: str, cuts: list[int | None]) -> pd.DataFrame:
    cut = (cuts * LATENTS * PER_LATENT)[: LATENTS * PER_LATENT]
    found: pd.DataFrame = arm(events).assign(prefix_where=where)
    return found.assign(prefix_cut=pd.array(cut, dtype="Int64"))


def table() -> pd.DataFrame:
    """The large model restarts in 6 and 2 of 10 trials; the small one has no such arm."""
    arms = {
        "prefix": continued(6, "off_topic", [60, 120]),
        "off": continued(2, "correction", [None]),
    }
    scores = stack({name: {"large": scores} for name, scores in arms.items()})
    found: pd.DataFrame = script.figure_table(scores, ARMS, MODELS, FAST)
    return found


def test_every_arm_has_its_rate_and_each_length_of_prefix_its_own() -> None:
    rows = table()
    restarts = rows[rows["measure"].eq("multi_attempt_rate") & rows["model"].eq("large")]
    whole = restarts[restarts["cut"].isna()].set_index("arm")
    assert whole["value"].to_dict() == pytest.approx({"prefix": 60, "off": 20})
    assert whole["steered"].to_dict() == {"prefix": True, "off": False}
    assert whole["where"].to_dict() == {"prefix": "off_topic", "off": "correction"}
    cuts = restarts[restarts["cut"].notna()]
    assert cuts["arm"].tolist() == ["prefix", "prefix"]
    assert cuts["n"].sum() == whole.loc["prefix", "n"]
    assert (cuts["value"] * cuts["n"]).sum() / cuts["n"].sum() == pytest.approx(60)


def test_a_model_without_such_arms_has_a_status_and_a_panel_that_shows_it() -> None:
    rows = table()
    small = rows[rows["model"].eq("small")]
    assert small["status"].eq("not_run").all()
    assert small["value"].isna().all()
    figure = script.draw(rows, "Title", 0.95)
    figure.draw_without_rendering()
    written = [text.get_text() for text in figure.findobj(plt.Text)]
    plt.close(figure)
    assert {"prefix", "off", "Large", "Small"} <= set(written)
    assert written.count("not run:\nno arm continues texts") == len(script.SHOWN)


def test_a_study_without_any_prefix_has_its_figure_too() -> None:
    empty = table().iloc[:0].reindex(columns=["model", "arm"])
    rows = script.figure_table(empty, {}, MODELS, FAST)
    assert rows["status"].eq("not_run").all()
    plt.close(script.draw(rows, "Title", 0.95))

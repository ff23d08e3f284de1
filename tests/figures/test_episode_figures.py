"""Figures 7, A5 and A6 and their tables from traces made by hand, also where there is nothing."""

from types import SimpleNamespace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from esr.config import EpisodesConfig, StatisticsConfig
from esr.episodes.contrasts import KINDS
from esr.episodes.traces import Traces
from helpers.checkout import load_script
from helpers.traces import made, many

fig7, fig_a5 = load_script("plot_fig7"), load_script("plot_figA5")
fig_a6, tables = load_script("plot_figA6"), load_script("tabulate_activation")

CONFIG: Any = SimpleNamespace(
    episodes=EpisodesConfig(window=4, smoothing_window=2),
    statistics=StatisticsConfig(bootstrap=100),
    models={name: SimpleNamespace(label=name.title()) for name in ("planted", "twin")},
)
BOTH = dict.fromkeys(KINDS, 2)
CASES = {
    "two kinds": many(kinds=BOTH),
    "no detectors": many(kinds={"backtracking": 1}),
    "no backtracking latents": many(),
    "no self-corrections": made(*[("baseline", "nnn", [0.1, 0.0, 0.2])] * 4, kinds=BOTH),
    "one episode": made(("episode", "ooccnn", [1.0] * 6), kinds=BOTH),
    "nothing": made(),
}


def texts(figure: Figure) -> str:
    return " | ".join(
        text.get_text()  # pyrefly: ignore[missing-attribute]
        for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))
    )


def responses_of(traces: Traces) -> pd.DataFrame:
    longest = 2 * (traces.activations["position"].max() + 1) if len(traces.activations) else 0
    trials = traces.episodes["trial_id"]
    return pd.DataFrame({"trial_id": trials, "response": ["ab" * int(longest or 0)] * len(trials)})


@pytest.fixture(params=CASES, name="study")
def _study(request: pytest.FixtureRequest) -> dict[str, Traces]:
    return {"planted": CASES[request.param], "twin": CASES["nothing"]}


def drawn(figure: Figure) -> str:
    found = texts(figure)
    figure.draw_without_rendering()
    plt.close(figure)
    return found


def test_figure_7_is_drawn_whatever_there_is(study: dict[str, Traces]) -> None:
    responses = {model: responses_of(traces) for model, traces in study.items()}
    table = fig7.figure_table(study, responses, window=4)
    found = drawn(fig7.draw(table, {"planted": "Planted", "twin": "Twin"}, "T"))
    if table["status"].eq("ok").any():
        assert list(dict.fromkeys(table["region"])) == ["off_topic", "correction", "on_topic"]
    else:
        assert "no self-correction in: Planted, Twin" in found


def test_figure_a5_is_drawn_whatever_there_is(study: dict[str, Traces]) -> None:
    table = fig_a5.figure_table(study, CONFIG)
    found = drawn(fig_a5.draw(table, "T", 0.95))
    assert "no self-corrections" in found
    assert table.loc[table["value"].isna(), "status"].ne("ok").all()


def test_figure_a6_is_drawn_whatever_there_is(study: dict[str, Traces]) -> None:
    table = fig_a6.figure_table(study, CONFIG)
    found = drawn(fig_a6.draw(table, "T", 0.95))
    assert "n/a" in found
    twin = table[table["model"].eq("twin")]
    assert twin["value"].isna().all()
    assert twin["status"].isin(["no_latents", "no_backtracking_latents", "undefined"]).all()


def test_tables_are_printed_whatever_there_is(study: dict[str, Traces]) -> None:
    for name, make in tables.PARTS.items():
        parts = [make(traces, CONFIG) for traces in study.values()]
        table = pd.concat(parts, ignore_index=True)
        shown = tables.printed(name, table)
        assert len(shown) == len(table)
        assert not shown.map(str).isin(["nan", "NaN", "<NA>"]).any(axis=None)


class TestFigure7:
    def test_the_episode_of_median_length_is_shown(self) -> None:
        lengths = [3, 9, 5, 4, 7]
        traces = made(*[("episode", "oc" + "n" * (n - 2), [1.0] * n) for n in lengths])
        assert fig7.typical_episode(traces) == "t2"

    def test_no_episode_is_shown_on_which_latents_were_chosen(self) -> None:
        assert fig7.typical_episode(made(("episode", "ocn", [1.0] * 3), held_out=False)) is None

    def test_the_table_is_the_text_with_its_sums(self) -> None:
        traces = made(("episode", "ocn", [1.0, 2.0, 3.0]), kinds={"detector": 2})
        response = pd.DataFrame({"trial_id": ["t0"], "response": ["abcdef"]})
        table = fig7.figure_table({"m": traces}, {"m": response}, window=9)
        assert table["text"].tolist() == ["ab", "cd", "ef"]
        assert table["detector"].tolist() == [1, 2, 3]
        assert table["backtracking"].isna().all()

    def test_a_long_response_is_cut_around_the_correction(self) -> None:
        traces = made(("episode", "o" * 20 + "c" + "n" * 20, [1.0] * 41))
        table = fig7.figure_table({"m": traces}, {"m": responses_of(traces)}, window=3)
        assert table["position"].tolist() == [17, 18, 19, 20, 21, 22, 23]


def test_bars_and_effects_of_figure_a6_equal_those_of_the_traces() -> None:
    table = fig_a6.figure_table({"planted": many(kinds=BOTH)}, CONFIG)
    marks = table[table["kind"].eq("detector")].set_index("mark")
    assert marks.loc["unrestarted", "value"] == pytest.approx(3.5, abs=0.3)
    assert marks.loc["off_topic - baseline", "low"] > 0
    assert np.isfinite(marks.loc["off_topic - on_topic", "p_holm"])

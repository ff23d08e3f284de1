"""An (arm, measure) has one interval, and a test one p-value, wherever a study shows them."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest

from esr.analysis.claims import CLAIM
from esr.analysis.comparisons import compare
from esr.analysis.contrasts import contrast_table
from esr.analysis.graded import corrected_table
from esr.analysis.simulation import draw_study
from esr.analysis.specs import ArmSpec, StudySpec
from esr.analysis.summaries import comparison_table, summary_table
from esr.analysis.verdicts import score, with_family
from esr.analysis.ways import views
from esr.config import StatisticsConfig
from esr.figures.ablation import compare_detectors
from helpers.arms import RANDOM_SETS
from helpers.checkout import load_script

SETTINGS = StatisticsConfig(bootstrap=200)
MODELS = {"m": {"label": "M", "parameters": 1e6}}
REPLAYS = {"ablate-otd": "steered", "meta-plain": "steered"}
ARMS = {
    "steered": ArmSpec(multi=0.06),
    "unsteered": ArmSpec(multi=0.0, first=95),
    "ablate-otd": ArmSpec(multi=0.02),
    "meta-plain": ArmSpec(multi=0.10),
}
ENDS = ["low", "high"]
Shown = tuple[str, str, float, float]
"""Arm (or `arm - against`), measure and interval."""


@pytest.fixture(scope="module")
def scores() -> pd.DataFrame:
    """The organism's design: 36 latents, 16 of 24 prompts each; no second attempt unsteered."""
    drawn = draw_study(StudySpec(36, 16, 24, ARMS, rho=0.1), 3)["primary"]
    parts = [table.assign(model="m", arm=arm) for arm, table in drawn.items()]
    table = pd.concat(parts, ignore_index=True)
    coded = table.select_dtypes("category").columns  # those of a study are texts
    return table.astype(dict.fromkeys(coded, object))


@pytest.fixture(scope="module")
def tables(scores: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Tables and data of figures, by file."""
    names = ("plot_fig2", "plot_fig4", "plot_figA7", "tabulate_robustness")
    fig2, fig4, fig_a7, robustness = map(load_script, names)
    steered = scores[scores["arm"].eq("steered")]
    view = views(scores)[0]
    return {
        "summary": summary_table(scores, SETTINGS),
        "comparisons": comparison_table(scores, REPLAYS, SETTINGS),
        "contrasts": contrast_table(view, MODELS, {"m": 4}, RANDOM_SETS, {}, SETTINGS),
        "corrected": corrected_table(scores, None, "no_reference", REPLAYS),
        "robustness": robustness.robustness(steered, SETTINGS, {}),
        "fig2": fig2.figure_table(steered, MODELS, SETTINGS),
        "fig4": fig4.figure_table(scores, MODELS, {"meta-plain": "{prompt}"}, SETTINGS),
        "fig5": compare_detectors(scores, 4, SETTINGS),
        "figA7": fig_a7.figure_table(scores, MODELS, SETTINGS),
    }


def shown(tables: dict[str, pd.DataFrame]) -> Iterator[tuple[str, Shown]]:
    """Every interval of an arm or of a difference: where it is shown, and what."""

    def rows(
        name: str, arm: str, table: pd.DataFrame, ends: list[str] = ENDS
    ) -> Iterator[tuple[str, Shown]]:
        for row in table.dropna(subset=ends[0]).to_dict("records"):
            yield name, (row.get("arm", arm), row["measure"], row[ends[0]], row[ends[1]])

    yield from rows("summary", "", tables["summary"])
    yield from rows("fig2", "steered", tables["fig2"])
    raw = tables["corrected"].query("kind == 'rate'")
    yield from rows("corrected", "", raw, ["raw_low", "raw_high"])
    main = tables["robustness"].query("check == 'main'").rename(columns={"quantity": "measure"})
    yield from rows("robustness", "steered", main)
    for name in ("figA7", "contrasts", "fig5"):
        table = tables[name][tables[name]["arm"].isin(ARMS)]
        yield from rows(name, "", table[table["kind"].ne("difference")])
    for name in ("fig4", "comparisons"):
        changes = tables[name][tables[name]["arm"].isin(REPLAYS)]
        yield from rows(name, "", changes.assign(arm=changes["arm"] + " - steered"))
    changes = tables["corrected"].query("kind == 'difference'")
    changes = changes.assign(arm=changes["arm"] + " - " + changes["against"])
    yield from rows("corrected", "", changes, ["raw_low", "raw_high"])
    for name in ("figA7", "contrasts", "fig5"):
        yield from rows(name, "", tables[name][tables[name]["arm"].str.contains(" - ", na=False)])


def test_an_arm_and_a_measure_have_one_interval_wherever_they_are_shown(
    tables: dict[str, pd.DataFrame],
) -> None:
    found: dict[tuple[str, str], dict[str, tuple[float, float]]] = {}
    for where, (arm, measure, low, high) in shown(tables):
        found.setdefault((arm, measure), {})[where] = (low, high)
    for key, places in found.items():
        first = next(iter(places.values()))
        for where, ends in places.items():
            assert ends == pytest.approx(first, abs=1e-9), (key, where, places)
    assert len(found["steered", "multi_attempt_rate"]) >= 6
    assert len(found["unsteered", "multi_attempt_rate"]) >= 4
    assert len(found["ablate-otd - steered", "multi_attempt_rate"]) >= 3


def test_no_event_has_the_documented_upper_end_in_the_scorecard_too(
    tables: dict[str, pd.DataFrame],
) -> None:
    claim = dict.fromkeys(CLAIM, "") | {
        "claim": "none",
        "source": "here",
        "table": "tables/contrasts.csv",
        "where": "kind=unsteered; arm=unsteered; measure=multi_attempt_rate; model=m",
        "statistic": "value",
        "upper": 5.0,
        "lower": np.nan,
        "null": 10.0,
    }
    card = score(pd.DataFrame([claim]), {"tables/contrasts.csv": tables["contrasts"]}).iloc[0]
    row = tables["summary"].query("arm == 'unsteered' and measure == 'multi_attempt_rate'").iloc[0]
    assert (card["low"], card["high"]) == (0, row["high"])
    assert row["high"] == pytest.approx(3.4, abs=0.05), "docs/method.md"
    assert card["primary_verdict"] == "confirmed"


def test_a_test_has_one_adjusted_p_value(
    scores: pd.DataFrame, tables: dict[str, pd.DataFrame]
) -> None:
    path = "tables/comparisons.csv"
    claim = dict.fromkeys(CLAIM, "") | {
        "claim": "less",
        "source": "here",
        "table": path,
        "where": "model=m; arm=ablate-otd; measure=multi_attempt_rate",
        "statistic": "difference",
        "upper": 0.0,
        "lower": np.nan,
        "null": 0.0,
        "family": "yes",
    }
    claims = pd.DataFrame([claim])
    table = tables["comparisons"].assign(way="primary")
    written = with_family(table, path, claims, {})
    card = score(claims, {path: written}).iloc[0]
    given = written["p_holm"].dropna()
    assert given.tolist() == [card["primary_p_holm"]]
    adjusted = [name for name, each in tables.items() if any("holm" in c for c in each.columns)]
    assert adjusted == [], "only the tables with a family have a value"
    arms = dict(iter(scores.groupby("arm")))
    alone = compare(arms["steered"], arms["ablate-otd"], ["multi_attempt_rate"], seed=SETTINGS.seed)
    assert given.tolist() == alone["p_value"].tolist(), "a family of one"

"""Every table and figure of scores, for a study of one model that lacks something each time.

An arm removed, no trial with a second attempt, no trial scored, no detectors: tables are made and
figures are drawn, and what was not done has no number.
"""

import re
from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from esr.analysis.contrasts import contrast_table
from esr.analysis.implicit import without_attempts
from esr.analysis.summaries import comparison_table, exclusion_table, summary_table
from esr.analysis.ways import by_way, of_way, views
from esr.arms.attempts import NOT_LOCATED
from esr.arms.responses import NO_DETECTORS
from esr.arms.scores import GATED, JUDGED
from esr.config import Config, StatisticsConfig
from esr.figures.ablation import compare_detectors, compare_random_sets
from esr.judges.base import FAILED
from esr.judges.human import NOT_LABELLED
from helpers.arms import RANDOM_SETS
from helpers.checkout import load_script
from helpers.scores import scores_of
from helpers.studies import load_study

MODELS: dict[str, dict[str, Any]] = {"planted": {"label": "US$ 5 $", "parameters": 1e6}}
ARMS = ["steered", "steered-30", "unsteered", "ablate-otd", "ablate-random-0", "ablate-random-1"]
ARMS += ["meta-self-monitor"]
PRIMARY = ["steered", "steered-30", "boost-sweep"]
"""Arms that draw trials of their own; the others replay `steered`."""
FAST = StatisticsConfig(bootstrap=50)
STATUSES = [*sorted(FAILED), NOT_LOCATED, NOT_LABELLED, "no_attempts", "no_topic"]
STATUSES += ["engine_error", "unfinished_thought", NO_DETECTORS]
"""Every reason for which a trial has no score."""


def whole() -> pd.DataFrame:
    """A study of one model with all its arms; a third of the trials try again."""
    attempts = [[20.0, 80.0], [40.0], [60.0]] * 4
    parts = [scores_of(attempts, per_latent=3).assign(arm=arm) for arm in ARMS]
    for level in (-1.0, 0.0, 1.0):
        swept = scores_of(attempts, per_latent=3).assign(arm="boost-sweep", sweep_level=level)
        parts.append(swept.assign(boost=10 + level, trial_id=swept["trial_id"] + f"/{level}"))
    return pd.concat(parts, ignore_index=True).assign(model="planted")


def without(*arms: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda scores: scores[~scores["arm"].isin(arms)].reset_index(drop=True)


def without_a_second_attempt(scores: pd.DataFrame) -> pd.DataFrame:
    arms = [
        scores_of([[40.0]] * len(of_arm), per_latent=3).assign(
            **{name: of_arm[name].to_numpy() for name in ("arm", "trial_id", "boost", "latent")},
            sweep_level=of_arm["sweep_level"].to_numpy(),
            prompt_id=of_arm["prompt_id"].to_numpy(),
            seed=of_arm["seed"].to_numpy(),
        )
        for _, of_arm in scores.groupby("arm", sort=False)
    ]
    return pd.concat(arms, ignore_index=True).assign(model="planted")


def unscored(*arms: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """No trial of these arms (of all arms if there is none) has a score; every status occurs."""

    def changed(scores: pd.DataFrame) -> pd.DataFrame:
        hit = scores["arm"].isin(arms or scores["arm"].unique())
        scores.loc[hit, "status"] = np.resize(STATUSES, int(hit.sum()))
        scores.loc[hit, [*JUDGED, *GATED]] = pd.NA
        return scores

    return changed


LACKING: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "no detectors or random sets ablated": without(*[arm for arm in ARMS if "ablate" in arm]),
    "no sweep, no other target": without("boost-sweep", "steered-30"),
    "no meta-prompt, no unsteered arm": without("meta-self-monitor", "unsteered"),
    "no second attempt": without_a_second_attempt,
    "nothing scored": unscored(),
    "one arm not scored": unscored("meta-self-monitor", "unsteered", "ablate-otd"),
}


@pytest.fixture(scope="module")
def config() -> Config:
    return load_study({"models": {"twin": None}, "finetune": {"models": []}})


def tables_of(scores: pd.DataFrame, config: Config, found: int) -> dict[str, pd.DataFrame]:
    """All tables of scores, each in its printed form, too."""
    ways = views(scores)[:1]  # the other ways have tests of their own
    replays = {arm: "steered" for arm in scores["arm"].unique() if arm not in PRIMARY}
    models, recovery = load_script("tabulate_models"), load_script("tabulate_recovery")
    robustness, contrasts = load_script("tabulate_robustness"), load_script("tabulate_contrasts")
    tables = {
        "comparisons": by_way(
            ways, lambda way: comparison_table(way.scores, replays, FAST, list(way.measures))
        ),
        "models": by_way(ways, lambda way: models.tabulate(way, config)),
        "contrasts": by_way(
            ways, lambda way: contrast_table(way, MODELS, {"planted": found}, RANDOM_SETS, {}, FAST)
        ),
        "recovery": recovery.tabulate(scores[scores["arm"].isin(PRIMARY[:2])], FAST),
    }
    steered = scores[scores["arm"].isin(PRIMARY[:2])]
    robustness.printed(robustness.robustness(steered, FAST, config.other_targets))
    robustness.printed(without_attempts(steered, None, 50))
    for script, name in ((models, "models"), (recovery, "recovery"), (contrasts, "contrasts")):
        script.printed(of_way(tables[name]))
    load_script("tabulate_comparisons").printed(of_way(tables["comparisons"]).assign(p_holm=np.nan))
    assert exclusion_table(scores).query("status == 'total'")["n"].sum() == len(scores)
    return tables | {"summary": summary_table(scores, FAST)}


def check(figure: Figure) -> None:
    """No text of a figure is a missing number."""
    texts = [text.get_text() for text in figure.findobj(Text)]
    assert not [text for text in texts if re.search(r"\bnan\b|<NA>|\bNone\b", text)]
    plt.close(figure)


def draw_all(scores: pd.DataFrame, found: int) -> None:
    """Build every figure of scores."""
    for name in ("fig2", "fig3", "figA7", "figA8"):
        script = load_script(f"plot_{name}")
        chosen = scores[scores["arm"].eq("boost-sweep") == (name == "fig3")]
        chosen = chosen[chosen["arm"].isin(["steered"])] if name == "fig2" else chosen
        check(script.draw(script.figure_table(chosen, MODELS, FAST), "US$ 5 $", 0.95))
    fig4 = load_script("plot_fig4")
    variants = {"meta-self-monitor": "{prompt} Costs US$ 5 or US$ 9."}
    check(fig4.draw(fig4.figure_table(scores, MODELS, variants, FAST), "Title", 0.95))
    controls = load_script("plot_figB2")
    replays = {"unsteered": "steered", "ablate-otd": "steered", "steered-30": None}
    check(controls.draw(controls.figure_table(scores, MODELS, replays, FAST), "Title", 0.95))
    for name in ("fig5", "figA9"):
        script = load_script(f"plot_{name}")
        rows = [compare_detectors(scores, found, FAST)]
        rows += [compare_random_sets(scores, found, FAST)] if name == "figA9" else []
        count = pd.DataFrame({"kind": "count", "measure": ["found", "given"], "value": [found, 0]})
        count = pd.concat([count, count.head(1).assign(measure="confirmed")])
        table = pd.concat([*rows, count], ignore_index=True).reindex(columns=script.COLUMNS)
        table = table.assign(model="planted", label="US$ 5 $")
        check(script.draw(table, "Title", 0.95))


@pytest.mark.parametrize("lack", LACKING)
def test_a_study_that_lacks_something_has_all_tables_and_figures(lack: str, config: Config) -> None:
    scores = LACKING[lack](whole())
    tables = tables_of(scores, config, found=3)
    draw_all(scores, found=3)
    compared = tables["comparisons"]
    nothing = compared["n_pairs"].eq(0)
    numbers = ["difference", "low", "high", "p_value"]
    assert compared.loc[nothing, numbers].isna().all(axis=None), "nothing was done: no number"
    summary = tables["summary"]
    assert summary.loc[summary["n"].eq(0), ["estimate", "low", "high"]].isna().all(axis=None)
    assert set(summary.loc[summary["n"].eq(0), "status"]).isdisjoint({"ok", "no_variation"})


def test_without_detectors_no_ablation_has_a_number(config: Config) -> None:
    scores = whole()
    ablated = scores["arm"].str.startswith("ablate")
    scores.loc[ablated, "status"] = "no_detectors"
    scores.loc[ablated, [*JUDGED, *GATED, "restart_detected", "degraded"]] = pd.NA
    tables = tables_of(scores, config, found=0)
    draw_all(scores, found=0)
    compared = tables["comparisons"][tables["comparisons"]["arm"].str.startswith("ablate")]
    assert set(compared["status"]) == {"no_detectors"}
    assert compared[["difference", "p_value"]].isna().all(axis=None)
    sets = tables["contrasts"].query("kind == 'sets'")
    assert set(sets["status"]) == {"no_detectors"}
    assert sets["value"].isna().all()

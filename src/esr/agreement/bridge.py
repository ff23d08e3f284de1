"""A bridge from one judge to another: what changes when the second replaces the first.

Both grade the same stratified sample, or the first one's replies are archived. Everything is in
population weights, arm by arm and over all arms.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from esr.agreement.compare import (
    ALL,
    QUANTITIES,
    STATISTICS,
    Statistic,
    draw_clusters,
    estimate_statistic,
    ratings_of,
)
from esr.agreement.sample import sheet_weights
from esr.analysis.corrected import prediction_powered
from esr.analysis.statistics import agreement as formulas
from esr.analysis.two_phase import two_phase
from esr.config import StatisticsConfig
from esr.errors import EsrError

CONFUSION = {"both": (1, 1), "only_old": (1, 0), "only_new": (0, 1), "neither": (0, 0)}
"""Cells of the confusion of `multi_attempt`: flagged by the old judge, and by the new one."""
COLUMNS = ["arm", "quantity", "statistic", "old", "new", "estimate", "low", "high", "n", "status"]


def _cell(
    flags: tuple[int, int], ratings: formulas.Ratings, weights: formulas.Weights
) -> formulas.Result:
    """Share of trials in one cell of the confusion."""
    return formulas.weighted_mean((ratings == np.array(flags)).all(axis=1), weights)


def regression_slope(ratings: formulas.Ratings, weights: formulas.Weights) -> formulas.Result:
    """Slope of the second rater on the first, least squares: 1 if scores only shift.

    Errors of the first rater flatten it, so a slope below 1 alone is no other scale.
    """
    a, b = ratings.T
    mean_a, mean_b = formulas.weighted_mean(a, weights), formulas.weighted_mean(b, weights)
    covariance = formulas.weighted_mean(a * b, weights) - mean_a * mean_b
    spread = formulas.weighted_mean(a**2, weights) - mean_a**2
    return np.divide(
        covariance, spread, out=np.full(np.shape(spread), np.nan), where=np.asarray(spread) > 1e-9
    )


FLAGS: dict[str, Statistic] = {
    name: Statistic(partial(_cell, cell), 0, 1) for name, cell in CONFUSION.items()
} | {name: STATISTICS[name] for name in ("positive_agreement", "alpha")}
SCORES: dict[str, Statistic] = {
    "shift": Statistic(formulas.mean_difference),
    "slope": Statistic(regression_slope),
    "alpha": STATISTICS["alpha"],
}


def bridge_table(
    sample: pd.DataFrame,
    old: tuple[str, pd.DataFrame],
    new: tuple[str, pd.DataFrame],
    settings: StatisticsConfig,
) -> pd.DataFrame:
    """Two judges on one sample, arm by arm and over all.

    Args:
        sample: Table `sample`.
        old: Name of the judge that is replaced, and its scores of the sample.
        new: Of the judge that replaces it, likewise.
        settings: Of the intervals.

    Returns:
        One row an arm, quantity and statistic, columns `COLUMNS`. Quantity `multi_attempt`: shares
        of the confusion, positive agreement, alpha (fractions). Quantity `first_score`: shift (new
        minus old, points), slope of new on old, alpha.

    Raises:
        EsrError: scores are of other trials than the sample.
    """
    for name, table in (old, new):
        if table["trial_id"].tolist() != sample["trial_id"].tolist():
            raise EsrError(f"scores by {name} are not those of the sample; judge it again")
    factor = draw_clusters(sample, settings.bootstrap, settings.seed)
    weights = sheet_weights(sample, {old[0]: old[1], new[0]: new[1]}, (old[0], new[0]))
    rows: list[dict[str, Any]] = []
    for quantity, statistics in (("multi_attempt", FLAGS), ("first_score", SCORES)):
        columns = [ratings_of(table, QUANTITIES[quantity]) for _, table in (old, new)]
        ratings = np.column_stack(columns)
        graded = ~np.isnan(ratings).any(axis=1)
        for arm, inside in _arms(sample):
            for name, statistic in statistics.items():
                used = graded & inside
                if name == "positive_agreement":  # what neither judge flags does not enter
                    used &= ratings.any(axis=1)
                facts, _ = estimate_statistic(
                    statistic,
                    ratings[used],
                    weights[used],
                    factor,
                    factor.codes[used],
                    settings.level,
                )
                row = {"arm": arm, "quantity": quantity, "statistic": name}
                rows.append(row | {"old": old[0], "new": new[0]} | facts)
    return pd.DataFrame(rows)[COLUMNS]


def _arms(sample: pd.DataFrame) -> Iterator[tuple[str, np.ndarray]]:
    yield ALL, np.ones(len(sample), bool)
    for arm in sorted(sample["arm"].unique()):
        yield arm, sample["arm"].eq(arm).to_numpy(bool)


def rates_on_the_old_scale(
    arms: pd.DataFrame,
    sample: pd.DataFrame,
    old: tuple[str, pd.DataFrame],
    new: str,
    level: float,
) -> pd.DataFrame:
    """Rate of several attempts of every arm as the old judge would have found it.

    Prediction-powered: the new judge's flags of all trials, corrected by the old judge's of the
    sampled ones (`esr.analysis.corrected`).

    Args:
        arms: Scores of whole arms by the new judge.
        sample: Table `sample`.
        old: Name of the old judge, and its scores of the sample.
        new: Name of the new judge.
        level: Of the intervals.

    Returns:
        Rows as of `bridge_table`, statistic `rate_on_old_scale` (fraction), one a model and arm.
    """
    name, graded = old
    second = graded.assign(weight=sample["weight"].to_numpy())
    rows = []
    for (model, arm), whole in arms.groupby(["model", "arm"], sort=True):
        prefix = f"{model}/{arm}/"
        here = second[second["trial_id"].str.startswith(prefix)]
        if here.empty:
            continue
        here = here.assign(trial_id=here["trial_id"].str.removeprefix(prefix))
        latents = whole["latent"].astype("string").fillna("prompt " + whole["prompt_id"])
        phase = two_phase(whole.assign(latent=latents.astype(object)), here)
        found = prediction_powered(phase, level)
        row: dict[str, Any] = {
            "arm": f"{model}/{arm}",
            "quantity": "multi_attempt",
            "old": name,
            "new": new,
        }
        row |= {"statistic": "rate_on_old_scale", "estimate": found.value}
        row |= found.interval._asdict() | {"n": int(phase.sampled.sum()), "status": found.status}
        rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)

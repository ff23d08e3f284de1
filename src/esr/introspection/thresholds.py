"""Boosts at which directions are reported, beside those at which they change behaviour."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from esr.introspection.measures import ALONE

DRAWS = 1000
"""Resamples of the questions behind an interval."""
COLUMNS = ["model", "latent", "directions", "is_random", "label", "window", "threshold", "low"]
COLUMNS += ["high", "status", "n_questions", "largest", "behaviour", "behaviour_low"]
COLUMNS += ["behaviour_high", "behaviour_status", "ratio"]


class Crossing(NamedTuple):
    """Boost at which a curve first passes a value, and `reached`, `never` or why it is missing."""

    boost: float
    status: str


def report_thresholds(
    reports: pd.DataFrame,
    passes: float,
    level: float,
    seed: int,
    behaviour: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Threshold of every direction and window: columns `COLUMNS`, boosts in decoder units.

    `low` and `high` are ends of a percentile interval of the excess over resampled questions; a
    high end beyond `largest`, the largest boost, is missing.

    Args:
        reports: Table `self_reports` of one model.
        passes: Nats that a mean over questions has to pass.
        level: Of the intervals.
        seed: Of the resamples.
        behaviour: Table `thresholds` of what is injected; None = not searched.
    """
    known = {} if behaviour is None else behaviour.set_index("latent").to_dict("index")
    rows = []
    keys = ["model", "latent", "directions", "is_random", "window"]
    for cell, group in reports.groupby(keys, sort=False, dropna=False):
        facts = dict(zip(keys, cell, strict=True))
        ordered = group.sort_values(["boost", "question_id"])
        boosts = ordered["boost"].astype(float).unique()
        curve = ordered["excess"].to_numpy(float, na_value=np.nan).reshape(len(boosts), -1)
        low, high = _interval(boosts, curve, passes, level, seed)
        found = crossing(boosts, curve.mean(axis=1), passes)
        if group["status"].eq(ALONE).all():
            found = Crossing(np.nan, ALONE)
        facts |= {"label": group["label"].iloc[0], "largest": boosts.max(), "low": low}
        facts |= {"high": high, "threshold": found.boost, "status": found.status}
        rows.append(facts | {"n_questions": curve.shape[1]} | _behaviour(known, facts))
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.assign(ratio=table["threshold"] / table["behaviour"].astype(float))


def direction_ids(table: pd.DataFrame) -> "pd.Series[str]":
    """Ids of directions: `latent 435`, or set and row, as in `topics 3`."""
    sets = table["directions"].astype(object)
    return sets.where(sets.notna(), "latent") + " " + table["latent"].astype(int).astype(str)


def crossing(
    boosts: Float[np.ndarray, " doses"], curve: Float[np.ndarray, " doses"], passes: float
) -> Crossing:
    """First boost at which a curve, 0 at boost 0 and linear between doses, reaches a value.

    A dose without a readout ends the curve: what comes after it is unknown.
    """
    x, y = np.r_[0.0, boosts], np.r_[0.0, curve]
    for i in range(1, len(x)):
        if np.isnan(y[i]):
            return Crossing(np.nan, "engine_error")
        if y[i] >= passes:
            share = (passes - y[i - 1]) / (y[i] - y[i - 1])
            return Crossing(float(x[i - 1] + share * (x[i] - x[i - 1])), "reached")
    return Crossing(np.nan, "never")


def _interval(
    boosts: Float[np.ndarray, " doses"],
    curve: Float[np.ndarray, "doses questions"],
    passes: float,
    level: float,
    seed: int,
) -> tuple[float, float]:
    """Percentiles of the threshold over resampled questions, where never passing is infinite."""
    if np.isnan(curve).any():
        return np.nan, np.nan
    n = curve.shape[1]
    draws = np.random.default_rng(seed).integers(n, size=(DRAWS, n))
    means = np.c_[np.zeros(DRAWS), curve[:, draws].mean(axis=2).T]
    x = np.r_[0.0, boosts]
    first = (means >= passes).argmax(axis=1)
    row = np.arange(DRAWS)
    never = ~(means >= passes).any(axis=1)
    before = np.maximum(first - 1, 0)
    rise = means[row, first] - means[row, before]
    share = np.where(rise > 0, (passes - means[row, before]) / np.where(rise > 0, rise, 1), 0)
    found = np.where(never, np.inf, x[before] + share * (x[first] - x[before]))
    tails = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile(found, tails, method="inverted_cdf")
    return (
        (np.nan, np.nan) if np.isinf(low) else (float(low), high if np.isfinite(high) else np.nan)
    )


def _behaviour(known: Mapping[Any, Mapping[str, Any]], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Threshold of behaviour of a direction; a random one has none of its own."""
    names = {"threshold": "behaviour", "low": "behaviour_low", "high": "behaviour_high"}
    found = None if facts["is_random"] else known.get(facts["latent"])
    if found is None:
        return {"behaviour_status": "not_searched"}
    values = {new: np.nan if pd.isna(found[old]) else found[old] for old, new in names.items()}
    return values | {"behaviour_status": found["status"]}

"""Checks that need no attempts: change between windows of text, rates at an equal achieved score.

*Windows of text.* A model may come back to its topic without a restart. Nobody has to find
attempts to look for it: a response is cut into windows of equally many words, and the change is the
score of its last window less that of its first. No window is chosen by its score, so that
regression to the mean adds nothing. Responses may still lose their topic with length, so that a
model without any recovery need not have a change of 0: it is the reference, not 0. A window without
a score is missing mostly where the response restarts, and so the responses that are left are a
selection.

*Achieved score.* Thresholds aim at one first score, and miss it by a few points that differ between
latents and models. Rates are compared at the target instead: by least squares on the mean first
score of the latent's other trials. A trial's own score is left out, for it is part of its outcome.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from esr.analysis.measures import MEASURES, clusters_of
from esr.analysis.statistics import Estimate, cluster_codes
from esr.analysis.statistics.adjusted import Adjusted, mean_at, rate_at, slope_on
from esr.analysis.statistics.crossed import Factors, crossed_mean, crossed_rate
from esr.arms.scores import as_float, is_scored

WINDOWS = "windows of text"
ACHIEVED = "achieved score as covariate"
NOT_WINDOWED = "windows_not_judged"
"""Status where the primary judge cannot score a piece of a response without a call of its own."""
WINDOWS_MISSING = "windows_missing"
"""Status where more than `MOST_MISSING` of the scored responses lack the score of a window."""
MOST_MISSING = 0.05
AT_TARGET = ("multi_attempt_rate", "esr_rate", "msi")
CHANGE = "change from first to last window"
QUIET = "without any restart"
LACKING = "without a scored first or last window"
UNITS = {LACKING: "percent"}

Numbers = Float[np.ndarray, " trials"]
Flags = Bool[np.ndarray, " trials"]


def without_attempts(
    scores: pd.DataFrame,
    windows: Mapping[str, pd.DataFrame] | None,
    target: float,
    level: float = 0.95,
) -> pd.DataFrame:
    """Checks of all models that need no attempts: windows of text, and the achieved score.

    Args:
        scores: Scores of all models and arms.
        windows: Scored windows of the steered responses by model; None if they are not scored.
        target: First score at which thresholds aim.
        level: Of the intervals.
    """
    words = [table["words"] for table in (windows or {}).values()]
    length = float(pd.concat(words).median()) if words else np.nan
    parts = []
    for model, cell in scores[scores["arm"].eq("steered")].groupby("model", sort=False):
        of_model = None if windows is None else windows[str(model)]
        both = [
            window_rows(cell, of_model, length, level),
            achieved_rows(cell, target, level),
        ]
        parts.append(pd.concat(both, ignore_index=True).assign(model=model))
    return pd.concat(parts, ignore_index=True)


def window_rows(
    scores: pd.DataFrame, windows: pd.DataFrame | None, length: float, level: float = 0.95
) -> pd.DataFrame:
    """Change between windows of text in an arm of a model, as rows of the table of robustness.

    Changes of all scored responses, then of those without any restart: a single attempt by the
    judge, and no restart phrase. These also at a length that all models share, and per doubling of
    the length. The last row is the share of scored responses that lack one of the two scores and
    enter none of the others; above 5 % these have the status `windows_missing`. Without windows
    there is one row, with the status `windows_not_judged` and no number.

    Args:
        scores: Scores of the arm by the primary judge.
        windows: As from `esr.judges.windows.score_windows`; None if the judge scores no windows.
        length: Words of a response at which models are compared.
        level: Of the intervals.
    """
    if windows is None:
        return _rows(WINDOWS, {}, NOT_WINDOWED)
    merged = scores.merge(windows, on="trial_id", how="left", validate="one_to_one")
    scored = is_scored(merged)
    first, last = (
        np.where(scored, as_float(merged, name), np.nan) for name in ("first_window", "last_window")
    )
    restarted = (as_float(merged, "multi_attempt") == 1) | (
        as_float(merged, "restart_detected") == 1
    )
    factors = [cluster_codes(merged[column])[0] for column in clusters_of(merged)]
    change = last - first
    both = ~np.isnan(change)
    found = {
        "first window": _mean(np.where(both, first, np.nan), factors, (0, 100), level),
        "last window": _mean(np.where(both, last, np.nan), factors, (0, 100), level),
        CHANGE: _mean(change, factors, (-100, 100), level),
    }
    quiet = np.where(restarted, np.nan, change)
    found |= _by_length(quiet, merged, factors, length, level)
    lacking = np.where(scored, 100.0 * ~both, np.nan)
    share = Adjusted(_average(lacking), _percent(crossed_rate(lacking / 100, factors, level)))
    if share.value > 100 * MOST_MISSING:
        found = {name: (_with_missing(adjusted), n) for name, (adjusted, n) in found.items()}
    return _rows(WINDOWS, found | {LACKING: (share, int(scored.sum()))})


def _with_missing(adjusted: Adjusted) -> Adjusted:
    """The same numbers, with the status `windows_missing`."""
    if np.isnan(adjusted.value):
        return adjusted
    return Adjusted(adjusted.value, Estimate(adjusted.estimate.interval, WINDOWS_MISSING))


def _by_length(
    change: Numbers, merged: pd.DataFrame, factors: Factors, length: float, level: float
) -> dict[str, tuple[Adjusted, int]]:
    """Changes of responses without a restart: their mean, that at a length, and the slope."""
    doublings = np.log2(np.maximum(as_float(merged, "words"), 1))
    n = int((~np.isnan(change)).sum())
    at = mean_at(change, doublings, float(np.log2(length)), factors, -100, 100, level)
    return {
        f"{CHANGE}, {QUIET}": _mean(change, factors, (-100, 100), level),
        f"{CHANGE}, {QUIET}, at the study's median length": (at, n),
        f"{CHANGE}, {QUIET}, per doubling of the length": (
            slope_on(change, doublings, factors, level),
            n,
        ),
    }


def achieved_rows(scores: pd.DataFrame, target: float, level: float = 0.95) -> pd.DataFrame:
    """Measures of an arm of a model at an achieved score of `target`; columns as `window_rows`.

    The status is `outside_range`, without a number, where no latent reaches the target from one
    side, and `sparse`, without an interval, where fewer than 10 latents have an `msi` other than 0.
    A line through few trials a latent is too flat (the mean of four other scores is itself
    noisy), so that the adjustment is at most what it should be.
    """
    factors = [cluster_codes(scores[column])[0] for column in clusters_of(scores)]
    achieved = others_mean(scores)
    found = {}
    for name in AT_TARGET:
        measure = MEASURES[name]
        values = measure.values(scores)
        if measure.is_rate:
            rate = rate_at(values / 100, achieved, target, factors, level)
            at = Adjusted(100 * rate.value, _percent(rate.estimate))
        else:
            ends = measure.lowest, measure.highest
            at = mean_at(values, achieved, target, factors, *ends, level, measure.usual)
        n = int((~np.isnan(values) & ~np.isnan(achieved)).sum())
        found[name] = (at, n)
    return _rows(ACHIEVED, found)


def others_mean(scores: pd.DataFrame) -> Numbers:
    """Mean first score of the other scored trials of each trial's latent; NaN without any."""
    first = np.where(is_scored(scores), as_float(scores, "first_score"), np.nan)
    grouped = pd.Series(first, scores.index).groupby(scores["latent"])
    total = grouped.transform("sum").to_numpy(float) - np.nan_to_num(first)
    others = grouped.transform("count").to_numpy(float) - ~np.isnan(first)
    return np.divide(total, others, out=np.full(len(first), np.nan), where=others > 0)


def _mean(
    values: Numbers, factors: Factors, ends: tuple[float, float], level: float
) -> tuple[Adjusted, int]:
    estimate = crossed_mean(values, factors, *ends, level)
    return Adjusted(_average(values), estimate), int((~np.isnan(values)).sum())


def _average(values: Numbers) -> float:
    return float(np.nanmean(values)) if not np.isnan(values).all() else np.nan


def _percent(estimate: Estimate) -> Estimate:
    return Estimate(estimate.interval.scaled(100), estimate.status)


def _rows(
    check: str, found: dict[str, tuple[Adjusted, int]], status: str | None = None
) -> pd.DataFrame:
    """Rows of the table of robustness; with a status and without numbers if nothing was found."""
    rows: list[dict[str, Any]] = []
    for quantity, (adjusted, n) in found.items():
        (low, high), why = adjusted.estimate
        unit = MEASURES[quantity].unit if quantity in MEASURES else UNITS.get(quantity, "points")
        value = {"estimate": adjusted.value, "low": low, "high": high}
        rows.append({"quantity": quantity, "unit": unit, **value, "n": n, "status": why})
    if status is not None:
        rows.append({"quantity": CHANGE, "unit": "points", "n": 0, "status": status})
    columns = ["quantity", "unit", "estimate", "low", "high", "n", "status"]
    return pd.DataFrame(rows, columns=columns).assign(check=check, method=check)

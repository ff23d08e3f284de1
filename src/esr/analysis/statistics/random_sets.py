"""One treatment in several versions drawn at random, such as random sets of latents."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from esr.analysis.statistics.contrasts import Quantity, crossed_contrast, crossed_interval
from esr.analysis.statistics.crossed import Factors, Values, student_quantile, weighted_mean
from esr.analysis.statistics.intervals import NO_INTERVAL, Interval

SMALLEST_P = 1e-6
"""P-values below it are given as it."""
HALVINGS = 16

Versions = Float[np.ndarray, "sets trials"]


class SetsContrast(NamedTuple):
    """Mean over versions, its intervals, sd between versions (ddof 1), status, p-value.

    `relative` is a fraction of the baseline; statuses as in `esr.analysis.statistics.estimates`.
    The two-sided p-value of no difference is 1 - the level at which the interval touches 0.
    """

    baseline: float
    treatment: float
    between: float = np.nan
    treatment_interval: Interval = NO_INTERVAL
    difference: Interval = NO_INTERVAL
    relative: Interval = NO_INTERVAL
    status: str = "undefined"
    p_value: float = np.nan


class _Pooled(NamedTuple):
    """The trials of the baseline, each beside its mean over versions; weights if they differ."""

    baseline: Values
    treatment: Values
    weights: tuple[Values, Values] | None


def sets_contrast(
    baselines: Versions,
    treatments: Versions,
    factors: Factors,
    quantity: Quantity,
    *,
    level: float = 0.95,
    weights: tuple[Versions, Versions] | None = None,
    test: bool = True,
) -> SetsContrast:
    """Mean over versions of treatment minus baseline, for latents, prompts and versions not seen.

    Two errors add up in quadrature on either side: that of the trials' means over the versions
    drawn (`crossed_contrast`), and t(S - 1) s / sqrt(S), s the sd of the S versions' differences.
    Where trials do not differ, this is Student's interval of S numbers; it errs on the wide side,
    since s contains chance of single trials, too.

    Args:
        baselines: Value of each trial in the baseline, NaN where it is not paired with the version.
        treatments: The same trials under each version.
        factors: Clusters of the trials.
        quantity: What the values are.
        level: Of the intervals.
        weights: Of both, if they are samples.
        test: Whether to search for the p-value, which takes 24 intervals; NaN otherwise.
    """
    sets = len(treatments)
    base, treated = (
        np.array([weighted_mean(arm[i], None if w is None else w[i]) for i in range(sets)])
        for arm, w in zip((baselines, treatments), weights or (None, None), strict=True)
    )
    if not sets or np.isnan(treated - base).any():
        return SetsContrast(np.nan, np.nan)
    point = float(base.mean()), float(treated.mean())
    if sets < 2:
        return SetsContrast(*point, status="too_few")
    pooled = _pool(baselines, treatments, weights)

    def ends(at: float) -> tuple[Interval, Interval, str]:
        found = crossed_contrast(
            pooled.baseline, pooled.treatment, factors, quantity, at, weights=pooled.weights
        )
        spread = _half(treated - base, at)
        widened = _widen(point[1] - point[0], _middle(pooled), found.difference, spread)
        if np.isnan(found.relative.low):
            return widened, NO_INTERVAL, found.status
        change = _middle(pooled) / weighted_mean(pooled.baseline, (pooled.weights or (None,))[0])
        relative = _widen(point[1] / point[0] - 1, change, found.relative, spread / point[0])
        return widened, relative, found.status

    difference, relative, status = ends(level)
    if np.isnan(difference.low):
        return SetsContrast(*point, status=status)
    w = None if pooled.weights is None else pooled.weights[1]
    own = crossed_interval(pooled.treatment, factors, quantity, level, w).interval
    mean = _widen(point[1], weighted_mean(pooled.treatment, w), own, _half(treated, level))
    clipped = Interval(max(mean.low, quantity.lowest), min(mean.high, quantity.highest))
    between = float(np.std(treated - base, ddof=1))
    p_value = _p_value(point[1] - point[0], lambda at: ends(at)[0]) if test else np.nan
    return SetsContrast(*point, between, clipped, difference, relative, status, p_value)


def _pool(
    baselines: Versions, treatments: Versions, weights: tuple[Versions, Versions] | None
) -> _Pooled:
    """Mean of each trial over the versions it is paired with, weighted by their number."""
    given = weights or (np.ones(baselines.shape), np.ones(treatments.shape))
    means, totals = [], []
    for values, w in zip((baselines, treatments), given, strict=True):
        inside = ~np.isnan(values)
        total = np.where(inside, w, 0.0).sum(axis=0)
        summed = np.where(inside, w * np.where(inside, values, 0.0), 0.0).sum(axis=0)
        means.append(np.divide(summed, total, out=np.full(len(total), np.nan), where=total > 0))
        totals.append(total)
    used = [total[total > 0] for total in totals]
    equal = np.ptp(np.concatenate(used)) == 0
    return _Pooled(means[0], means[1], None if equal else (totals[0], totals[1]))


def _middle(pooled: _Pooled) -> float:
    """Difference of the pooled means."""
    w = pooled.weights or (None, None)
    return weighted_mean(pooled.treatment, w[1]) - weighted_mean(pooled.baseline, w[0])


def _half(values: Float[np.ndarray, " sets"], level: float) -> float:
    """Half the width of Student's interval of the mean of the versions."""
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    return float(student_quantile(len(values), level) * error)


def _widen(value: float, middle: float, ends: Interval, half: float) -> Interval:
    """Interval about `value`: distances of `ends` from their own middle, and `half`, combined."""
    low, high = np.hypot(middle - ends.low, half), np.hypot(ends.high - middle, half)
    return Interval(float(value - low), float(value + high))


def _p_value(difference: float, ends: Callable[[float], Interval]) -> float:
    """1 - the level at which an interval touches 0, by bisection on its logarithm."""
    if difference == 0:
        return 1.0

    def excludes_zero(p: float) -> bool:
        low, high = ends(1 - p)
        return low > 0 or high < 0

    inside, outside = np.log(SMALLEST_P), 0.0
    if excludes_zero(SMALLEST_P):
        return SMALLEST_P
    for _ in range(HALVINGS):
        middle = (inside + outside) / 2
        inside, outside = (inside, middle) if excludes_zero(np.exp(middle)) else (middle, outside)
    return float(np.exp(outside))

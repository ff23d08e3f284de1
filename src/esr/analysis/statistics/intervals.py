"""Intervals of rates and means of independent trials."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import DescrStatsW


class Interval(NamedTuple):
    """A two-sided interval; NaN ends mean that none could be computed."""

    low: float
    high: float

    def scaled(self, factor: float) -> "Interval":
        """Both ends times a factor."""
        return Interval(factor * self.low, factor * self.high)


NO_INTERVAL = Interval(np.nan, np.nan)


def wilson(k: float, n: float, level: float = 0.95) -> Interval:
    """Score interval for k events in n trials, as fractions.

    The rates p with |k/n - p| <= z sqrt(p (1 - p) / n) (Wilson 1927). No trials: no interval.
    """
    return _binomial(k, n, level, "wilson")


def jeffreys(k: float, n: float, level: float = 0.95) -> Interval:
    """Equal-tailed interval of Beta(k + 1/2, n - k + 1/2), as fractions.

    With no events the low end is 0, with only events the high end is 1 (Brown, Cai and DasGupta
    2001, section 4.1.2).
    """
    low, high = _binomial(k, n, level, "jeffreys")
    return Interval(0.0 if k == 0 < n else low, 1.0 if k == n > 0 else high)


def wald(k: float, n: float, level: float = 0.95) -> Interval:
    """Interval p +- z sqrt(p (1 - p) / n), as fractions: the paper's error bars (Figure 2).

    For comparison only: as in the paper it has no width at k = 0 or k = n and may leave [0, 1].
    """
    _check_counts(k, n)
    if n == 0:
        return NO_INTERVAL
    p = k / n
    half = stats.norm.isf((1 - level) / 2) * np.sqrt(p * (1 - p) / n)
    return Interval(float(p - half), float(p + half))


def rule_of_three(n: float, level: float = 0.95) -> float:
    """One-sided upper bound of a rate after 0 events in n trials: 1 - (1 - level)^(1/n) < 3/n.

    Hanley and Lippman-Hand (1983). NaN without trials.
    """
    _check_counts(0, n)
    return float(-np.expm1(np.log1p(-level) / n)) if n > 0 else float("nan")


def mean_interval(
    values: Float[np.ndarray, " trials"], level: float = 0.95, method: str = "t"
) -> Interval:
    """Interval of a mean: mean +- quantile * sd(ddof=1) / sqrt(n).

    `t` takes the Student quantile with n - 1 degrees of freedom (Student 1908), `wald` the normal
    one (the paper's). NaN values are left out; fewer than two values have no interval.
    """
    if method not in ("t", "wald"):
        raise ValueError(f"method is {method!r}; expected 't' or 'wald'")
    values = np.asarray(values, float)
    values = values[~np.isnan(values)]
    if len(values) < 2:
        return NO_INTERVAL
    described = DescrStatsW(values)
    interval = described.tconfint_mean if method == "t" else described.zconfint_mean
    return Interval(*map(float, interval(1 - level)))


def no_variation_interval(
    value: float, n: int, lowest: float, highest: float, level: float = 0.95
) -> Interval:
    """Interval of a mean in [lowest, highest] when all n independent units equal `value`.

    The high end u of Wilson's interval for 0 in n bounds the share of units that differ, and
    those lie at worst at an end of the range: [value - u (value - lowest),
    value + u (highest - value)]. An unknown end (NaN) stays unknown. Own construction, since
    bootstrap and t have no width here; for a rate with no events it is Wilson's interval itself.
    """
    u = wilson(0, n, level).high
    return Interval(value - u * (value - lowest), value + u * (highest - value))


def _binomial(k: float, n: float, level: float, method: str) -> Interval:
    _check_counts(k, n)
    if n == 0:
        return NO_INTERVAL
    low, high = proportion_confint(k, n, 1 - level, method=method)
    return Interval(max(0.0, float(low)), min(1.0, float(high)))  # rounding may leave [0, 1]


def _check_counts(k: float, n: float) -> None:
    if not 0 <= k <= n:
        raise ValueError(f"{k} events in {n} trials; expected 0 <= events <= trials")

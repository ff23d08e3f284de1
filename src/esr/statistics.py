"""Intervals, multiple testing, design effects and power for rates and means.

Values are plain numbers (rates as fractions); nothing here knows about ESR, units or tables.
A NaN value is left out, never counted as 0. Formulas and sources: docs/method.md.
"""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import (
    power_proportions_2indep,
    proportion_confint,
    proportions_ztest,
    samplesize_proportions_2indep_onetail,
)

from esr.errors import EsrError


class Interval(NamedTuple):
    """A two-sided interval; NaN ends mean that none could be computed."""

    low: float
    high: float


NO_INTERVAL = Interval(np.nan, np.nan)


def wilson(k: float, n: float, level: float = 0.95) -> Interval:
    """Score interval for k events in n independent trials, as fractions (Wilson 1927)."""
    _check_counts(k, n)
    return Interval(*map(float, proportion_confint(k, n, 1 - level, method="wilson")))


def jeffreys(k: float, n: float, level: float = 0.95) -> Interval:
    """Equal-tailed Beta(k + 1/2, n - k + 1/2) interval, as fractions (Brown et al. 2001)."""
    _check_counts(k, n)
    return Interval(*map(float, proportion_confint(k, n, 1 - level, method="jeffreys")))


def wald(k: float, n: float, level: float = 0.95) -> Interval:
    """Interval p +- z sqrt(p (1 - p) / n), as fractions: the paper's error bars.

    For comparison only: as in the paper it has no width at k = 0 or k = n and may leave [0, 1].
    """
    _check_counts(k, n)
    p = k / n
    half = stats.norm.isf((1 - level) / 2) * np.sqrt(p * (1 - p) / n)
    return Interval(float(p - half), float(p + half))


def rule_of_three(n: float, level: float = 0.95) -> float:
    """One-sided upper bound of a rate after 0 events in n trials: 1 - (1 - level)^(1/n) < 3/n.

    Hanley and Lippman-Hand (1983).
    """
    _check_counts(0, n)
    return float(-np.expm1(np.log1p(-level) / n))


def mean_interval(
    values: Float[np.ndarray, " trials"], level: float = 0.95, method: str = "t"
) -> Interval:
    """Interval of a mean of independent values: mean +- quantile * sd(ddof=1) / sqrt(n).

    `t` takes the Student quantile with n - 1 degrees of freedom, `wald` the normal one (the
    paper's). NaN values are left out; fewer than two values have no interval.
    """
    if method not in ("t", "wald"):
        raise ValueError(f"method is {method!r}; expected 't' or 'wald'")
    values = np.asarray(values, float)
    values = values[~np.isnan(values)]
    if len(values) < 2:
        return NO_INTERVAL
    tail = (1 - level) / 2
    quantile = stats.t.isf(tail, len(values) - 1) if method == "t" else stats.norm.isf(tail)
    half = quantile * values.std(ddof=1) / np.sqrt(len(values))
    return Interval(float(values.mean() - half), float(values.mean() + half))


def no_variation_interval(
    value: float, n: int, lowest: float, highest: float, level: float = 0.95
) -> Interval:
    """Interval of a mean in [lowest, highest] when all n independent units equal `value`.

    Wilson's upper bound u for 0 in n bounds the share of units that differ, and those lie at
    worst at an end of the range: [value - u (value - lowest), value + u (highest - value)].
    An unknown end (NaN) stays unknown.
    """
    u = wilson(0, n, level).high
    return Interval(value - u * (value - lowest), value + u * (highest - value))


def holm(p_values: ArrayLike) -> Float[np.ndarray, " tests"]:
    """Holm (1979) adjusted p-values of a confirmatory family."""
    return np.asarray(multipletests(_check_p_values(p_values), method="holm")[1])


def benjamini_hochberg(p_values: ArrayLike) -> Float[np.ndarray, " tests"]:
    """Benjamini and Hochberg (1995) adjusted p-values of a screen (false discovery rate)."""
    return np.asarray(multipletests(_check_p_values(p_values), method="fdr_bh")[1])


def cluster_codes(clusters: ArrayLike) -> tuple[Int[np.ndarray, " trials"], int]:
    """Cluster index of each trial (in sorted order of the ids) and the number of clusters.

    Raises EsrError if an id is missing: such a trial belongs to no unit of resampling.
    """
    ids = pd.Series(np.asarray(clusters))
    if ids.isna().any():
        raise EsrError(
            f"{int(ids.isna().sum())} of {len(ids)} trials have no cluster id; "
            "give every trial an id or leave those trials out"
        )
    codes, levels = pd.factorize(ids, sort=True)
    return codes, len(levels)


def intracluster_correlation(values: Float[np.ndarray, " trials"], clusters: ArrayLike) -> float:
    """One-way ANOVA estimate of the intra-cluster correlation (Donner 1986); may be negative.

    rho = (MSB - MSW) / (MSB + (m0 - 1) MSW), m0 = (N - sum m^2 / N) / (C - 1). NaN values are
    left out; NaN if there is no variation or no cluster has two values.
    """
    values, codes, sizes = _present(values, clusters)
    n, count = len(values), len(sizes)
    if count < 2 or n <= count:
        return float("nan")
    means = np.bincount(codes, values) / sizes
    between = float(np.sum(sizes * (means - values.mean()) ** 2)) / (count - 1)
    within = float(np.sum((values - means[codes]) ** 2)) / (n - count)
    typical = (n - np.sum(sizes**2) / n) / (count - 1)
    total = between + (typical - 1) * within
    return float((between - within) / total) if total > 0 else float("nan")


def design_effect(values: Float[np.ndarray, " trials"], clusters: ArrayLike) -> float:
    """Variance of the mean over that of independent trials: 1 + (sum m^2 / N - 1) rho (Kish 1965).

    A negative rho counts as 0, so the result is at least 1 (or NaN where rho is).
    """
    rho = intracluster_correlation(values, clusters)
    present, _, sizes = _present(values, clusters)
    return float(1 + (np.sum(sizes**2) / len(present) - 1) * max(rho, 0.0)) if rho == rho else rho


def two_proportions_p(
    k1: float, n1: float, k2: float, n2: float, design_effect: float = 1.0
) -> float:
    """Two-sided pooled z-test of k1/n1 = k2/n2 with counts divided by a design effect."""
    counts, sizes = np.array([k1, k2]) / design_effect, np.array([n1, n2]) / design_effect
    return float(proportions_ztest(counts, sizes)[1])


def power(p1: float, p2: float, n: float, design_effect: float = 1.0, level: float = 0.95) -> float:
    """Power to tell rate p2 from p1 (fractions) with n trials an arm, two-sided, independent arms.

    Normal approximation (Fleiss 1981) at n / design_effect effective trials.
    """
    effective = n / design_effect
    return float(
        power_proportions_2indep(p1 - p2, p2, effective, alpha=1 - level, return_results=False)
    )


def sample_size(
    p1: float, p2: float, power: float = 0.8, design_effect: float = 1.0, level: float = 0.95
) -> float:
    """Trials an arm that give `power` to tell rate p2 from p1; the inverse of `power`."""
    larger, smaller = max(p1, p2), min(p1, p2)
    n = samplesize_proportions_2indep_onetail(larger - smaller, smaller, power, alpha=1 - level)
    return float(n * design_effect)


def _present(values: Any, clusters: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values that are not NaN, their cluster codes and the cluster sizes."""
    values = np.asarray(values, float)
    inside: Bool[np.ndarray, " trials"] = ~np.isnan(values)
    codes, n_clusters = cluster_codes(np.asarray(clusters)[inside])
    return values[inside], codes, np.bincount(codes, minlength=n_clusters)


def _check_counts(k: float, n: float) -> None:
    if not (n > 0 and 0 <= k <= n):
        raise ValueError(f"{k} events in {n} trials; expected 0 <= events <= trials and trials > 0")


def _check_p_values(p_values: ArrayLike) -> Float[np.ndarray, " tests"]:
    p = np.atleast_1d(np.asarray(p_values, float))
    if not len(p) or np.isnan(p).any() or (p < 0).any() or (p > 1).any():
        raise ValueError(f"p-values {p} must be numbers in [0, 1]; leave undefined tests out")
    return p

"""A mean at a given value of a covariate, with latents and prompts as random factors.

Least squares of the values on the covariate z, centred at that value:
x_i = a + b (z_i - at) + rest. `a` is the mean at `at`, `b` the change per unit of z. Both are
linear in the rests, so that they have influence values like any mean, and the variance of
`esr.analysis.statistics.crossed`.
"""

from typing import NamedTuple

import numpy as np

from esr.analysis.statistics.clusters import cluster_codes
from esr.analysis.statistics.crossed import (
    ENOUGH_CLUSTERS,
    Factors,
    Values,
    crossed_mean,
    crossed_rate,
    design_effect_floor,
    moment_wilson,
)
from esr.analysis.statistics.estimates import Estimate
from esr.analysis.statistics.intervals import NO_INTERVAL


class Adjusted(NamedTuple):
    """A value with its interval; the value is NaN where the status gives the reason."""

    value: float
    estimate: Estimate


class Line(NamedTuple):
    """One value a trial (NaN outside the denominator) whose mean is the coefficient."""

    level: Values
    slope: Values


NOTHING = Estimate(NO_INTERVAL, "undefined")
OUTSIDE = Estimate(NO_INTERVAL, "outside_range")
SPARSE = Estimate(NO_INTERVAL, "sparse")


def fitted_line(values: Values, covariate: Values, at: float) -> Line | None:
    """Least squares on a covariate: trials whose means are the value at `at`, and the slope.

    None where fewer than three trials have both numbers, or the covariate is constant.
    """
    inside = ~(np.isnan(values) | np.isnan(covariate))
    z = covariate[inside] - at
    if inside.sum() < 3 or np.ptp(z) == 0:
        return None
    design = np.column_stack([np.ones(len(z)), z])
    weights = np.linalg.inv(design.T @ design) @ design.T
    found = weights @ values[inside]
    rest = values[inside] - design @ found
    if np.ptp(values[inside]) == 0:  # free of rounding
        found, rest = np.array([values[inside][0], 0.0]), np.zeros(len(z))
    level, slope = (np.full(len(values), np.nan) for _ in range(2))
    level[inside] = found[0] + len(z) * weights[0] * rest
    slope[inside] = found[1] + len(z) * weights[1] * rest
    return Line(level, slope)


def mean_at(
    values: Values,
    covariate: Values,
    at: float,
    factors: Factors,
    lowest: float = -np.inf,
    highest: float = np.inf,
    level: float = 0.95,
    usual: float | None = None,
) -> Adjusted:
    """Mean of the values at a value of the covariate; Student's interval (`crossed_mean`).

    Status `outside_range`, without a number, if no trial has a covariate on one of its sides. Most
    trials may have one value (`usual`), and Student's interval is too narrow if few latents have
    another: with fewer than 10 of them the status is `sparse`, without an interval.

    Args:
        values: One a trial, NaN outside the denominator.
        covariate: One a trial, NaN where it is unknown.
        at: Value of the covariate.
        factors: Cluster of each trial by latent, and by prompt.
        lowest: Least value of a trial.
        highest: Largest.
        level: Of the interval.
        usual: Value that most trials have; None if there is none.
    """
    line = fitted_line(values, covariate, at)
    if line is None:
        return Adjusted(np.nan, NOTHING)
    known = covariate[~np.isnan(line.level)]
    if not known.min() <= at <= known.max():
        return Adjusted(np.nan, OUTSIDE)
    value = float(np.nanmean(line.level))
    other = ~np.isnan(line.level) & (values != usual)
    if usual is not None and 0 < len(np.unique(factors[0][other])) < ENOUGH_CLUSTERS:
        return Adjusted(value, SPARSE)
    return Adjusted(value, crossed_mean(line.level, factors, lowest, highest, level))


def rate_at(
    events: Values, covariate: Values, at: float, factors: Factors, level: float = 0.95
) -> Adjusted:
    """Rate at a value of the covariate, in fractions; Wilson's interval at the variance of the fit.

    As `mean_at`, with at most n / `design_effect_floor` effective trials. With no event, or with
    events only, it is the rate and its interval; a line that leaves 0 to 1 at `at` gives no number
    (`outside_range`).
    """
    found = mean_at(events, covariate, at, factors, level=level)
    if found.estimate.status == "no_variation":
        used = np.where(np.isnan(covariate), np.nan, events)
        return Adjusted(found.value, crossed_rate(used, factors, level))
    if np.isnan(found.value) or found.estimate.status == "too_few":
        return found
    line = fitted_line(events, covariate, at)
    assert line is not None
    inside = ~np.isnan(line.level)
    u = (line.level[inside] - found.value) / inside.sum()
    kept = [cluster_codes(codes[inside])[0] for codes in factors]
    share = float(events[inside].mean())
    most = inside.sum() / design_effect_floor(events[inside], kept, share)
    interval = moment_wilson(found.value, u, kept, level, most)
    if interval is None:
        return Adjusted(np.nan, OUTSIDE)
    return Adjusted(found.value, Estimate(interval, found.estimate.status))


def slope_on(values: Values, covariate: Values, factors: Factors, level: float = 0.95) -> Adjusted:
    """Change of the values per unit of the covariate; Student's interval (`crossed_mean`)."""
    line = fitted_line(values, covariate, 0.0)
    if line is None:
        return Adjusted(np.nan, NOTHING)
    return Adjusted(float(np.nanmean(line.slope)), crossed_mean(line.slope, factors, level=level))

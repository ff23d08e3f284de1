"""How far raters agree, in a sample whose units have weights.

`ratings` has one row a unit and one column a rater: flags as 0 and 1, or numbers. `weights` has
one number a unit (1: a plain sample; sampling weights: the population sampled from), and may have
leading axes, such as bootstrap resamples, which the result then has as well. What is undefined
(no units, no variation) is NaN. Where a formula subtracts degrees of freedom, weights are scaled
to a mean of 1 first, so that only their proportions matter.
"""

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from esr.analysis.statistics.resampling import Resampled

Ratings = Float[np.ndarray, "units raters"]
Weights = Float[np.ndarray, "*batch units"] | Resampled
Result = Float[np.ndarray, "*batch"]

TINY = 1e-12


def weighted_mean(values: Float[np.ndarray, " units"], weights: Weights) -> Result:
    """Weighted mean, sum w x / sum w."""
    return _divide(weights @ values.astype(float), weights.sum(axis=-1))


def observed_agreement(ratings: Ratings, weights: Weights) -> Result:
    """Share of units that two raters rate the same."""
    return weighted_mean(ratings[:, 0] == ratings[:, 1], weights)


def cohen_kappa(ratings: Ratings, weights: Weights) -> Result:
    """(p_o - p_e) / (1 - p_e), p_e from each rater's own rates (Cohen 1960).

    Near 0 where almost all units are of one kind, however often raters agree (Feinstein and
    Cicchetti 1990): read it beside `positive_agreement` and the rates.
    """
    shares = [
        weighted_mean(ratings[:, 0] == kind, weights)
        * weighted_mean(ratings[:, 1] == kind, weights)
        for kind in np.unique(ratings)
    ]
    chance = np.sum(shares, axis=0)
    return _divide(observed_agreement(ratings, weights) - chance, 1 - chance)


def positive_agreement(ratings: Ratings, weights: Weights) -> Result:
    """2 n_11 / (n_1. + n_.1): agreement on the units that either rater flags (Dice 1945)."""
    both = weights @ (ratings[:, 0] * ratings[:, 1])
    return _divide(2 * both, weights @ ratings.sum(axis=1))


def krippendorff_alpha(ratings: Ratings, weights: Weights) -> Result:
    """1 - D_o / D_e with squared differences, any number of raters, NaN where one is missing.

    Observed: pairs of ratings within units; expected: all pairs of ratings (Krippendorff 2011). For
    flags a squared difference is 1 or 0, so this is also the nominal alpha of flags.
    """
    there = ~np.isnan(ratings)
    paired = there.sum(axis=1) > 1
    count = np.where(paired, there.sum(axis=1), 0)
    values = np.where(there & paired[:, None], ratings, 0.0)
    total, squares = values.sum(axis=1), (values**2).sum(axis=1)
    within = (count * squares - total**2) / np.maximum(count - 1, 1)
    scale = _divide(paired.sum(), weights @ paired)
    n = scale * (weights @ count)
    observed = _divide(scale * (weights @ within), n)
    spread = n * scale * (weights @ squares) - (scale * (weights @ total)) ** 2
    return 1 - _divide(observed, _divide(spread, n * (n - 1)))


def intraclass_correlation(ratings: Ratings, weights: Weights) -> Result:
    """ICC(2,1): agreement of single ratings, raters random (Shrout and Fleiss 1979).

    (MSR - MSE) / (MSR + (k - 1) MSE + k (MSC - MSE) / n), from the two-way analysis of variance of
    n units by k raters.
    """
    n, k = ratings.shape
    means = ratings.mean(axis=1)
    mean = weighted_mean(means, weights)
    columns = np.stack([weighted_mean(column, weights) for column in ratings.T])
    between_units = n * k * (weighted_mean(means**2, weights) - mean**2)
    between_raters = n * ((columns - mean) ** 2).sum(axis=0)
    total = n * (weighted_mean((ratings**2).sum(axis=1), weights) - k * mean**2)
    rest = total - between_units - between_raters
    if n < 2 or k < 2:
        return np.full_like(mean, np.nan)
    units, raters = between_units / (n - 1), between_raters / (k - 1)
    error = np.maximum(rest, 0) / ((n - 1) * (k - 1))
    return _divide(units - error, units + (k - 1) * error + k * (raters - error) / n)


def correlation(ratings: Ratings, weights: Weights) -> Result:
    """Pearson's correlation of two raters."""
    a, b = ratings.T
    mean_a, mean_b = weighted_mean(a, weights), weighted_mean(b, weights)
    covariance = weighted_mean(a * b, weights) - mean_a * mean_b
    spread_a = weighted_mean(a**2, weights) - mean_a**2
    spread_b = weighted_mean(b**2, weights) - mean_b**2
    return _divide(covariance, np.sqrt(np.maximum(spread_a * spread_b, 0)))


def mean_difference(ratings: Ratings, weights: Weights) -> Result:
    """Second rater minus first: the bias of Bland and Altman (1986)."""
    return weighted_mean(ratings[:, 1] - ratings[:, 0], weights)


def limits_of_agreement(ratings: Ratings, weights: Weights) -> tuple[Result, Result]:
    """Mean difference -+ 1.96 sd of the differences (Bland and Altman 1986)."""
    change = ratings[:, 1] - ratings[:, 0]
    n = len(change)
    bias = mean_difference(ratings, weights)
    variance = np.maximum(weighted_mean(change**2, weights) - bias**2, 0)
    half = 1.96 * np.sqrt(variance * (n / (n - 1) if n > 1 else np.nan))
    return bias - half, bias + half


def _divide(numerator: ArrayLike, denominator: ArrayLike) -> Result:
    """Quotient; NaN where the denominator is 0."""
    top, bottom = np.broadcast_arrays(np.asarray(numerator, float), np.asarray(denominator, float))
    return np.divide(top, bottom, out=np.full(top.shape, np.nan), where=np.abs(bottom) > TINY)

"""A discretised Bayesian logistic dose-response: the posterior that both finders report from.

The mean score (here on 0-1) at boost b, for threshold t and width w, is

    m(b) = f + (c - f) * expit(logit((target - f) / (c - f)) - (b - t) / w),  f = 0.01, c = 0.99,

so m(t) = target by construction. Scores s enter through the Bernoulli quasi-likelihood
``(s log m + (1 - s) log(1 - m)) / dispersion`` (Wedderburn 1974). No score on 0-1 with mean m can
have a larger variance than m(1 - m): a dispersion of one errs on the side of wide intervals.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import expit, logit
from scipy.stats import norm

from esr.config import BoostPrior

FLOOR, CEILING = 0.01, 0.99
"""Mean scores far above and far below the threshold; off 0 and 1, so that one stray score
cannot rule a curve out."""
BROAD = 0.2
"""Prior weight of a uniform over the bounds, which forgives a wrong prior mean and sd."""
OUTSIDE = 0.02
"""Prior weight of "the threshold lies beyond this bound", for each of the two bounds."""
NARROWEST, BROADEST = 0.02, 1.0
"""Widths considered, log-uniform, as a multiple of the prior standard deviation."""


@dataclass(frozen=True)
class CurveGrid:
    """Every curve considered for one pair of bounds. Curves are indexed threshold-major."""

    target: float
    """On 0-1."""
    lower: float
    upper: float
    prior: BoostPrior
    n_thresholds: int = 256
    n_widths: int = 12

    @cached_property
    def thresholds(self) -> Float[np.ndarray, " thresholds"]:
        """Thresholds, inside the bounds and a tenth of the range beyond each of them.

        Inside they are quantiles of an even mixture of the Gaussian prior and a uniform: fine
        where the threshold is expected, and nowhere coarse.
        """
        beyond = np.linspace(0.01, 0.1, self.n_thresholds // 32) * (self.upper - self.lower)
        fine = np.linspace(self.lower, self.upper, 20_001)
        cdf = 0.5 * self._gaussian(fine) + 0.5 * np.linspace(0, 1, fine.size)
        levels = np.linspace(0, 1, self.n_thresholds - 2 * beyond.size)
        inside = np.interp(levels, cdf, fine)
        return np.concatenate([self.lower - beyond[::-1], inside, self.upper + beyond])

    def _gaussian(self, boosts: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Distribution function of the Gaussian prior cut to the bounds."""
        low, high = norm.cdf([self.lower, self.upper], self.prior.mean, self.prior.sd)
        return (norm.cdf(boosts, self.prior.mean, self.prior.sd) - low) / (high - low)

    @property
    def inside(self) -> Float[np.ndarray, " inside"]:
        """Thresholds within the bounds."""
        return self.thresholds[(self.thresholds >= self.lower) & (self.thresholds <= self.upper)]

    @cached_property
    def edges(self) -> Float[np.ndarray, " thresholds_plus_1"]:
        """Ends of the interval of thresholds that each threshold stands for."""
        t = self.thresholds
        return np.concatenate([t[:1], (t[1:] + t[:-1]) / 2, t[-1:]])

    @cached_property
    def widths(self) -> Float[np.ndarray, " widths"]:
        """Widths considered (boost); wide bounds admit wide curves, whatever the prior's sd."""
        broadest = BROADEST * max(self.prior.sd, (self.upper - self.lower) / 5)
        return np.geomspace(NARROWEST * self.prior.sd, broadest, self.n_widths)

    @cached_property
    def threshold(self) -> Float[np.ndarray, " curves"]:
        """Threshold of every curve (boost)."""
        return np.repeat(self.thresholds, self.n_widths)

    @cached_property
    def width(self) -> Float[np.ndarray, " curves"]:
        """Width of every curve: the boost that changes its logit by one."""
        return np.tile(self.widths, self.thresholds.size)

    @cached_property
    def below(self) -> Bool[np.ndarray, " curves"]:
        """Which curves have their threshold below the lower bound."""
        return self.threshold < self.lower

    @cached_property
    def above(self) -> Bool[np.ndarray, " curves"]:
        """Which curves have their threshold above the upper bound."""
        return self.threshold > self.upper

    @property
    def outside(self) -> Bool[np.ndarray, " curves"]:
        """Which curves have their threshold beyond a bound."""
        return self.below | self.above

    @cached_property
    def log_prior(self) -> Float[np.ndarray, " curves"]:
        """Log prior probability of every curve."""
        below, above = self.thresholds < self.lower, self.thresholds > self.upper
        cells = np.clip(self.edges, self.lower, self.upper)
        mass = (1 - BROAD) * np.diff(self._gaussian(cells))
        mass += BROAD * np.diff(cells) / (self.upper - self.lower)
        mass = np.where(below | above, 0, mass) * (1 - 2 * OUTSIDE)
        mass += OUTSIDE * (below / below.sum() + above / above.sum())
        return np.repeat(np.log(mass / self.n_widths), self.n_widths)

    def mean(self, boosts: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n curves"]:
        """Mean score (0-1) of every curve at the given boosts."""
        scale = CEILING - FLOOR
        slope = (np.asarray(boosts)[:, None] - self.threshold) / self.width
        return FLOOR + scale * expit(logit((self.target - FLOOR) / scale) - slope)

    def threshold_quantiles(
        self, posterior: Float[np.ndarray, "m curves"], levels: list[float]
    ) -> Float[np.ndarray, "levels m"]:
        """Quantiles of the threshold, its probability spread evenly over each cell."""
        cells = posterior.reshape(len(posterior), self.thresholds.size, -1).sum(axis=2)
        cdf = np.pad(np.cumsum(cells, axis=1), ((0, 0), (1, 0)))
        rows = [np.interp(np.array(levels) * row[-1], row, self.edges) for row in cdf]
        return np.array(rows).reshape(len(posterior), len(levels)).T


def normalise(log_posterior: Float[np.ndarray, "m curves"]) -> Float[np.ndarray, "m curves"]:
    """Turn log posteriors into probabilities, each row by itself."""
    weights = np.exp(log_posterior - log_posterior.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def row_quantiles(
    values: Float[np.ndarray, "m n"], weights: Float[np.ndarray, "m n"], levels: list[float]
) -> Float[np.ndarray, "levels m"]:
    """Quantiles of a discrete distribution a row: least value whose cumulated weight suffices."""
    order = np.argsort(values, axis=1, kind="stable")
    values = np.take_along_axis(values, order, axis=1)
    cdf = np.cumsum(np.take_along_axis(weights, order, axis=1), axis=1)
    last = values.shape[1] - 1
    at = [np.minimum((cdf < level * cdf[:, -1:]).sum(axis=1), last) for level in levels]
    return np.stack([np.take_along_axis(values, a[:, None], axis=1)[:, 0] for a in at])

"""A discretised Bayesian logistic dose-response: the posterior that both finders report from.

The mean score (here on 0-1) at boost b, for threshold t, width w and ceiling c, is

    m(b) = f + (c - f) * expit(logit((target - f) / (c - f)) - (b - t) / w),    f = 0.01,

so m(t) = target by construction. Scores enter through the Bernoulli quasi-likelihood
``s log m + (1 - s) log(1 - m)``. No score on 0-1 with mean m can have a larger variance than
m(1 - m), so that likelihood errs on the side of too wide an interval.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import expit, logit
from scipy.stats import norm

from esr.thresholds.base import Record

FLOOR = 0.01
"""Mean score far above the threshold; keeps one stray score from ruling a curve out."""


class Prior(NamedTuple):
    """The prior over curves; boosts in raw decoder units, the rest are fractions."""

    mean: float
    sd: float
    broad: float = 0.2
    """Weight of the uniform component, which forgives a wrong mean and sd."""
    outside: float = 0.02
    """Weight of "the threshold lies beyond this bound", for each of the two bounds."""
    widths: tuple[float, float] = (0.02, 1.0)
    """Narrowest and broadest curve, as a multiple of ``sd``; log-uniform between."""
    ceilings: tuple[float, ...] = (0.99,)
    """Mean scores without steering, equally likely."""


@dataclass(frozen=True)
class CurveGrid:
    """Every curve considered for one pair of bounds. Curves are indexed threshold-major."""

    target: float
    """On 0-1."""
    lower: float
    upper: float
    prior: Prior
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

    @cached_property
    def edges(self) -> Float[np.ndarray, " thresholds_plus_1"]:
        """Ends of the interval of thresholds that each threshold stands for."""
        t = self.thresholds
        return np.concatenate([t[:1], (t[1:] + t[:-1]) / 2, t[-1:]])

    @cached_property
    def below(self) -> Bool[np.ndarray, " thresholds"]:
        """Which thresholds lie below the lower bound."""
        return self.thresholds < self.lower

    @cached_property
    def above(self) -> Bool[np.ndarray, " thresholds"]:
        """Which thresholds lie above the upper bound."""
        return self.thresholds > self.upper

    @cached_property
    def shapes(self) -> Float[np.ndarray, "shapes 2"]:
        """Width (boost) and ceiling (0-1) of every curve shape."""
        low, high = self.prior.widths
        widths = np.geomspace(low, high, self.n_widths) * self.prior.sd
        return np.array([(w, c) for w in widths for c in self.prior.ceilings])

    @cached_property
    def threshold(self) -> Float[np.ndarray, " curves"]:
        """Threshold of every curve (boost)."""
        return np.repeat(self.thresholds, len(self.shapes))

    @cached_property
    def width(self) -> Float[np.ndarray, " curves"]:
        """Width of every curve: the boost that changes its logit by one."""
        return np.tile(self.shapes[:, 0], self.thresholds.size)

    @cached_property
    def ceiling(self) -> Float[np.ndarray, " curves"]:
        """Ceiling of every curve (0-1)."""
        return np.tile(self.shapes[:, 1], self.thresholds.size)

    @cached_property
    def log_prior(self) -> Float[np.ndarray, " curves"]:
        """Log prior probability of every curve."""
        inside = ~(self.below | self.above)
        cells = np.clip(self.edges, self.lower, self.upper)
        broad = self.prior.broad
        mass = (1 - broad) * np.diff(self._gaussian(cells))
        mass += broad * np.diff(cells) / (self.upper - self.lower)
        mass = np.where(inside, mass, 0) * (1 - 2 * self.prior.outside)
        mass += self.prior.outside * (self.below / self.below.sum() + self.above / self.above.sum())
        return np.repeat(np.log(mass / len(self.shapes)), len(self.shapes))

    def mean(self, boosts: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n curves"]:
        """Mean score (0-1) of every curve at the given boosts."""
        scale = self.ceiling - FLOOR
        slope = (np.asarray(boosts)[:, None] - self.threshold) / self.width
        return FLOOR + scale * expit(logit((self.target - FLOOR) / scale) - slope)

    def log_likelihood(
        self,
        boosts: Float[np.ndarray, " n"],
        totals: Float[np.ndarray, " n"],
        counts: Float[np.ndarray, " n"],
    ) -> Float[np.ndarray, "n curves"]:
        """Log quasi-likelihood of every curve, given the sum of ``counts`` scores (0-1) each."""
        distinct, row = np.unique(boosts, return_inverse=True)
        mean = self.mean(distinct)
        hit, miss = np.log(mean), np.log1p(-mean)
        return totals[:, None] * hit[row] + (counts - totals)[:, None] * miss[row]

    def log_posterior(self, record: Record) -> Float[np.ndarray, " curves"]:
        """Log posterior (unnormalised) of every curve given one latent's record."""
        result = self.log_prior.copy()
        for step in record.steps:
            one = (np.array([step.boost]), np.array([step.total]), np.array([float(step.count)]))
            result += self.log_likelihood(*one)[0]
        return result

    def marginal(
        self, posterior: Float[np.ndarray, "m curves"]
    ) -> Float[np.ndarray, "m thresholds"]:
        """Posterior probability of every threshold."""
        return posterior.reshape(len(posterior), self.thresholds.size, -1).sum(axis=2)


def normalise(log_posterior: Float[np.ndarray, "m curves"]) -> Float[np.ndarray, "m curves"]:
    """Turn log posteriors into probabilities, each row by itself."""
    weights = np.exp(log_posterior - log_posterior.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def weighted_quantiles(
    values: Float[np.ndarray, " n"], weights: Float[np.ndarray, " n"], levels: list[float]
) -> Float[np.ndarray, " levels"]:
    """Quantiles of a discrete distribution: the smallest value whose cumulated weight reaches."""
    order = np.argsort(values, kind="stable")
    cdf = np.cumsum(weights[order])
    at = np.searchsorted(cdf, np.asarray(levels) * cdf[-1])
    return values[order][np.minimum(at, values.size - 1)]

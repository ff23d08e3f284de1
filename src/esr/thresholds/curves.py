"""The dose-response curves considered, and how likely each is beforehand.

The mean score (here on 0-1) at boost b, for threshold t and width w, is

    m(b) = f + (c - f) * expit(logit((target - f) / (c - f)) - (b - t) / w),  f = 0.01, c = 0.99,

so m(t) = target by construction. Scores s enter through the Bernoulli quasi-likelihood
``(s log m + (1 - s) log(1 - m)) / dispersion`` (Wedderburn 1974). No score on 0-1 with mean m can
have a larger variance than m(1 - m): a dispersion of one errs on the side of wide intervals.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy.special import expit, logit, ndtr

from esr.config import ThresholdPriorConfig

FLOOR, CEILING = 0.01, 0.99
"""Mean scores far above and far below the threshold; off 0 and 1, so that one stray score
cannot rule a curve out."""
BROAD = 0.2
"""Prior weight of a uniform over the bounds, which forgives a wrong prior mean and sd."""
OUTSIDE = 0.02
"""Prior weight of "the threshold lies beyond this bound", for each of the two bounds."""
BEYOND = 0.1
"""How far beyond a bound such a threshold may lie, as a fraction of the range."""
N_WIDTHS = 16
NARROWEST, BROADEST = 0.001, 1.0
"""Widths considered, log-uniform, as a multiple of the prior standard deviation."""


@dataclass(frozen=True)
class Curves:
    """The curves considered for one target and one prior."""

    target: float
    """On 0-1."""
    prior: ThresholdPriorConfig

    @cached_property
    def widths(self) -> Float[np.ndarray, " widths"]:
        """Widths (boost that changes the logit by one); wide bounds admit wide curves."""
        broadest = BROADEST * max(self.prior.sd, (self.prior.upper - self.prior.lower) / 5)
        return np.geomspace(NARROWEST * self.prior.sd, broadest, N_WIDTHS)

    def mean(
        self, boosts: Float[np.ndarray, " m"], thresholds: Float[np.ndarray, "#m cells"]
    ) -> Float[np.ndarray, "m cells widths"]:
        """Mean scores (0-1) at one boost a row, of curves with that row's thresholds."""
        scale = CEILING - FLOOR
        slope = (boosts[:, None] - thresholds)[:, :, None] / self.widths
        return FLOOR + scale * expit(logit((self.target - FLOOR) / scale) - slope)

    def log_ratio(
        self, thresholds: Float[np.ndarray, "m cells"]
    ) -> Float[np.ndarray, "m cells widths"]:
        """Log of width over threshold; thresholds near zero count as a tenth of the prior mean."""
        scale = np.maximum(thresholds, self.prior.mean / 10)
        return np.log(self.widths) - np.log(scale)[:, :, None]

    def threshold_cdf(
        self,
        boosts: Float[np.ndarray, "m n"],
        lower: Float[np.ndarray, "m 1"],
        upper: Float[np.ndarray, "m 1"],
    ) -> Float[np.ndarray, "m n"]:
        """Prior distribution function of the threshold, up to a constant, given the bounds."""
        inside = np.clip(boosts, lower, upper)
        low, at, high = (
            ndtr((b - self.prior.mean) / self.prior.sd) for b in (lower, inside, upper)
        )
        cdf = (1 - BROAD) * (at - low) / (high - low)
        cdf = (1 - 2 * OUTSIDE) * (cdf + BROAD * (inside - lower) / (upper - lower))
        margin = BEYOND * (upper - lower)
        below = np.clip((boosts - lower) / margin, -1, 0)
        above = np.clip((boosts - upper) / margin, 0, 1)
        return cdf + OUTSIDE * (below + above)


@dataclass(frozen=True)
class WidthPrior:
    """Prior of the width relative to the threshold: log-normal, with a uniform that forgives.

    The latents of a model are alike in this, so its mean and spread are learnt from all of them.
    Before any data they are vague: two thirds of the widths are 4 to 90 % of the threshold.
    """

    centre: float = float(np.log(0.2))
    """Mean of log(width / threshold)."""
    spread: float = 1.5
    """Its standard deviation."""

    def log_prior(
        self, log_ratio: Float[np.ndarray, "m cells widths"]
    ) -> Float[np.ndarray, "m cells widths"]:
        """Log probability of each width, given the threshold."""
        density = np.exp(-(((log_ratio - self.centre) / self.spread) ** 2) / 2)
        density /= density.sum(axis=-1, keepdims=True) + TINY
        return np.log((1 - UNIFORM) * density + UNIFORM / log_ratio.shape[-1])


TINY = 1e-300
UNIFORM = 0.1
"""Prior weight of a log-uniform over all widths."""
IMAGINED = 4.0
"""Latents that stand for what is known of widths before any data."""
LEAST_SPREAD = 0.3
"""Keeps few latents that happen to agree from ruling the others' widths out."""
ROUNDS = 30
"""Rounds of expectation and maximisation."""
DECIMALS = 6
"""Of what is learnt: hides the last bits, in which matrix libraries differ."""


def learn_width_prior(
    evidence: Float[np.ndarray, "latents bins"], centres: Float[np.ndarray, " bins"]
) -> WidthPrior:
    """Learn mean and spread of log(width / threshold) from all latents (empirical Bayes, by EM).

    Args:
        evidence: Likelihood of each latent's data in bins of log(width / threshold).
        centres: Middles of the bins.
    """
    start = now = WidthPrior()
    if not len(evidence):
        return start
    possible = evidence > 0
    uniform = UNIFORM * possible / np.maximum(possible.sum(axis=1, keepdims=True), 1)
    for _ in range(ROUNDS):
        normal = possible * np.exp(-(((centres - now.centre) / now.spread) ** 2) / 2)
        normal *= (1 - UNIFORM) / (normal.sum(axis=1, keepdims=True) + TINY)
        total = (evidence * (normal + uniform)).sum(axis=1, keepdims=True)
        share = (evidence * normal / (total + TINY)).sum(axis=0)
        n = IMAGINED + share.sum()
        centre = (IMAGINED * start.centre + share @ centres) / n
        squares = IMAGINED * (start.spread**2 + (start.centre - centre) ** 2)
        spread = np.sqrt((squares + share @ (centres - centre) ** 2) / n)
        now = WidthPrior(centre, max(LEAST_SPREAD, spread))
    return WidthPrior(round(float(now.centre), DECIMALS), round(float(now.spread), DECIMALS))

"""The family of dose-response curves, and its prior.

The mean score (here on 0-1) at boost b, for threshold t and width w, is

    m(b) = f + (c - f) * expit(logit((target - f) / (c - f)) - (b - t) / w),  f = 0.01, c = 0.99,

so m(t) = target by construction. Scores s enter through the Bernoulli quasi-likelihood
``(s log m + (1 - s) log(1 - m)) / dispersion`` (Wedderburn 1974). No score on 0-1 with mean m can
have a variance above m(1 - m), so a dispersion of one gives intervals that are too wide, never too
narrow.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy.special import expit, logit, ndtr

from esr.config import ThresholdPriorConfig

FLOOR, CEILING = 0.01, 0.99
"""Mean scores far above and far below the threshold. They differ from 0 and 1, so that a single
stray score cannot rule out a curve."""
BROAD = 0.2
"""Prior weight of a uniform over the bounds, for robustness to a wrong mean and sd."""
OUTSIDE = 0.02
"""Prior probability that the threshold lies beyond a bound, for each of the two bounds."""
BEYOND = 0.1
"""Largest distance of such a threshold from the bound, as a fraction of the range."""
N_WIDTHS = 16
NARROWEST, BROADEST = 0.001, 1.0
"""Range of the widths, log-uniform, as multiples of the prior standard deviation."""


@dataclass(frozen=True)
class Curves:
    """The curves for one target and one prior."""

    target: float
    """On 0-1."""
    prior: ThresholdPriorConfig

    @cached_property
    def widths(self) -> Float[np.ndarray, " widths"]:
        """Widths: the change of boost per unit of logit. Wide bounds allow wide curves."""
        broadest = BROADEST * max(self.prior.sd, (self.prior.upper - self.prior.lower) / 5)
        return np.geomspace(NARROWEST * self.prior.sd, broadest, N_WIDTHS)

    def mean(
        self, boosts: Float[np.ndarray, " m"], thresholds: Float[np.ndarray, "#m cells"]
    ) -> Float[np.ndarray, "m cells widths"]:
        """Mean scores (0-1) at one boost per row, for curves with the thresholds of that row."""
        scale = CEILING - FLOOR
        slope = (boosts[:, None] - thresholds)[:, :, None] / self.widths
        logits = np.subtract(logit((self.target - FLOOR) / scale), slope, out=slope)
        mean = expit(logits, out=logits)
        mean *= scale
        mean += FLOOR
        return mean

    def log_ratio(
        self, thresholds: Float[np.ndarray, "m cells"]
    ) -> Float[np.ndarray, "m cells widths"]:
        """Log of width over threshold."""
        # The ratio diverges as the threshold goes to zero: a tenth of the prior mean is the floor.
        scale = np.maximum(thresholds, self.prior.mean / 10)
        return np.log(self.widths) - np.log(scale)[:, :, None]

    def threshold_cdf(
        self,
        boosts: Float[np.ndarray, "m n"],
        lower: Float[np.ndarray, "m 1"],
        upper: Float[np.ndarray, "m 1"],
    ) -> Float[np.ndarray, "m n"]:
        """Prior distribution function of the threshold, up to a constant, given the bounds.

        A truncated normal mixed with a uniform between the bounds, and a uniform beyond each.
        """
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
    """Prior of the width relative to the threshold: log-normal, mixed with a uniform.

    Relative widths are similar across the latents of a model, so mean and spread are learnt from
    all of them. Before any data they are vague: two thirds of the widths are between 4 and 90 % of
    the threshold.
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
"""Weight of the vague prior when mean and spread are learnt, in latents."""
LEAST_SPREAD = 0.3
"""Lower bound of the spread. Without it, a few latents that happen to agree would rule out the
widths of all others."""
ROUNDS = 30
"""Iterations of expectation maximisation."""
DECIMALS = 6
"""Decimals of mean and spread. Rounding hides the last bits, in which matrix libraries differ."""


def learn_width_prior(
    evidence: Float[np.ndarray, "latents bins"], centres: Float[np.ndarray, " bins"]
) -> WidthPrior:
    """Learn mean and spread of log(width / threshold) from all latents (empirical Bayes, by EM).

    Args:
        evidence: Likelihood of each latent's data in bins of log(width / threshold).
        centres: Midpoints of the bins.
    """
    start = WidthPrior()
    now = start
    if not len(evidence):
        return start
    possible = evidence > 0
    uniform = UNIFORM * possible / np.maximum(possible.sum(axis=1, keepdims=True), 1)
    for _ in range(ROUNDS):
        # E step: share of each latent's evidence that the log-normal explains, by bin. The uniform
        # takes the rest, so outliers move neither mean nor spread.
        normal = possible * np.exp(-(((centres - now.centre) / now.spread) ** 2) / 2)
        normal *= (1 - UNIFORM) / (normal.sum(axis=1, keepdims=True) + TINY)
        total = (evidence * (normal + uniform)).sum(axis=1, keepdims=True)
        share = (evidence * normal / (total + TINY)).sum(axis=0)
        # M step: weighted mean and variance, with the vague prior as pseudo-observations.
        n = IMAGINED + share.sum()
        centre = (IMAGINED * start.centre + share @ centres) / n
        squares = IMAGINED * (start.spread**2 + (start.centre - centre) ** 2)
        spread = np.sqrt((squares + share @ (centres - centre) ** 2) / n)
        now = WidthPrior(centre, max(LEAST_SPREAD, spread))
    return WidthPrior(round(float(now.centre), DECIMALS), round(float(now.spread), DECIMALS))

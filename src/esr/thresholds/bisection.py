"""The paper's threshold search: probabilistic bisection with a Beta model of one score."""

from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import beta, norm

from esr.errors import EsrError
from esr.thresholds.finder import LEVELS, Finder
from esr.thresholds.history import check_latents

GRID = 10_000
"""Number of grid points of the threshold's density."""
DECIMALS = 2
"""The released code rounds thresholds to this many decimals."""


def sign_and_confidence(
    score: Float[np.ndarray, " m"], target: float
) -> tuple[Int[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """Return the side of the target on which the true mean lies, and the confidence in it.

    The mean is given a Beta(1/2 + 5 s, 1/2 + 5 (1 - s)) distribution, s being the score.

    Args:
        score: Mean score of a step (0-1).
        target: Score aimed at (0-1).

    Returns:
        +1 (mean above the target, so the threshold is at a larger boost) or -1, and the
        probability of that side, 0.5 to 1. Source: the paper's released code.
    """
    score = np.asarray(score, dtype=float)
    above = score >= target
    cdf = beta.cdf(target, 0.5 + 5 * score, 0.5 + 5 * (1 - score))
    p = np.where(above, 1 - cdf, cdf)
    # Beta is skewed: near the target the other side may be the likelier one.
    flip = p < 0.5
    return np.where(above ^ flip, 1, -1), np.where(flip, 1 - p, p)


@lru_cache(maxsize=16)
def _linspace(lower: float, upper: float) -> Float[np.ndarray, " grid"]:
    return np.linspace(lower, upper, GRID)


class Bisection(Finder):
    """Probabilistic bisection as the paper's released code does it, for many latents at once.

    Every step queries the median of a density over a grid of boosts. The density on the side of
    the threshold is multiplied by the confidence p in that side, the other side by 1 - p.
    Scores of a step are averaged. Source: released code; Waeber, Frazier and Henderson 2013.
    Widening the bounds is an addition of this project, off unless ``max_widenings`` is given.
    """

    def __init__(self, **settings: object) -> None:
        super().__init__(**settings)  # pyrefly: ignore[bad-argument-type]
        self._density = np.empty((self.n_latents, GRID))
        self._forget(np.arange(self.n_latents))

    def propose(self, which: Int[np.ndarray, " m"]) -> Float[np.ndarray, "m samples"]:
        """Return the median of each latent's density, for every sample of the step."""
        which = check_latents(which, self.n_latents)
        return np.repeat(self._quantiles(which, [0.5])[0][:, None], self.samples, axis=1)

    def observe(
        self,
        which: Int[np.ndarray, " m"],
        boosts: Float[np.ndarray, "m samples"],
        scores: Float[np.ndarray, "m samples"],
    ) -> None:
        """Add the scores of a step, all of whose samples have the same boost."""
        boosts = np.asarray(boosts, dtype=float)
        if boosts.ndim == 2 and ((boosts != boosts[:, :1]) & ~np.isnan(boosts)).any():
            raise EsrError("bisection averages the samples of a step; give them all one boost")
        super().observe(which, boosts, scores)

    def _boosts(self, latent: int) -> Float[np.ndarray, " grid"]:
        return _linspace(self.lower[latent], self.upper[latent])

    def _quantiles(
        self, which: Int[np.ndarray, " m"], levels: list[float]
    ) -> Float[np.ndarray, "levels m"]:
        result = np.empty((len(levels), len(which)))
        for column, latent in enumerate(which):
            at = np.searchsorted(np.cumsum(self._density[latent]), levels)
            result[:, column] = self._boosts(latent)[np.minimum(at, GRID - 1)]
        return result

    def _forget(self, which: Int[np.ndarray, " m"]) -> None:
        for latent in which:
            # Bounds had to be widened, so the prior was too narrow.
            sd = self.prior.sd * 2.0 ** self.n_widened[latent]
            density = norm.pdf(self._boosts(latent), self.prior.mean, sd)
            self._density[latent] = density / density.sum()

    def _learn(
        self,
        which: Int[np.ndarray, " m"],
        boosts: Float[np.ndarray, "m samples"],
        scores: Float[np.ndarray, "m samples"],
    ) -> None:
        scored = ~np.isnan(scores).all(axis=1)
        which, boosts, scores = which[scored], boosts[scored], scores[scored]
        sign, p = sign_and_confidence(np.nanmean(scores, axis=1) / 100, self.target / 100)
        to_the_right = np.where(sign > 0, p, 1 - p)
        for latent, boost, right in zip(which, boosts[:, 0], to_the_right, strict=True):
            density = self._density[latent]
            at = min(np.searchsorted(self._boosts(latent), boost), GRID - 1)
            density[:at] *= 1 - right
            density[at] *= np.sqrt(right * (1 - right))
            density[at + 1 :] *= right
            density /= density.sum()

    def _conclude(
        self, which: Int[np.ndarray, " m"], posterior: Float[np.ndarray, "m cells widths"]
    ) -> Float[np.ndarray, "3 m"]:
        median, low, high = self._quantiles(which, [0.5, *LEVELS])
        return np.stack([np.round(median, DECIMALS), low, high])

"""Threshold finding by an adaptive Bayesian logistic dose-response (the default method)."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from esr.thresholds.base import LEVELS, Finder
from esr.thresholds.curves import CurveGrid, normalise
from esr.thresholds.history import check_latents

SEARCH_DISPERSION = 0.5
"""Dispersion assumed while searching, where there are too few data to estimate it; a wrong
value costs some samples, and no interval depends on it."""
N_BOOSTS = 96
"""Boosts among which the next one is chosen."""
DIGITS = 4
"""Significant digits of a threshold: far finer than its interval, and the same on any machine."""


class Logistic(Finder):
    """Asks the boost that is expected to tell most, and reports from all data at once.

    The posterior over curves lives on the grid of :mod:`esr.thresholds.curves`. The next boost
    minimises the expected posterior variance of the threshold with each curve weighted by its
    squared slope there, that is, the expected squared error in score points (after Watson 2017,
    QUEST+, who minimises the entropy). The threshold is the boost whose expected squared distance
    from the target, in score points, is least.
    """

    def __init__(self, **settings: object) -> None:
        super().__init__(**settings)  # type: ignore[arg-type]
        n_curves = next(self._groups(np.arange(1)))[1].threshold.size
        self._log_likelihood = np.zeros((self.n_latents, n_curves))

    def propose(self, which: Int[np.ndarray, " m"]) -> Float[np.ndarray, "m samples"]:
        """Return the most telling boost of each latent, for every sample of the step."""
        which = check_latents(which, self.n_latents)
        boosts = np.empty((self.n_latents, self.samples))
        for rows, grid in self._groups(which):
            log_weight = grid.log_prior + self._log_likelihood[rows] / SEARCH_DISPERSION
            for sample in range(self.samples):
                boosts[rows, sample], expected = _most_telling(_design(grid), normalise(log_weight))
                log_weight += expected / SEARCH_DISPERSION
        return boosts[which]

    def _forget(self, which: Int[np.ndarray, " m"]) -> None:
        self._log_likelihood[which] = 0

    def _learn(
        self,
        which: Int[np.ndarray, " m"],
        boosts: Float[np.ndarray, "m samples"],
        scores: Float[np.ndarray, "m samples"],
    ) -> None:
        position = np.full(self.n_latents, -1)
        position[which] = np.arange(len(which))
        for rows, grid in self._groups(which):
            asked, answer = boosts[position[rows]], scores[position[rows]] / 100
            distinct, column = np.unique(asked, return_inverse=True)
            mean = grid.mean(distinct)
            hit, miss = np.log(mean), np.log1p(-mean)
            for k, at in enumerate(column.reshape(asked.shape).T):
                valid = ~np.isnan(answer[:, k])
                score = answer[valid, k][:, None]
                self._log_likelihood[rows[valid]] += (
                    score * hit[at[valid]] + (1 - score) * miss[at[valid]]
                )

    def _evidence(
        self, which: Int[np.ndarray, " m"], grid: CurveGrid
    ) -> Float[np.ndarray, "m curves"]:
        return self._log_likelihood[which]

    def _conclude(
        self,
        which: Int[np.ndarray, " m"],
        grid: CurveGrid,
        posterior: Float[np.ndarray, "m curves"],
    ) -> Float[np.ndarray, "3 m"]:
        boosts, loss = _losses(grid)
        best = boosts[(posterior @ loss).argmin(axis=1)]
        return np.stack([_significant(best), *grid.threshold_quantiles(posterior, LEVELS)])


def _significant(boosts: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
    return np.array([float(f"{boost:.{DIGITS}g}") for boost in boosts])


class Design(NamedTuple):
    """What choosing the next boost needs of a grid of curves; all but the logs rounded."""

    boosts: Float[np.ndarray, " boosts"]
    """Candidates."""
    moments: Float[np.ndarray, "curves 3"]
    """Squared slope of every curve, times its threshold to the power of 0, 1 and 2."""
    if_hit: Float[np.ndarray, "curves 3*boosts"]
    """The same times the probability of a score of 100."""
    mean: Float[np.ndarray, "boosts curves"]
    log_hit: Float[np.ndarray, "boosts curves"]
    log_miss: Float[np.ndarray, "boosts curves"]


def _most_telling(
    design: Design, posterior: Float[np.ndarray, "m curves"]
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, "m curves"]]:
    """Choose the boost with the least expected loss once its score, taken as 0 or 100, is known.

    Returns:
        The boosts, and the log quasi-likelihood of the score expected there: with it a further
        sample of the same step is chosen as if the first had been answered.
    """
    p = _dyadic(posterior)
    hit = (p @ design.if_hit).reshape(len(p), 3, -1)
    miss = (p @ design.moments)[:, :, None] - hit
    loss = np.zeros(hit[:, 0].shape)
    for weight, first, second in (np.moveaxis(hit, 1, 0), np.moveaxis(miss, 1, 0)):
        loss += second - first**2 / np.maximum(weight, 1e-30)
    best = loss.argmin(axis=1)
    expected = (p * design.mean[best]).sum(axis=1, keepdims=True)
    likelihood = expected * design.log_hit[best] + (1 - expected) * design.log_miss[best]
    return design.boosts[best], likelihood


@lru_cache(maxsize=16)
def _design(grid: CurveGrid) -> Design:
    spread = grid.inside
    boosts = spread[np.linspace(0, spread.size - 1, N_BOOSTS).round().astype(int)]
    slope = (grid.width.min() / grid.width) ** 2
    low, high = grid.thresholds[[0, -1]]
    place = (grid.threshold - low) / (high - low)
    moments = np.stack([slope, slope * place, slope * place**2], axis=1)
    mean = grid.mean(boosts)
    if_hit = np.concatenate([mean.T * moments[:, [k]] for k in range(3)], axis=1)
    logs = np.log(mean), np.log1p(-mean)
    return Design(boosts, _dyadic(moments), _dyadic(if_hit), _dyadic(mean), *logs)


@lru_cache(maxsize=16)
def _losses(
    grid: CurveGrid, n: int = 1000
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "curves n"]]:
    """Possible answers, and every curve's squared distance from the target at them (0-1)."""
    spread = grid.inside
    boosts = np.interp(np.linspace(0, spread.size - 1, n), np.arange(spread.size), spread)
    return boosts, (grid.mean(boosts).T - grid.target) ** 2


def _dyadic(values: np.ndarray) -> np.ndarray:
    """Round to multiples of 2^-26.

    Sums of products of two such numbers below one are exact, whatever their order: what a latent
    is asked does not depend on which others are asked with it, nor on the matrix library.
    """
    return np.round(values * 2**26) / 2**26

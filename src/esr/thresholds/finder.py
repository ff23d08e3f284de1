"""The interface of threshold finders, and their common base: data, bounds, estimates.

A *threshold* is the boost (raw decoder units) at which a latent's mean first-attempt score
(0-100 points, expectation over prompts) equals the target. Scores fall as the boost grows.
"""

from abc import ABC, abstractmethod
from enum import StrEnum
from typing import Protocol

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from esr.config import ThresholdPriorConfig
from esr.errors import EsrError
from esr.thresholds.curves import Curves
from esr.thresholds.grid import PosteriorGrid
from esr.thresholds.history import History

INTERVAL = 0.90
"""Probability content of every interval reported by a finder."""
LEVELS = [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2]
TOLERANCE = 15.0
"""A latent has converged if the interval of its predicted score lies this close to the target
(points)."""
PRIOR_SAMPLES = 20.0
"""Number of pseudo-observations that shrink the dispersion to one: few data, wide intervals."""
DISPERSION_DECIMALS = 6
LEAST_DISPERSION = 0.1
"""Lower bound of the dispersion, so that noiseless scores do not give zero-width intervals."""
STEEPEST = 0.25
"""If the narrowest width is more probable than this, the grid may be too coarse for the curve."""
CHUNK = 256
"""Latents processed at a time; limits memory, does not change results."""
BOOST_FLOOR = 0.0
"""Bounds are never widened below this boost: negative boosts steer the other way."""


class Status(StrEnum):
    """How the search for one latent's threshold ended."""

    CONVERGED = "converged"
    NOT_CONVERGED = (
        "not_converged"  # predicted score uncertain, or off target, by more than the tolerance
    )
    OUT_OF_BOUNDS = "out_of_bounds"  # threshold more likely outside the bounds than inside
    NO_DATA = "no_data"  # no valid score
    INERT = "inert"  # the direction changes no prediction (`esr.thresholds.liveness`)


ESTIMATE_COLUMNS = {
    "threshold": "boost at which the mean first-attempt score meets the target; NaN if unknown",
    "low": "lower end of the finder's own 90 % interval of the threshold (boost)",
    "high": "upper end of it (boost)",
    "predicted_score": "mean score at the threshold, re-estimated from all data (0-100)",
    "predicted_low": "lower end of its 90 % interval (0-100)",
    "predicted_high": "upper end of it (0-100)",
    "n_samples": "valid scores observed",
    "n_missing": "samples without a valid score",
    "lower": "lower bound in force (boost)",
    "upper": "upper bound in force (boost)",
    "n_widened": "how often the bounds were widened",
    "status": "one of Status",
}
"""Columns of :meth:`ThresholdFinder.estimate`; the index is ``latent``, 0 to n_latents - 1."""


class ThresholdFinder(Protocol):
    """Finds the thresholds of many latents at once, addressed by position 0 to n_latents - 1.

    Any subset of latents may be proposed for and observed at any time. Proposals depend only on the
    scores observed so far, so a repeated search proposes the same boosts.
    """

    history: History

    def propose(self, which: Int[np.ndarray, " m"]) -> Float[np.ndarray, "m samples"]:
        """Return the boost of each sample of the next step of the latents in ``which``.

        A proposal does not change the finder.
        """
        ...

    def observe(
        self,
        which: Int[np.ndarray, " m"],
        boosts: Float[np.ndarray, "m samples"],
        scores: Float[np.ndarray, "m samples"],
    ) -> None:
        """Add scores (0-100; NaN = no valid score, counted but otherwise ignored)."""
        ...

    def estimate(self) -> pd.DataFrame:
        """Return one row a latent, with the columns of :data:`ESTIMATE_COLUMNS`."""
        ...


class Finder(ABC):
    """Data, bounds, widening and estimates; a subclass adds how to propose and how to conclude.

    Args:
        target: Mean first-attempt score wanted at the threshold (points, 0-100 exclusive).
        prior: Bounds, mean and standard deviation of thresholds known beforehand (boosts).
        n_latents: Number of latents.
        samples: Samples a step.
        max_widenings: How often the bounds of a latent may be doubled.

    Raises:
        EsrError: a setting is out of range.
    """

    def __init__(
        self,
        *,
        target: float,
        prior: ThresholdPriorConfig,
        n_latents: int,
        samples: int = 1,
        max_widenings: int = 0,
    ) -> None:
        if not 0 < target < 100:
            raise EsrError(f"target is {target}; give points strictly between 0 and 100")
        for name, value, least in (
            ("n_latents", n_latents, 1),
            ("samples", samples, 1),
            ("max_widenings", max_widenings, 0),
        ):
            if value < least:
                raise EsrError(f"{name} is {value}; give at least {least}")
        self.target = target
        self.prior = prior
        self.n_latents = n_latents
        self.samples = samples
        self.max_widenings = max_widenings
        self.history = History(n_latents)
        self.n_widened = np.zeros(n_latents, dtype=int)
        self.grid = PosteriorGrid(Curves(target / 100, prior), self.history)
        # The dispersion is a ratio of sums: squared errors over m(1 - m). Equal pseudo-observations
        # in both shrink it to one.
        self._squares = PRIOR_SAMPLES * self.target / 100 * (1 - self.target / 100)
        self._expected = self._squares
        # Shared arrays: widening the bounds here changes them in the grid.
        self.lower = self.grid.lower
        self.upper = self.grid.upper

    @abstractmethod
    def propose(self, which: Int[np.ndarray, " m"]) -> Float[np.ndarray, "m samples"]:
        """Return the boosts of the next step; see :class:`ThresholdFinder`."""

    def _learn(  # noqa: B027
        self,
        which: Int[np.ndarray, " m"],
        boosts: Float[np.ndarray, "m samples"],
        scores: Float[np.ndarray, "m samples"],
    ) -> None:
        """Update the state of a method beside the grid by a step; scores may be NaN."""

    def _forget(self, which: Int[np.ndarray, " m"]) -> None:  # noqa: B027
        """Reset the state of a method for latents to the prior on the current bounds."""

    @abstractmethod
    def _conclude(
        self,
        which: Int[np.ndarray, " m"],
        posterior: Float[np.ndarray, "m cells widths"],
    ) -> Float[np.ndarray, "3 m"]:
        """Return threshold, low and high (boosts) of latents, given their posterior."""

    def observe(
        self,
        which: Int[np.ndarray, " m"],
        boosts: Float[np.ndarray, "m samples"],
        scores: Float[np.ndarray, "m samples"],
    ) -> None:
        """Add scores; see :class:`ThresholdFinder`.

        Raises:
            EsrError: arguments whose shapes do not fit, unknown or repeated latents, boosts that
                are not finite, scores outside 0-100. Then nothing is recorded.
        """
        which, boosts, scores = self.history.add(which, boosts, scores)
        self._compare(which, boosts, scores)
        self.grid.learn(which, boosts, scores)
        self._learn(which, boosts, scores)
        if self.max_widenings:
            self._widen(which)

    def estimate(self) -> pd.DataFrame:
        """Return one row a latent, with the columns of :data:`ESTIMATE_COLUMNS`."""
        dispersion = self.grid.dispersion
        widths = self.grid.width_prior(dispersion)
        numbers = np.full((6, self.n_latents), np.nan)
        outside, unresolved = np.zeros((2, self.n_latents), dtype=bool)
        for which in self._chunks(np.arange(self.n_latents)):
            posterior = self.grid.posterior(which, widths, dispersion)
            outside[which] = self._outside(which, posterior).sum(axis=0) > 0.5
            unresolved[which] = self._unresolved(which, posterior)
            numbers[:3, which] = self._conclude(which, posterior)
            numbers[3:, which] = 100 * self._predict(which, posterior, numbers[0, which])
        return self._report(numbers, outside, unresolved)

    def _report(
        self,
        numbers: Float[np.ndarray, "6 latents"],
        outside: Bool[np.ndarray, " latents"],
        unresolved: Bool[np.ndarray, " latents"],
    ) -> pd.DataFrame:
        near = (np.abs(numbers[4:] - self.target) <= TOLERANCE).all(axis=0) & ~unresolved
        unknown = self.history.n_samples == 0
        status = np.where(near, Status.CONVERGED, Status.NOT_CONVERGED).astype(object)
        status[outside], status[unknown] = Status.OUT_OF_BOUNDS, Status.NO_DATA
        # Without a crossing there is no threshold to predict at; the interval is still reported.
        numbers[0, outside] = numbers[3:, outside] = np.nan
        numbers[:, unknown] = np.nan
        values = [
            *numbers,
            self.history.n_samples,
            self.history.n_missing,
            self.lower,
            self.upper,
            self.n_widened,
            [str(one) for one in status],
        ]
        index = pd.RangeIndex(self.n_latents, name="latent")
        return pd.DataFrame(dict(zip(ESTIMATE_COLUMNS, values, strict=True)), index=index)

    def _chunks(self, which: Int[np.ndarray, " m"]) -> list[Int[np.ndarray, " chunk"]]:
        return [which[start : start + CHUNK] for start in range(0, which.size, CHUNK)]

    def _compare(
        self,
        which: Int[np.ndarray, " m"],
        boosts: Float[np.ndarray, "m samples"],
        scores: Float[np.ndarray, "m samples"],
    ) -> None:
        """Update the dispersion by comparing scores with the predictions made before them.

        The variance of a score about its prediction is dispersion * E m(1 - m), the noise about
        each curve, plus Var m, the disagreement of the curves. So the dispersion is the squared
        error less Var m, over E m(1 - m), summed over all latents. Residuals of curves fitted to
        the same scores would not do: a steep curve fits a few scores perfectly. Scores at which
        the curves disagree carry little information about the noise, and get a small weight.
        """
        for rows in self._chunks(np.arange(which.size)):
            posterior = self.grid.posterior(which[rows], dispersion=self.grid.dispersion)
            thresholds = self.grid.thresholds(which[rows])
            for boost, score in zip(boosts[rows].T, scores[rows].T / 100, strict=True):
                valid = ~np.isnan(score)
                mean = self.grid.curves.mean(boost[valid], thresholds[valid])
                predicted = (posterior[valid] * mean).sum(axis=(1, 2))
                within = (posterior[valid] * mean * (1 - mean)).sum(axis=(1, 2))
                between = predicted * (1 - predicted) - within
                weight = within / (within + between)
                noise = (score[valid] - predicted) ** 2 - between
                self._squares += float((weight * noise).sum())
                self._expected += float((weight * within).sum())
        estimate = round(self._squares / self._expected, DISPERSION_DECIMALS)
        self.grid.dispersion = max(LEAST_DISPERSION, estimate)

    def _outside(
        self, which: Int[np.ndarray, " m"], posterior: Float[np.ndarray, "m cells widths"]
    ) -> Float[np.ndarray, "2 m"]:
        """Probability that the threshold lies below the lower, and above the upper bound."""
        return (self.grid.beyond(which) * posterior.sum(axis=2)).sum(axis=2)

    def _unresolved(
        self, which: Int[np.ndarray, " m"], posterior: Float[np.ndarray, "m cells widths"]
    ) -> Bool[np.ndarray, " m"]:
        """Whether the curve may be steeper than the grid resolves.

        Signs: the narrowest width is likely, or the threshold is known to within half a cell.
        """
        cells = posterior.sum(axis=2)
        t = self.grid.thresholds(which)
        centre = (cells * t).sum(axis=1, keepdims=True)
        sd = np.sqrt((cells * (t - centre) ** 2).sum(axis=1))
        fine = sd < self.grid.cell(self.grid.level[which]) / 2
        return fine | (posterior[:, :, 0].sum(axis=1) > STEEPEST)

    def _predict(
        self,
        which: Int[np.ndarray, " m"],
        posterior: Float[np.ndarray, "m cells widths"],
        boosts: Float[np.ndarray, " m"],
    ) -> Float[np.ndarray, "3 m"]:
        """Posterior mean and 90 % interval of each latent's mean score (0-1) at its boost."""
        mean = self.grid.curves.mean(boosts, self.grid.thresholds(which))
        mean, weight = mean.reshape(len(which), -1), posterior.reshape(len(which), -1)
        low, high = _row_quantiles(mean, weight, LEVELS)
        return np.stack([(weight * mean).sum(axis=1), low, high])

    def _threshold_interval(
        self, which: Int[np.ndarray, " m"], posterior: Float[np.ndarray, "m cells widths"]
    ) -> Float[np.ndarray, "2 m"]:
        """90 % interval of the threshold, with probability uniform within each cell.

        Cells may lie below zero, where a boost would steer the other way, so that the ends of the
        interval are clipped at zero.
        """
        cdf = np.pad(np.cumsum(posterior.sum(axis=2), axis=1), ((0, 0), (1, 0)))
        pairs = zip(cdf, self.grid.edges(which), strict=True)
        rows = [np.interp(np.array(LEVELS) * row[-1], row, edges) for row, edges in pairs]
        return np.maximum(np.array(rows).reshape(len(which), 2).T, BOOST_FLOOR)

    def _widen(self, which: Int[np.ndarray, " m"]) -> None:
        """Double the range of latents whose threshold probably lies beyond their bounds."""
        which = which[self.n_widened[which] < self.max_widenings]
        below, above = self._outside(which, self.grid.posterior(which)) > 0.5
        lower = self.lower[which]
        upper = self.upper[which]
        below &= lower > BOOST_FLOOR
        self.upper[which] = np.where(above, 2 * upper - lower, upper)
        self.lower[which] = np.where(below, np.maximum(BOOST_FLOOR, 2 * lower - upper), lower)
        changed = np.sort(which[above | below])
        if not changed.size:
            return
        self.n_widened[changed] += 1
        self.grid.reset(changed)
        self._forget(changed)
        for step in self.history.replay(changed):
            self._learn(*step)


def _row_quantiles(
    values: Float[np.ndarray, "m n"], weights: Float[np.ndarray, "m n"], levels: list[float]
) -> Float[np.ndarray, "levels m"]:
    """Quantiles of one discrete distribution per row: the smallest value that reaches the level."""
    order = np.argsort(values, axis=1, kind="stable")
    values = np.take_along_axis(values, order, axis=1)
    cdf = np.cumsum(np.take_along_axis(weights, order, axis=1), axis=1)
    last = values.shape[1] - 1
    at = [np.minimum((cdf < level * cdf[:, -1:]).sum(axis=1), last) for level in levels]
    return np.stack([np.take_along_axis(values, a[:, None], axis=1)[:, 0] for a in at])

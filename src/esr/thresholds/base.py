"""What every threshold finder shares: the interface, the data, the bounds and the report.

A *threshold* is the boost (raw decoder units) at which a latent's mean first-attempt score
(0-100 points, expectation over prompts) equals the target. Scores fall as the boost grows.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from enum import StrEnum
from typing import Protocol

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from esr.config import BoostPrior
from esr.errors import EsrError
from esr.thresholds.curves import CurveGrid, normalise, row_quantiles
from esr.thresholds.history import History, Moments

INTERVAL = 0.90
"""Probability content of every interval reported by a finder."""
LEVELS = [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2]
TOLERANCE = 15.0
"""Converged = the whole interval of the predicted score lies this close to the target (points)."""
PRIOR_SAMPLES = 20.0
"""The dispersion is drawn towards one as if by so many scores: few data, wide intervals."""
FITTED = 1.5
"""Numbers that a curve takes from a latent's data: the threshold, and half a width."""
LEAST_DISPERSION = 0.1
"""Keeps noiseless scores from claiming certainty."""
CHUNK = 256
"""Latents worked on at a time; bounds the memory, changes no result."""
BOOST_FLOOR = 0.0
"""Bounds are never widened below this boost: negative boosts steer the other way."""


class Status(StrEnum):
    """How the search for one latent's threshold ended."""

    CONVERGED = "converged"
    NOT_CONVERGED = "not_converged"  # predicted score not known, or not near, to the tolerance
    OUT_OF_BOUNDS = "out_of_bounds"  # the curve more likely than not misses the target in bounds
    NO_DATA = "no_data"  # not one valid score


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

    Any subset of latents may be asked and answered at any time; what a latent is asked depends
    only on what was observed for that latent.
    """

    history: History

    def propose(self, which: Int[np.ndarray, " m"]) -> Float[np.ndarray, "m samples"]:
        """Return the boost of each sample of the next step of the latents in ``which``.

        Asking changes nothing.
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
    """Data, bounds, widening and the report; a method adds what to ask and what to conclude.

    Args:
        target: Mean first-attempt score wanted at the threshold (points, 0-100 exclusive).
        prior: Bounds, mean and standard deviation of thresholds known beforehand (boosts).
        n_latents: Number of latents.
        samples: Samples a step.
        max_widenings: How often the bounds of a latent may be doubled.

    Raises:
        EsrError: a setting makes no sense.
    """

    def __init__(
        self,
        *,
        target: float,
        prior: BoostPrior,
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
        self.target, self.prior, self.n_latents = target, prior, n_latents
        self.samples, self.max_widenings = samples, max_widenings
        self.history = History(n_latents)
        self.lower = np.full(n_latents, float(prior.lower))
        self.upper = np.full(n_latents, float(prior.upper))
        self.n_widened = np.zeros(n_latents, dtype=int)
        self._grids: dict[tuple[float, float], CurveGrid] = {}

    @abstractmethod
    def propose(self, which: Int[np.ndarray, " m"]) -> Float[np.ndarray, "m samples"]:
        """Return the boosts of the next step; see :class:`ThresholdFinder`."""

    @abstractmethod
    def _learn(
        self,
        which: Int[np.ndarray, " m"],
        boosts: Float[np.ndarray, "m samples"],
        scores: Float[np.ndarray, "m samples"],
    ) -> None:
        """Update the state of latents by one step whose scores may be NaN."""

    @abstractmethod
    def _forget(self, which: Int[np.ndarray, " m"]) -> None:
        """Set the state of latents back to the prior on the bounds now in force."""

    @abstractmethod
    def _conclude(
        self,
        which: Int[np.ndarray, " m"],
        grid: CurveGrid,
        posterior: Float[np.ndarray, "m curves"],
    ) -> Float[np.ndarray, "3 m"]:
        """Return threshold, low and high (boosts) of latents that share a grid."""

    def observe(
        self,
        which: Int[np.ndarray, " m"],
        boosts: Float[np.ndarray, "m samples"],
        scores: Float[np.ndarray, "m samples"],
    ) -> None:
        """Add scores; see :class:`ThresholdFinder`.

        Raises:
            EsrError: arguments whose shapes do not fit, unknown or repeated latents, boosts that
                are not finite, scores outside 0-100. Nothing is recorded then.
        """
        which, boosts, scores = self.history.add(which, boosts, scores)
        self._learn(which, boosts, scores)
        if self.max_widenings:
            self._widen(which)

    def estimate(self) -> pd.DataFrame:
        """Return one row a latent, with the columns of :data:`ESTIMATE_COLUMNS`."""
        evidence, squares, degrees = [], PRIOR_SAMPLES, PRIOR_SAMPLES
        for which, grid in self._groups(np.arange(self.n_latents)):
            moments = self.history.moments(which)
            mean = grid.mean(moments.boosts)
            log_likelihood = _log_likelihood(mean, moments)
            expected = normalise(grid.log_prior + log_likelihood) @ mean.T
            squares += _pearson(expected, moments)
            degrees += float(np.maximum(moments.counts.sum(axis=1) - FITTED, 0).sum())
            evidence.append((which, grid, log_likelihood))
        dispersion = max(LEAST_DISPERSION, squares / degrees)
        numbers = np.full((6, self.n_latents), np.nan)
        outside = np.zeros(self.n_latents, dtype=bool)
        for which, grid, log_likelihood in evidence:
            posterior = normalise(grid.log_prior + log_likelihood / dispersion)
            outside[which] = posterior[:, grid.outside].sum(axis=1) > 0.5
            concluded = self._conclude(which, grid, posterior)
            numbers[:3, which] = concluded
            numbers[3:, which] = 100 * _predict(grid, posterior, concluded[0])
        return self._report(numbers, outside)

    def _report(
        self, numbers: Float[np.ndarray, "6 latents"], outside: Bool[np.ndarray, " latents"]
    ) -> pd.DataFrame:
        near = (np.abs(numbers[4:] - self.target) <= TOLERANCE).all(axis=0)
        unknown = self.history.n_samples == 0
        status = np.where(near, Status.CONVERGED, Status.NOT_CONVERGED).astype(object)
        status[outside], status[unknown] = Status.OUT_OF_BOUNDS, Status.NO_DATA
        # Without a crossing there is no threshold to predict at; the interval still says where.
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

    def _groups(self, which: Int[np.ndarray, " m"]) -> Iterator[tuple[np.ndarray, CurveGrid]]:
        """Split latents into chunks that share bounds, each with the curves on those bounds."""
        bounds = np.stack([self.lower[which], self.upper[which]], axis=1)
        distinct, member = np.unique(bounds, axis=0, return_inverse=True)
        for number, (lower, upper) in enumerate(distinct):
            rows = which[member.reshape(-1) == number]
            key = (float(lower), float(upper))
            grid = self._grids.setdefault(key, CurveGrid(self.target / 100, *key, self.prior))
            for start in range(0, rows.size, CHUNK):
                yield rows[start : start + CHUNK], grid

    def _evidence(
        self, which: Int[np.ndarray, " m"], grid: CurveGrid
    ) -> Float[np.ndarray, "m curves"]:
        """Log quasi-likelihood of all data of latents that share a grid."""
        moments = self.history.moments(which)
        return _log_likelihood(grid.mean(moments.boosts), moments)

    def _widen(self, which: Int[np.ndarray, " m"]) -> None:
        """Double the bounds of latents whose threshold lies beyond them more likely than not."""
        which = which[self.n_widened[which] < self.max_widenings]
        moved = []
        for rows, grid in self._groups(which):
            posterior = normalise(grid.log_prior + self._evidence(rows, grid))
            span = grid.upper - grid.lower
            above = posterior[:, grid.above].sum(axis=1) > 0.5
            below = posterior[:, grid.below].sum(axis=1) > 0.5
            below &= grid.lower > BOOST_FLOOR
            self.upper[rows[above]] += span
            self.lower[rows[below]] = max(BOOST_FLOOR, grid.lower - span)
            moved.append(rows[above | below])
        changed = np.sort(np.concatenate(moved)) if moved else np.zeros(0, dtype=int)
        self.n_widened[changed] += 1
        self._forget(changed)
        for step in self.history.replay(changed):
            self._learn(*step)


def _log_likelihood(
    mean: Float[np.ndarray, "distinct curves"], moments: Moments
) -> Float[np.ndarray, "m curves"]:
    """Log quasi-likelihood of every curve, at a dispersion of one."""
    missed = moments.counts - moments.totals
    return moments.totals @ np.log(mean) + missed @ np.log1p(-mean)


def _pearson(mean: Float[np.ndarray, "m distinct"], moments: Moments) -> float:
    """Pearson's statistic: squared residuals over m(1 - m) (McCullagh and Nelder 1989, 4.5.2)."""
    residual = moments.squares - 2 * mean * moments.totals + mean**2 * moments.counts
    return float((residual / (mean * (1 - mean))).sum())


def _predict(
    grid: CurveGrid, posterior: Float[np.ndarray, "m curves"], boosts: Float[np.ndarray, " m"]
) -> Float[np.ndarray, "3 m"]:
    """Posterior mean and 90 % interval of each latent's mean score (0-1) at its boost."""
    mean = grid.mean(boosts)
    low, high = row_quantiles(mean, posterior, LEVELS)
    return np.stack([(posterior * mean).sum(axis=1), low, high])

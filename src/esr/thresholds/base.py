"""What every threshold finder shares: the interface, the statuses and the record of data.

A *threshold* is the boost (raw decoder units) at which a latent's mean first-attempt score
(0-100 points, expectation over prompts) equals the target. Scores fall as the boost grows.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

INTERVAL = 0.90
"""Probability content of every interval reported by a finder."""


class Status(StrEnum):
    """How the search for one latent's threshold ended."""

    CONVERGED = "converged"
    NOT_CONVERGED = "not_converged"  # predicted score known less well than the tolerance
    OUT_OF_BOUNDS = "out_of_bounds"  # the curve does not cross the target, widenings used up
    NO_DATA = "no_data"  # not one valid score


class ThresholdFinder(Protocol):
    """Finds the thresholds of many latents at once; each latent is independent of the others.

    Any subset of latents may be asked and answered at any time; what a latent is asked depends
    only on what was observed for that latent.
    """

    def propose(self, which: Int[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
        """Return the next boost for each latent in ``which``; asking changes nothing."""
        ...

    def observe(
        self,
        which: Int[np.ndarray, " m"],
        boosts: Float[np.ndarray, " m"],
        scores: Float[np.ndarray, "m samples"],
    ) -> None:
        """Add scores (0-100; NaN = no valid score, counted but otherwise ignored)."""
        ...

    def estimate(self) -> pd.DataFrame:
        """Return one row a latent, with the columns of :data:`ESTIMATE_COLUMNS`."""
        ...


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


@dataclass(frozen=True)
class Step:
    """The valid scores of one observation of one latent."""

    boost: float
    total: float
    """Sum of the scores, each scaled to 0-1."""
    count: int


@dataclass
class Record:
    """All that was observed for one latent, in order, and its bounds in force."""

    lower: float
    upper: float
    steps: list[Step] = field(default_factory=list)
    n_missing: int = 0
    n_widened: int = 0

    @property
    def n_samples(self) -> int:
        """Number of valid scores."""
        return sum(step.count for step in self.steps)

    def widen(self, beyond_upper: bool, floor: float) -> bool:
        """Double the range on the side where the threshold lies; never go below ``floor``.

        Returns False, and changes nothing, when the lower bound already is the floor.
        """
        span = self.upper - self.lower
        if beyond_upper:
            self.upper += span
        elif self.lower > floor:
            self.lower = max(floor, self.lower - span)
        else:
            return False
        self.n_widened += 1
        return True


def check_settings(
    target: float, lower: float, upper: float, prior_mean: float, prior_sd: float, n_latents: int
) -> None:
    """Raise ``ValueError`` if the settings common to all finders make no sense."""
    if not 0 < target < 100:
        raise ValueError(f"target is {target}; give score points strictly between 0 and 100")
    if not lower < upper:
        raise ValueError(f"bounds are [{lower}, {upper}]; lower must be below upper")
    if not lower <= prior_mean <= upper:
        raise ValueError(f"prior_mean is {prior_mean}; move it inside [{lower}, {upper}]")
    if not prior_sd > 0:
        raise ValueError(f"prior_sd is {prior_sd}; give a positive boost")
    if n_latents < 1:
        raise ValueError(f"n_latents is {n_latents}; give at least one latent")


def check_latents(which: Int[np.ndarray, " m"], n_latents: int) -> Int[np.ndarray, " m"]:
    """Return ``which`` as an integer array; raise ``ValueError`` on unknown or repeated ones."""
    which = np.asarray(which)
    if which.size == 0:
        return np.zeros(0, dtype=np.int64)
    if which.ndim != 1 or not np.issubdtype(which.dtype, np.integer):
        raise ValueError(f"which is {which!r}; give a flat array of latent positions")
    if which.min() < 0 or which.max() >= n_latents:
        raise ValueError(f"which runs {which.min()}..{which.max()}; give 0..{n_latents - 1}")
    if np.unique(which).size < which.size:
        raise ValueError("which names a latent twice; give its samples as columns of one row")
    return which


def record_scores(
    records: list[Record],
    which: Int[np.ndarray, " m"],
    boosts: Float[np.ndarray, " m"],
    scores: Float[np.ndarray, "m samples"],
) -> list[int]:
    """Append the valid scores (0-100) to the records; return the positions in ``which`` that had.

    Raises ``ValueError`` on shapes that do not fit, boosts that are not finite, and scores
    outside 0-100.
    """
    boosts, scores = np.asarray(boosts, dtype=float), np.asarray(scores, dtype=float)
    if boosts.shape != which.shape or scores.ndim != 2 or len(scores) != len(which):
        raise ValueError(
            f"{len(which)} latents, boosts {boosts.shape}, scores {scores.shape}; "
            "give boosts (m,) and scores (m, samples)"
        )
    if not np.isfinite(boosts).all():
        raise ValueError("a boost is not finite; observe only boosts that were applied")
    valid = ~np.isnan(scores)
    if ((scores[valid] < 0) | (scores[valid] > 100)).any():
        raise ValueError("a score lies outside 0-100; mark a sample without a score as NaN")
    answered = []
    for row, latent in enumerate(which):
        fractions = scores[row, valid[row]] / 100
        records[latent].n_missing += int((~valid[row]).sum())
        if fractions.size:
            records[latent].steps.append(
                Step(float(boosts[row]), float(fractions.sum()), int(fractions.size))
            )
            answered.append(row)
    return answered

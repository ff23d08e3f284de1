"""Threshold finding by an adaptive Bayesian logistic dose-response (the default method)."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from esr.thresholds.curves import Curves, WidthPrior
from esr.thresholds.finder import Finder
from esr.thresholds.grid import N_CELLS
from esr.thresholds.history import check_latents

PER_CELL = 8
"""Possible answers in a cell of the grid."""
DIGITS = 4
"""Significant digits of a threshold: the same on any machine."""
LOSS_DECIMALS = 9
"""Losses that agree so far, relative to the least, are equal; the smallest boost is taken."""


class Logistic(Finder):
    """Asks the boost that is expected to tell most, and reports from all data at once.

    The posterior over curves lives on the grids of :mod:`esr.thresholds.grid`; its prior of
    relative widths is learnt from all latents, so what one is asked depends on the scores of all.
    The next boost minimises the expected posterior variance of the threshold with each curve
    weighted by its squared slope there, that is, about the expected squared error in score points
    (after Watson 2017, QUEST+, who minimises the entropy). The threshold is the boost whose
    expected squared distance from the target, in score points, is least.
    """

    def propose(self, which: Int[np.ndarray, " m"]) -> Float[np.ndarray, "m samples"]:
        """Return the most telling boost of each latent, for every sample of the step."""
        which = check_latents(which, self.n_latents)
        boosts = np.empty((self.n_latents, self.samples))
        widths = self.windows.width_prior(self.windows.dispersion)
        for rows, level in self._levels(which):
            boosts[rows] = self._ask(rows, level, widths)
        return boosts[which]

    def _ask(
        self, rows: Int[np.ndarray, " m"], level: int, widths: WidthPrior
    ) -> Float[np.ndarray, "m samples"]:
        """Choose the boosts of a step for latents whose windows are equally long."""
        table = _table(self.windows.curves, float(self.windows.cell(level)))
        posterior = self.windows.posterior(rows, widths, self.windows.dispersion).reshape(
            len(rows), -1
        )
        candidates = self.windows.edges(rows)
        allowed = self._within(rows, candidates)
        chosen = []
        for _ in range(self.samples):
            best = _most_telling(table, posterior, allowed)
            chosen.append(best)
            # A further sample is chosen as if this one had been answered as expected.
            hit = (posterior * table.mean[best]).sum(axis=1, keepdims=True)
            log = hit * np.log(table.mean[best]) + (1 - hit) * np.log1p(-table.mean[best])
            posterior = posterior * np.exp(log / self.windows.dispersion)
            posterior /= posterior.sum(axis=1, keepdims=True)
        return np.take_along_axis(candidates, np.stack(chosen, axis=1), axis=1)

    def _levels(self, which: Int[np.ndarray, " m"]) -> list[tuple[np.ndarray, int]]:
        level = self.windows.level[which]
        return [(which[level == one], int(one)) for one in np.unique(level)]

    def _within(
        self, rows: Int[np.ndarray, " m"], boosts: Float[np.ndarray, "m n"]
    ) -> Bool[np.ndarray, "m n"]:
        return (boosts >= self.lower[rows][:, None]) & (boosts <= self.upper[rows][:, None])

    def _conclude(
        self, which: Int[np.ndarray, " m"], posterior: Float[np.ndarray, "m cells widths"]
    ) -> Float[np.ndarray, "3 m"]:
        position = np.full(self.n_latents, -1)
        position[which] = np.arange(len(which))
        best = np.empty(len(which))
        for rows, level in self._levels(which):
            cell = float(self.windows.cell(level))
            answers = self.windows.edges(rows)[:, :1] + _steps() * cell
            flat = posterior[position[rows]].reshape(len(rows), -1)
            loss = flat @ _losses(self.windows.curves, cell).T
            at = np.where(self._within(rows, answers), loss, np.inf).argmin(axis=1)
            best[position[rows]] = np.clip(
                answers[np.arange(len(rows)), at], self.lower[rows], self.upper[rows]
            )
        rounded = [float(f"{boost:.{DIGITS}g}") for boost in best]
        return np.stack([rounded, *self._threshold_interval(which, posterior)])


class Table(NamedTuple):
    """What windows of one level share, wherever they lie. Boosts count from the window's start."""

    threshold: Float[np.ndarray, " curves"]
    width: Float[np.ndarray, " curves"]
    mean: Float[np.ndarray, "candidates curves"]
    """Mean score (0-1) of every curve at every end of a cell."""


@lru_cache(maxsize=32)
def _table(curves: Curves, cell: float) -> Table:
    threshold = (np.arange(N_CELLS) + 0.5) * cell
    mean = curves.mean(np.arange(N_CELLS + 1) * cell, threshold[None])
    width = np.tile(curves.widths, N_CELLS)
    return Table(
        np.repeat(threshold, curves.widths.size), width, mean.reshape(N_CELLS + 1, width.size)
    )


def _most_telling(
    table: Table,
    posterior: Float[np.ndarray, "m curves"],
    allowed: Bool[np.ndarray, "m candidates"],
) -> Int[np.ndarray, " m"]:
    """Choose the candidate with the least expected loss once its score, 0 or 100, is known.

    The loss is the variance of the threshold, curves weighted by 1 / (w^2 + v), v being the
    present variance: no error in score points grows further once a curve is narrower than that.
    """
    t = table.threshold / table.threshold[-1]
    first, second = posterior @ t, posterior @ t**2
    variance = (second - first**2)[:, None]
    weight = posterior / ((table.width / table.threshold[-1]) ** 2 + variance)
    loss = np.zeros(allowed.shape)
    moments = [weight, weight * t, weight * t**2]
    if_hit = [moment @ table.mean.T for moment in moments]
    if_miss = [
        moment.sum(axis=1, keepdims=True) - hit for moment, hit in zip(moments, if_hit, strict=True)
    ]
    for zeroth, one, two in (if_hit, if_miss):
        loss += two - one**2 / np.maximum(zeroth, 1e-30)
    loss = np.where(allowed, loss, np.inf)
    least = np.maximum(loss.min(axis=1, keepdims=True), 1e-30)
    return np.round(loss / least, LOSS_DECIMALS).argmin(axis=1)


def _steps() -> Float[np.ndarray, " answers"]:
    """Possible answers, in cells from the start of a window."""
    return np.arange(N_CELLS * PER_CELL + 1) / PER_CELL


@lru_cache(maxsize=32)
def _losses(curves: Curves, cell: float) -> Float[np.ndarray, "answers curves"]:
    """Squared distance from the target (0-1) of every curve at every possible answer."""
    mean = curves.mean(_steps() * cell, (np.arange(N_CELLS) + 0.5)[None] * cell)
    return ((mean - curves.target) ** 2).reshape(len(mean), -1)

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
"""Candidate thresholds per cell of the grid."""
DIGITS = 4
"""Significant digits of a threshold; rounding makes it the same on any machine."""
LOSS_DECIMALS = 9
"""Losses relative to the smallest are rounded to this; among ties the smallest boost wins."""


class Logistic(Finder):
    """Proposes the most informative boost, and estimates from all scores.

    The posterior over curves is kept on the grids of :mod:`esr.thresholds.grid`. Its prior of
    relative widths is learnt from all latents, so proposals for one latent depend on the scores of
    all. The next boost minimises the expected posterior variance of the threshold, each curve
    weighted by its squared slope at the threshold; this approximates the expected squared error in
    score points (after QUEST+, Watson 2017, which minimises entropy). The estimate is the boost
    with the smallest expected squared distance from the target, in score points.
    """

    def propose(self, which: Int[np.ndarray, " m"]) -> Float[np.ndarray, "m samples"]:
        """Return the most informative boosts of each latent, one per sample of the step."""
        which = check_latents(which, self.n_latents)
        boosts = np.empty((self.n_latents, self.samples))
        widths = self.grid.width_prior(self.grid.dispersion)
        for rows, level in self._levels(which):
            boosts[rows] = self._propose_at_level(rows, level, widths)
        return boosts[which]

    def _propose_at_level(
        self, rows: Int[np.ndarray, " m"], level: int, widths: WidthPrior
    ) -> Float[np.ndarray, "m samples"]:
        """Choose the boosts of a step for latents whose windows have the same length."""
        table = _table(self.grid.curves, float(self.grid.cell(level)))
        posterior = self.grid.posterior(rows, widths, self.grid.dispersion).reshape(len(rows), -1)
        candidates = self.grid.edges(rows)
        allowed = self._within(rows, candidates)
        chosen = []
        for _ in range(self.samples):
            best = _most_informative(table, posterior, allowed)
            chosen.append(best)
            # Samples of a step are judged together, so the next one is chosen as if this one had
            # scored its expected value. Otherwise all of them would go to the same boost.
            hit = (posterior * table.mean[best]).sum(axis=1, keepdims=True)
            log = hit * np.log(table.mean[best]) + (1 - hit) * np.log1p(-table.mean[best])
            posterior = posterior * np.exp(log / self.grid.dispersion)
            posterior /= posterior.sum(axis=1, keepdims=True)
        return np.take_along_axis(candidates, np.stack(chosen, axis=1), axis=1)

    def _levels(self, which: Int[np.ndarray, " m"]) -> list[tuple[np.ndarray, int]]:
        """Group latents by level: windows of equal length share one table of mean scores."""
        level = self.grid.level[which]
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
            cell = float(self.grid.cell(level))
            # Finer than the cells: the best boost in score points may lie between two of them.
            candidates = self.grid.edges(rows)[:, :1] + _steps() * cell
            flat = posterior[position[rows]].reshape(len(rows), -1)
            loss = flat @ _losses(self.grid.curves, cell).T
            at = np.where(self._within(rows, candidates), loss, np.inf).argmin(axis=1)
            best[position[rows]] = np.clip(
                candidates[np.arange(len(rows)), at], self.lower[rows], self.upper[rows]
            )
        rounded = [float(f"{boost:.{DIGITS}g}") for boost in best]
        return np.stack([rounded, *self._threshold_interval(which, posterior)])


class Table(NamedTuple):
    """Curves of the windows of one level, which are the same up to a shift of the boost.

    Boosts are relative to the start of the window.
    """

    threshold: Float[np.ndarray, " curves"]
    width: Float[np.ndarray, " curves"]
    mean: Float[np.ndarray, "candidates curves"]
    """Mean score (0-1) of every curve at every cell edge."""


@lru_cache(maxsize=32)
def _table(curves: Curves, cell: float) -> Table:
    threshold = (np.arange(N_CELLS) + 0.5) * cell
    mean = curves.mean(np.arange(N_CELLS + 1) * cell, threshold[None])
    width = np.tile(curves.widths, N_CELLS)
    return Table(
        np.repeat(threshold, curves.widths.size), width, mean.reshape(N_CELLS + 1, width.size)
    )


def _most_informative(
    table: Table,
    posterior: Float[np.ndarray, "m curves"],
    allowed: Bool[np.ndarray, "m candidates"],
) -> Int[np.ndarray, " m"]:
    """Choose the candidate with the smallest expected loss after observing its score, 0 or 100.

    The loss is the variance of the threshold, with curves weighted by 1 / (w^2 + v), where w is the
    width of a curve and v the current variance. A curve narrower than the current uncertainty is a
    step: the error in score points cannot grow further, so its weight is bounded.
    """
    # Scaled to 0-1, so that the moments below keep their digits for priors of any unit.
    t = table.threshold / table.threshold[-1]
    first = posterior @ t
    second = posterior @ t**2
    variance = (second - first**2)[:, None]
    weight = posterior / ((table.width / table.threshold[-1]) ** 2 + variance)
    # Weighted moments of the threshold for either outcome; variance = second - first^2 / zeroth.
    # Outcomes are not normalised: each then counts in proportion to its probability.
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


def _steps() -> Float[np.ndarray, " candidates"]:
    """Candidate thresholds, in cells from the start of a window."""
    return np.arange(N_CELLS * PER_CELL + 1) / PER_CELL


@lru_cache(maxsize=32)
def _losses(curves: Curves, cell: float) -> Float[np.ndarray, "candidates curves"]:
    """Squared distance from the target (0-1) of every curve at every candidate threshold."""
    mean = curves.mean(_steps() * cell, (np.arange(N_CELLS) + 0.5)[None] * cell)
    return ((mean - curves.target) ** 2).reshape(len(mean), -1)

"""The posterior over curves of every latent, on an adaptive grid.

All latents share the same widths. The thresholds of a latent are the cells of a *window*, whose
length is the prior's standard deviation divided by a power of two, 2^level. A window starts wide
enough for the bounds. It is halved when the posterior fits into half of it, and doubled when the
posterior reaches an end, so that cliffs and slopes are resolved equally well. After each move the
likelihood is recomputed from all scores; nothing is interpolated.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from esr.thresholds.curves import BEYOND, N_WIDTHS, TINY, Curves, WidthPrior, learn_width_prior
from esr.thresholds.history import History

N_CELLS = 80
FINEST = 6
"""Finest level: its cells are a fifth of the narrowest width."""
TAIL = 0.005
"""Posterior probability that may lie outside the central part of a window, on either side."""
ROOM = 4
"""Margin in cells: a window is halved once the posterior is this much shorter than half of it."""
RATIO_BINS = np.linspace(-10, 4, 57)
"""Edges of the bins of log(width / threshold), slightly narrower than the spacing of widths."""


class PosteriorGrid:
    """Grids, bounds and log quasi-likelihoods (at a dispersion of one) of all latents."""

    def __init__(self, curves: Curves, history: History) -> None:
        self.curves = curves
        self.history = history
        n = history.n_latents
        self.lower = np.full(n, float(curves.prior.lower))
        self.upper = np.full(n, float(curves.prior.upper))
        self.dispersion = 1.0
        """Dispersion that is assumed when windows move."""
        # A window is stored as integers, its level and its first cell, so that edges are exact
        # multiples of the cell and the same on any machine.
        self.level = np.zeros(n, dtype=int)
        self.start = np.zeros(n, dtype=int)
        self._log_likelihood = np.zeros((n, N_CELLS, N_WIDTHS))
        self.reset(np.arange(n))

    def cell(self, level: Int[np.ndarray, " m"] | int) -> Float[np.ndarray, " m"]:
        """Length of a cell (boost)."""
        return np.asarray(self.curves.prior.sd * 2.0 ** -np.asarray(level) / N_CELLS)

    def edges(self, which: Int[np.ndarray, " m"]) -> Float[np.ndarray, "m cells_plus_1"]:
        """Edges of the cells (boost)."""
        first = self.start[which][:, None] + np.arange(N_CELLS + 1)
        return first * self.cell(self.level[which])[:, None]

    def thresholds(self, which: Int[np.ndarray, " m"]) -> Float[np.ndarray, "m cells"]:
        """Threshold of each cell: its midpoint (boost)."""
        edges = self.edges(which)
        return (edges[:, 1:] + edges[:, :-1]) / 2

    def beyond(self, which: Int[np.ndarray, " m"]) -> Bool[np.ndarray, "2 m cells"]:
        """Which cells lie below the lower, and above the upper bound."""
        t = self.thresholds(which)
        return np.stack([t < self.lower[which][:, None], t > self.upper[which][:, None]])

    def learn(
        self,
        which: Int[np.ndarray, " m"],
        boosts: Float[np.ndarray, "m samples"],
        scores: Float[np.ndarray, "m samples"],
    ) -> None:
        """Add scores (0-100 or NaN), then recentre the windows on the posterior."""
        self._add(which, boosts, scores)
        self._recentre(which)

    def reset(self, which: Int[np.ndarray, " m"]) -> None:
        """Restart from the current bounds, with all scores."""
        middle = (self.upper[which] + self.lower[which]) / 2
        self._set_window(which, self._coarsest_level(which), middle)
        self._recentre(which)

    def posterior(
        self,
        which: Int[np.ndarray, " m"],
        widths: WidthPrior | None = None,
        dispersion: float = 1.0,
    ) -> Float[np.ndarray, "m cells widths"]:
        """Probability of every curve in the windows; without a prior, widths are uniform."""
        # In place: these arrays are large, and to allocate one takes as long as to compute it.
        log = self._log_likelihood[which]
        log /= dispersion
        log += self._log_mass(which)
        if widths:
            log += widths.log_prior(self.curves.log_ratio(self.thresholds(which)))
        # Subtract the maximum before exponentiating: log likelihoods of many scores underflow.
        log -= log.max(axis=(1, 2), keepdims=True)
        weights = np.exp(log, out=log)
        weights /= weights.sum(axis=(1, 2), keepdims=True)
        return weights

    def width_prior(self, dispersion: float) -> WidthPrior:
        """Learn the prior of relative widths from every latent that has a score."""
        which = np.flatnonzero(self.history.n_samples)
        log_mass = self._log_mass(which)
        log = log_mass + self._log_likelihood[which] / dispersion
        weights = np.exp(log - log.max(axis=(1, 2), keepdims=True))
        # Latents have different windows, so their evidence is compared in common bins of
        # log(width / threshold): joint probability over prior mass is the likelihood of a bin.
        n = RATIO_BINS.size - 1
        at = np.digitize(self.curves.log_ratio(self.thresholds(which)), RATIO_BINS) - 1
        at = np.clip(at, 0, n - 1) + n * np.arange(which.size)[:, None, None]
        mass = np.broadcast_to(np.exp(log_mass), at.shape)
        joint, prior = (
            np.bincount(at.ravel(), values.ravel(), which.size * n).reshape(-1, n)
            for values in (weights, mass)
        )
        evidence = np.where(prior > 0, joint / np.maximum(prior, TINY), 0)
        evidence /= np.maximum(evidence.sum(axis=1, keepdims=True), TINY)
        return learn_width_prior(evidence, (RATIO_BINS[1:] + RATIO_BINS[:-1]) / 2)

    def _log_mass(self, which: Int[np.ndarray, " m"]) -> Float[np.ndarray, "m cells 1"]:
        """Log prior probability of each cell."""
        lower = self.lower[which][:, None]
        upper = self.upper[which][:, None]
        cdf = self.curves.threshold_cdf(self.edges(which), lower, upper)
        return np.log(np.diff(cdf, axis=1) + TINY)[:, :, None]

    def _coarsest_level(self, which: Int[np.ndarray, " m"]) -> Int[np.ndarray, " m"]:
        """Level whose window just covers the bounds and the thresholds beyond them."""
        span = (1 + 2 * BEYOND) * (self.upper[which] - self.lower[which])
        return -np.ceil(np.log2(span / self.curves.prior.sd)).astype(int)

    def _add(
        self,
        which: Int[np.ndarray, " m"],
        boosts: Float[np.ndarray, "m samples"],
        scores: Float[np.ndarray, "m samples"],
    ) -> None:
        """Add the quasi-log-likelihood of scores (0-100 or NaN), one column at a time."""
        for boost, score in zip(boosts.T, scores.T / 100, strict=True):
            valid = ~np.isnan(score)
            rows = which[valid]
            s = score[valid][:, None, None]
            mean = self.curves.mean(boost[valid], self.thresholds(rows))
            log = np.log(mean)
            log *= s
            miss = np.log1p(np.negative(mean, out=mean), out=mean)
            miss *= 1 - s
            log += miss
            self._log_likelihood[rows] += log

    def _set_window(
        self,
        which: Int[np.ndarray, " m"],
        level: Int[np.ndarray, " m"],
        middle: Float[np.ndarray, " m"],
    ) -> None:
        """Set level and middle of windows, and recompute their likelihood from all scores."""
        self.level[which] = level
        self.start[which] = np.round(middle / self.cell(level)).astype(int) - N_CELLS // 2
        self._log_likelihood[which] = 0
        self._add(which, *self.history.samples(which))

    def _recentre(self, which: Int[np.ndarray, " m"]) -> None:
        """Halve windows that are too wide; double those whose end the posterior reaches."""
        doubled = np.zeros(self.history.n_latents, dtype=bool)
        while which.size:
            marginal = self.posterior(which, dispersion=self.dispersion).sum(axis=2)
            cdf = np.cumsum(marginal, axis=1)
            first = (cdf < TAIL).sum(axis=1)
            last = np.minimum((cdf < 1 - TAIL).sum(axis=1), N_CELLS - 1)
            level = self.level[which]
            coarsest = self._coarsest_level(which)
            double = ((first == 0) | (last == N_CELLS - 1)) & (level > coarsest)
            halve = (last - first < N_CELLS // 2 - ROOM) & (level < FINEST)
            # A window that was doubled is not halved in the same call, so the loop terminates.
            halve &= ~double & ~doubled[which]
            doubled[which[double]] = True
            middle = (self.start[which] + (first + last + 1) / 2) * self.cell(level)
            # A window must contain boosts within the bounds, or nothing could be proposed.
            middle = np.clip(middle, self.lower[which], self.upper[which])
            level = level + halve - double
            middle = np.where(level == coarsest, (self.upper + self.lower)[which] / 2, middle)
            moved = halve | double
            which = which[moved]
            self._set_window(which, level[moved], middle[moved])

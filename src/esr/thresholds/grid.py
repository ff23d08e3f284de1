"""A posterior over curves for every latent, on a grid that follows it.

All latents have the same widths. Their thresholds are the cells of a *window*, whose length is
the prior's standard deviation over a power of two, the *level*. It starts wide enough for the
bounds, and is halved or doubled as the posterior asks, so that a cliff is seen as sharply as a
slope. The likelihood is then recomputed from all scores; nothing is interpolated.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from esr.thresholds.curves import BEYOND, N_WIDTHS, TINY, Curves, WidthPrior, learn_width_prior
from esr.thresholds.history import History

N_CELLS = 80
FINEST = 6
"""Finest level: its cells are a fifth of the narrowest width."""
TAIL = 0.005
"""Posterior probability that a window may leave out on either side."""
ROOM = 4
"""Cells by which the posterior must fall short of half the window before it is halved."""
RATIO_BINS = np.linspace(-10, 4, 57)
"""Edges of bins of log(width / threshold), a little narrower than the spacing of widths."""


class PosteriorGrid:
    """Grids, bounds and log quasi-likelihoods (at a dispersion of one) of all latents."""

    def __init__(self, curves: Curves, history: History) -> None:
        self.curves, self.history = curves, history
        n = history.n_latents
        self.lower = np.full(n, float(curves.prior.lower))
        self.upper = np.full(n, float(curves.prior.upper))
        self.dispersion = 1.0
        """Assumed when windows are moved."""
        self.level, self.start = np.zeros((2, n), dtype=int)
        self._log_likelihood = np.zeros((n, N_CELLS, N_WIDTHS))
        self.reset(np.arange(n))

    def cell(self, level: Int[np.ndarray, " m"] | int) -> Float[np.ndarray, " m"]:
        """Length of a cell (boost)."""
        return np.asarray(self.curves.prior.sd * 2.0 ** -np.asarray(level) / N_CELLS)

    def edges(self, which: Int[np.ndarray, " m"]) -> Float[np.ndarray, "m cells_plus_1"]:
        """Ends of the cells (boost)."""
        first = self.start[which][:, None] + np.arange(N_CELLS + 1)
        return first * self.cell(self.level[which])[:, None]

    def thresholds(self, which: Int[np.ndarray, " m"]) -> Float[np.ndarray, "m cells"]:
        """Threshold of each cell: its middle (boost)."""
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
        """Add scores (0-100 or NaN), then move the windows to where the posterior has gone."""
        self._add(which, boosts, scores)
        self._follow(which)

    def reset(self, which: Int[np.ndarray, " m"]) -> None:
        """Start again from the bounds now in force, with all scores."""
        self._place(which, self._home(which), (self.upper[which] + self.lower[which]) / 2)
        self._follow(which)

    def posterior(
        self,
        which: Int[np.ndarray, " m"],
        widths: WidthPrior | None = None,
        dispersion: float = 1.0,
    ) -> Float[np.ndarray, "m cells widths"]:
        """Probability of every curve in the windows; all widths alike where no prior is given."""
        log = self._log_mass(which) + self._log_likelihood[which] / dispersion
        if widths:
            log += widths.log_prior(self.curves.log_ratio(self.thresholds(which)))
        weights = np.exp(log - log.max(axis=(1, 2), keepdims=True))
        return weights / weights.sum(axis=(1, 2), keepdims=True)

    def width_prior(self, dispersion: float) -> WidthPrior:
        """Learn the prior of relative widths from every latent that has a score."""
        which = np.flatnonzero(self.history.n_samples)
        log_mass = self._log_mass(which)
        log = log_mass + self._log_likelihood[which] / dispersion
        weights = np.exp(log - log.max(axis=(1, 2), keepdims=True))
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
        lower, upper = self.lower[which][:, None], self.upper[which][:, None]
        cdf = self.curves.threshold_cdf(self.edges(which), lower, upper)
        return np.log(np.diff(cdf, axis=1) + TINY)[:, :, None]

    def _home(self, which: Int[np.ndarray, " m"]) -> Int[np.ndarray, " m"]:
        """Finest level whose window holds the bounds and the thresholds beyond them."""
        span = (1 + 2 * BEYOND) * (self.upper[which] - self.lower[which])
        return -np.ceil(np.log2(span / self.curves.prior.sd)).astype(int)

    def _add(
        self,
        which: Int[np.ndarray, " m"],
        boosts: Float[np.ndarray, "m samples"],
        scores: Float[np.ndarray, "m samples"],
    ) -> None:
        for boost, score in zip(boosts.T, scores.T / 100, strict=True):
            valid = ~np.isnan(score)
            rows, s = which[valid], score[valid][:, None, None]
            mean = self.curves.mean(boost[valid], self.thresholds(rows))
            self._log_likelihood[rows] += s * np.log(mean) + (1 - s) * np.log1p(-mean)

    def _place(
        self,
        which: Int[np.ndarray, " m"],
        level: Int[np.ndarray, " m"],
        middle: Float[np.ndarray, " m"],
    ) -> None:
        self.level[which] = level
        self.start[which] = np.round(middle / self.cell(level)).astype(int) - N_CELLS // 2
        self._log_likelihood[which] = 0
        self._add(which, *self.history.samples(which))

    def _follow(self, which: Int[np.ndarray, " m"]) -> None:
        """Halve windows that are too wide, double those whose end the posterior has reached."""
        doubled = np.zeros(self.history.n_latents, dtype=bool)
        while which.size:
            marginal = self.posterior(which, dispersion=self.dispersion).sum(axis=2)
            cdf = np.cumsum(marginal, axis=1)
            first = (cdf < TAIL).sum(axis=1)
            last = np.minimum((cdf < 1 - TAIL).sum(axis=1), N_CELLS - 1)
            level, home = self.level[which], self._home(which)
            double = ((first == 0) | (last == N_CELLS - 1)) & (level > home)
            halve = (last - first < N_CELLS // 2 - ROOM) & (level < FINEST)
            # Doubled once, not halved again in the same step: this ends.
            halve &= ~double & ~doubled[which]
            doubled[which[double]] = True
            middle = (self.start[which] + (first + last + 1) / 2) * self.cell(level)
            # Windows always hold some boosts that may be asked.
            middle = np.clip(middle, self.lower[which], self.upper[which])
            level = level + halve - double
            middle = np.where(level == home, (self.upper + self.lower)[which] / 2, middle)
            moved = halve | double
            which = which[moved]
            self._place(which, level[moved], middle[moved])

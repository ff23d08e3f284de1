"""All boosts and scores of a threshold search, in the order in which they were observed."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

from esr.errors import EsrError

Step = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Latents (m,), their boosts (m, samples) and scores (m, samples; 0-100 or NaN)."""


class History:
    """Boosts and scores of many latents."""

    def __init__(self, n_latents: int) -> None:
        self.n_latents = n_latents
        self.steps: list[Step] = []
        self._samples: list[list[tuple[float, float]]] = [[] for _ in range(n_latents)]
        self.n_samples = np.zeros(n_latents, dtype=int)
        """Valid scores of each latent."""
        self.n_missing = np.zeros(n_latents, dtype=int)
        """Samples of each latent without a valid score."""

    def add(
        self,
        which: Int[np.ndarray, " m"],
        boosts: Float[np.ndarray, "m samples"],
        scores: Float[np.ndarray, "m samples"],
    ) -> Step:
        """Record one step; return it as arrays.

        Raises:
            EsrError: see :meth:`esr.thresholds.finder.Finder.observe`; nothing is recorded.
        """
        which = check_latents(which, self.n_latents)
        boosts, scores = np.array(boosts, dtype=float), np.array(scores, dtype=float)
        if scores.ndim != 2 or boosts.shape != scores.shape or len(scores) != len(which):
            raise EsrError(
                f"{len(which)} latents, boosts {boosts.shape}, scores {scores.shape}; "
                "give both as (latents, samples)"
            )
        if not np.isfinite(boosts).all():
            raise EsrError("a boost is not finite; observe only boosts that were applied")
        valid = ~np.isnan(scores)
        wrong = scores[valid & ~((scores >= 0) & (scores <= 100))]
        if wrong.size:
            raise EsrError(f"score {wrong[0]} lies outside 0-100; mark a missing score as NaN")
        self.steps.append((which, boosts, scores))
        self.n_samples[which] += valid.sum(axis=1)
        self.n_missing[which] += (~valid).sum(axis=1)
        for latent, b, s, ok in zip(which, boosts, scores, valid, strict=True):
            self._samples[latent] += zip(b[ok], s[ok], strict=True)
        return which, boosts, scores

    def replay(self, which: Int[np.ndarray, " m"]) -> Iterator[Step]:
        """Yield the steps in order, restricted to the latents in ``which``."""
        for latents, boosts, scores in self.steps:
            rows = np.isin(latents, which)
            if rows.any():
                yield latents[rows], boosts[rows], scores[rows]

    def samples(
        self, which: Int[np.ndarray, " m"]
    ) -> tuple[Float[np.ndarray, "m n"], Float[np.ndarray, "m n"]]:
        """Boosts and valid scores (0-100) of latents, in order, padded with NaN."""
        longest = int(self.n_samples[which].max(initial=0))
        boosts, scores = np.full((2, len(which), longest), np.nan)
        for row, latent in enumerate(which):
            one = self._samples[latent]
            if one:
                boosts[row, : len(one)], scores[row, : len(one)] = np.array(one).T
        return boosts, scores


def check_latents(which: Int[np.ndarray, " m"], n_latents: int) -> Int[np.ndarray, " m"]:
    """Return ``which`` as an integer array; raise ``EsrError`` on unknown or repeated ones."""
    which = np.array(which)
    if which.size == 0:
        return np.zeros(0, dtype=np.int64)
    if which.ndim != 1 or not np.issubdtype(which.dtype, np.integer):
        raise EsrError(f"which is {which!r}; give a flat array of latent positions")
    if which.min() < 0 or which.max() >= n_latents:
        raise EsrError(f"which runs {which.min()}..{which.max()}; give 0..{n_latents - 1}")
    if np.unique(which).size < which.size:
        raise EsrError("which names a latent twice; give its samples as columns of one row")
    return which

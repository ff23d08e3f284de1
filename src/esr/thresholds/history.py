"""Every query and every score of a threshold search, in the order they came."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from esr.errors import EsrError

Step = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Latents (m,), their boosts (m, samples) and scores (m, samples; 0-100 or NaN)."""


class Moments(NamedTuple):
    """Sums over the valid scores, each scaled to 0-1, of some latents."""

    boosts: Float[np.ndarray, " distinct"]
    """Every boost that any of the latents had."""
    counts: Float[np.ndarray, "m distinct"]
    """Number of scores of each latent at each boost."""
    totals: Float[np.ndarray, "m distinct"]
    """Their sum."""
    squares: Float[np.ndarray, "m distinct"]
    """The sum of their squares."""


class History:
    """What was asked of many latents, and what was answered."""

    def __init__(self, n_latents: int) -> None:
        self.n_latents = n_latents
        self.steps: list[Step] = []
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
            EsrError: as :meth:`esr.thresholds.base.Finder.observe` says; nothing is recorded.
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
        return which, boosts, scores

    def table(self) -> pd.DataFrame:
        """One row a sample: ``latent``, ``step`` and ``sample`` (from 0), ``boost``, ``score``."""
        frames = [
            pd.DataFrame(
                {
                    "latent": np.repeat(which, boosts.shape[1]),
                    "sample": np.tile(np.arange(boosts.shape[1]), len(which)),
                    "boost": boosts.ravel(),
                    "score": scores.ravel(),
                    "event": event,
                }
            )
            for event, (which, boosts, scores) in enumerate(self.steps)
        ]
        columns = ["latent", "step", "sample", "boost", "score"]
        if not frames:
            return pd.DataFrame(columns=columns)
        rows = pd.concat(frames, ignore_index=True)
        rows["step"] = rows.groupby("latent")["event"].rank(method="dense").astype(int) - 1
        return rows.sort_values(["latent", "step", "sample"], ignore_index=True)[columns]

    def replay(self, which: Int[np.ndarray, " m"]) -> Iterator[Step]:
        """The steps again, in order, as far as they concern the latents in ``which``."""
        for latents, boosts, scores in self.steps:
            rows = np.isin(latents, which)
            if rows.any():
                yield latents[rows], boosts[rows], scores[rows]

    def moments(self, which: Int[np.ndarray, " m"]) -> Moments:
        """Sum up the valid scores of latents by boost."""
        position = np.full(self.n_latents, -1)
        position[which] = np.arange(len(which))
        steps = list(self.replay(which))
        if not steps:
            none = np.zeros((len(which), 0))
            return Moments(np.zeros(0), none, none, none)
        row = np.concatenate([np.repeat(position[w], b.shape[1]) for w, b, _ in steps])
        boost = np.concatenate([b.ravel() for _, b, _ in steps])
        score = np.concatenate([s.ravel() for _, _, s in steps]) / 100
        valid = ~np.isnan(score)
        distinct, column = np.unique(boost[valid], return_inverse=True)
        shape = (len(which), distinct.size)
        cell = np.ravel_multi_index((row[valid], column), shape)
        sums = (
            np.bincount(cell, score[valid] ** power, shape[0] * shape[1]).reshape(shape)
            for power in (0, 1, 2)
        )
        return Moments(distinct, *sums)


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

"""A batch of the transformers engine while it is generated: rows that have ended are dropped."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from esr.engines.base import Sampling
from esr.engines.cache import make_room
from esr.engines.sampling import draw, penalise_repetitions, tokens_seen, uniforms

ENDED_SHARE = 0.125
"""Rows are dropped when this share of the batch has ended. Each time copies the cache."""

SMALL_BATCH = 5
"""A batch of so few rows takes about as long as one row, so it stays as it is."""


class RunningBatch:
    """Rows that are still generated, what was sampled until now, and the input of the next step.

    When rows are dropped depends on the rows of the batch alone: a batch that is computed again
    gives the same bytes.
    """

    def __init__(
        self,
        tokens: Int[Tensor, "batch length"],
        mask: Int[Tensor, "batch length"],
        seeds: Sequence[int],
        sampling: Sampling,
        stops: Sequence[int],
        vocabulary: int,
    ) -> None:
        """Begin with left-padded prompts.

        Args:
            tokens: The prompts.
            mask: 1 for tokens, 0 for padding.
            seeds: Seed of each row's random numbers.
            sampling: Sampling settings.
            stops: Tokens that end a response.
            vocabulary: Number of tokens that the model knows.
        """
        self.rows = list(range(len(seeds)))
        """Numbers, in the whole batch, of the rows that are left."""
        self.sampled: list[list[int]] = [[] for _ in seeds]
        """Tokens of each row of the whole batch. After its end a row may hold padding."""
        self.finite = [True for _ in seeds]
        """Whether the logits of each row of the whole batch were finite until its end."""
        self.inputs = tokens
        self.mask = mask
        self.positions = (mask.cumsum(-1) - 1).clamp(min=0)
        self.cache: Any = None
        self._sampling = sampling
        self._random = uniforms(seeds, sampling.max_new_tokens)
        self._seen = tokens_seen(tokens, mask, vocabulary)
        self._stops = torch.tensor(stops, device=tokens.device)
        self._running = torch.ones(len(seeds), dtype=torch.bool, device=tokens.device)
        self._is_finite = self._running.clone()
        self._drawn: list[Int[Tensor, " rows"]] = []
        self._step = 0

    def is_full(self) -> bool:
        """Whether few enough of the rows have ended to go on with all of them."""
        n_rows, n_running = len(self.rows), int(self._running.sum())
        if self._step == self._sampling.max_new_tokens or n_running == 0:
            return False
        return n_rows <= SMALL_BATCH or n_rows - n_running < ENDED_SHARE * n_rows

    def advance(self, logits: Float[Tensor, "rows vocabulary"], cache: Any) -> None:
        """Sample the next token of every row.

        Args:
            logits: Logits of the next token.
            cache: Keys and values of every token before it.
        """
        logits = penalise_repetitions(logits, self._seen, self._sampling.repetition_penalty)
        # Rows that have ended are padding until they are dropped. Their logits do not matter.
        self._is_finite &= logits.isfinite().all(dim=-1) | ~self._running
        random = self._random[:, self._step].to(logits.device)
        drawn = draw(logits, random, self._sampling.temperature)
        drawn = torch.where(self._running, drawn, self._stops[0])
        self._drawn.append(drawn)
        self._seen.scatter_(1, drawn[:, None], True)
        self._running &= self._is_finite & ~torch.isin(drawn, self._stops)
        self._step += 1
        if self.cache is None:
            make_room(cache)
        self.cache = cache
        self.inputs = drawn[:, None]
        self.positions = self.positions[:, -1:] + 1
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(drawn), 1)], dim=1)

    def drop_ended(self) -> None:
        """Record what was sampled; leave only the rows that go on, none after the last step."""
        drawn = torch.stack(self._drawn, dim=1).tolist()
        for row, tokens, finite in zip(self.rows, drawn, self._is_finite.tolist(), strict=True):
            self.sampled[row] += tokens
            self.finite[row] = finite
        self._drawn = []
        if self._step == self._sampling.max_new_tokens:
            self._running &= False
        kept = self._running.nonzero()[:, 0]
        self.rows = [self.rows[i] for i in kept.tolist()]
        if self.rows:
            self._select(kept)

    def _select(self, kept: Int[Tensor, " kept"]) -> None:
        self.cache.batch_select_indices(kept)
        self.inputs, self.mask = self.inputs[kept], self.mask[kept]
        self.positions, self._seen = self.positions[kept], self._seen[kept]
        self._random = self._random[kept.cpu()]
        self._running, self._is_finite = self._running[kept], self._is_finite[kept]

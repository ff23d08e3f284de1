"""SAE activations, computed chunk by chunk while vLLM prefills prompts.

The tap holds the residual stream of the current step. The rows of all sequences with the same
options are encoded in one product, which reads the encoder once. Each sequence is then pooled
separately.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from esr.assets.sae import Sae
from esr.engines.base import Pool

MAX_ACTIVATIONS = 2**26
"""Activations computed at a time: 256 MB in float32. Bounds memory."""


class EncodeOptions(NamedTuple):
    """Latents to return (None = all) and how to pool them."""

    latents: tuple[int, ...] | None
    pool: Pool | None


@dataclass
class Accumulator:
    """Activations of one sequence: positions from `start` to `length`, of which `n_seen` so far."""

    options: EncodeOptions
    start: int
    length: int
    n_seen: int = 0
    parts: list[Tensor] | None = None

    def add(self, acts: Float[Tensor, "positions n"]) -> None:
        """Add the activations of the next positions, pooled at once to save memory."""
        pool = self.options.pool
        if pool == "max":
            new = acts.amax(dim=0)
        elif pool == "mean":
            new = acts.sum(dim=0)
        elif pool == "activity":
            new = torch.stack([(acts > 0).sum(dim=0).float(), acts.sum(dim=0)])
        else:
            new = acts.clone()
        if self.parts is None:
            self.parts = [new]
        elif pool is None:
            self.parts.append(new)
        elif pool == "max":
            torch.maximum(self.parts[0], new, out=self.parts[0])
        else:
            self.parts[0] += new

    def result(self) -> Float[np.ndarray, "*positions n"]:
        """Return the pooled activations of the complete sequence.

        Raises:
            RuntimeError: positions are missing, for example those of a cached prefix.
        """
        if self.n_seen != self.length or self.parts is None:
            raise RuntimeError(f"esr: {self.n_seen} of {self.length} positions were encoded")
        found = torch.cat(self.parts) if self.options.pool is None else self.parts[0]
        if self.options.pool in ("mean", "activity"):
            found = found / (self.length - self.start)
        return found.cpu().numpy()


class TapRows(NamedTuple):
    """Rows of the tap that belong to a sequence."""

    sequence: Accumulator
    begin: int
    end: int


class PromptEncoder:
    """Encodes the prompts of running requests."""

    def __init__(self, sae: Sae) -> None:
        self._sae = sae
        self._sequences: dict[str, Accumulator] = {}
        self._rows: list[TapRows] = []

    def add(self, request: str, options: EncodeOptions, start: int, length: int) -> None:
        """Register a prompt: its length, and the first position to pool."""
        self._sequences[request] = Accumulator(options, start, length)

    def drop(self, request: str) -> None:
        """Forget a request. Unknown requests are ignored."""
        self._sequences.pop(request, None)

    def plan(self, requests: Sequence[str], counts: Sequence[int], computed: Sequence[int]) -> None:
        """Determine which rows of the coming step to encode: prompt tokens from `start`.

        Args:
            requests: Requests of the step, in order.
            counts: Tokens of each.
            computed: Tokens of each that earlier steps computed.

        Raises:
            RuntimeError: a request continues at another position than it has reached.
        """
        self._rows = []
        offset = 0
        for request, count, before in zip(requests, counts, computed, strict=True):
            sequence = self._sequences.get(request)
            # The step may compute generated tokens, too. They are not part of the sequence.
            end = min(before + count, sequence.length) if sequence else 0
            if sequence is not None and end > before:
                if before == 0:
                    # Either the first chunk, or vLLM has preempted the request and recomputes it.
                    sequence.n_seen = 0
                    sequence.parts = None
                if sequence.n_seen != before:
                    raise RuntimeError(
                        f"esr: request {request} continues at position {before} after "
                        f"{sequence.n_seen} encoded positions"
                    )
                sequence.n_seen = end
                begin = max(before, sequence.start)
                if end > begin:
                    first = offset + begin - before
                    self._rows.append(TapRows(sequence, first, first + end - begin))
            offset += count

    def collect(self, tap: Float[Tensor, "tokens d_model"]) -> None:
        """Encode the planned rows, in batches of sequences with the same options."""
        by_options: dict[EncodeOptions, list[TapRows]] = defaultdict(list)
        for rows in self._rows:
            by_options[rows.sequence.options].append(rows)
        self._rows = []
        for options, group in by_options.items():
            latents = options.latents
            columns = None if latents is None else torch.tensor(latents, device=tap.device)
            n_latents = self._sae.d_sae if latents is None else max(len(latents), 1)
            for batch in _batches(group, max(1, MAX_ACTIVATIONS // n_latents)):
                h = torch.cat([tap[rows.begin : rows.end] for rows in batch])
                acts = self._sae.encode(h, columns)
                lengths = [rows.end - rows.begin for rows in batch]
                for rows, part in zip(batch, acts.split(lengths), strict=True):
                    rows.sequence.add(part)

    def result(self, request: str) -> Float[np.ndarray, "*positions n"]:
        """Return the activations of a request and forget it."""
        return self._sequences.pop(request).result()


def _batches(rows: Sequence[TapRows], max_rows: int) -> list[list[TapRows]]:
    """Divide rows into batches of at most `max_rows`. May cut the rows of a sequence."""
    batches: list[list[TapRows]] = [[]]
    room = max_rows
    for sequence, begin, end in rows:
        while begin < end:
            if not room:
                batches.append([])
                room = max_rows
            cut = min(end, begin + room)
            batches[-1].append(TapRows(sequence, begin, cut))
            room -= cut - begin
            begin = cut
    return batches

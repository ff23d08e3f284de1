"""SAE activations, gathered chunk by chunk as vLLM computes prompts.

The residual stream of a step lies in the tap. What belongs to readings is encoded for all of them
at once, since each product with the encoder reads its weights once, and reduced one by one.
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

CELLS = 2**26
"""Activations computed at a time, to bound memory: 256 MB."""


class Wanted(NamedTuple):
    """What is read: these latents (None = all), pooled so."""

    latents: tuple[int, ...] | None
    pool: Pool | None


@dataclass
class Reader:
    """One sequence as it is read: positions from `start` to `length`, `seen` of them so far."""

    wanted: Wanted
    start: int
    length: int
    seen: int = 0
    found: list[Tensor] | None = None

    def take(self, acts: Float[Tensor, "positions n"]) -> None:
        """Add activations of the next positions; pooled at once, so that little is kept."""
        pool = self.wanted.pool
        if pool == "max":
            new = acts.amax(dim=0)
        elif pool == "mean":
            new = acts.sum(dim=0)
        elif pool == "share":
            new = (acts > 0).sum(dim=0).float()
        else:
            new = acts.clone()
        if self.found is None:
            self.found = [new]
        elif pool is None:
            self.found.append(new)
        elif pool == "max":
            torch.maximum(self.found[0], new, out=self.found[0])
        else:
            self.found[0] += new

    def result(self) -> Float[np.ndarray, "*positions n"]:
        """What was read, once the whole sequence has gone by.

        Raises:
            RuntimeError: positions are missing (a cached prefix was not computed, say).
        """
        if self.seen != self.length or self.found is None:
            raise RuntimeError(f"esr: read {self.seen} of {self.length} positions")
        found = torch.cat(self.found) if self.wanted.pool is None else self.found[0]
        if self.wanted.pool in ("mean", "share"):
            found = found / (self.length - self.start)
        return found.cpu().numpy()


class Rows(NamedTuple):
    """Rows of the tap that belong to a reader."""

    reader: Reader
    begin: int
    end: int


class Readers:
    """All sequences being read."""

    def __init__(self, sae: Sae) -> None:
        self._sae = sae
        self._readers: dict[str, Reader] = {}
        self._rows: list[Rows] = []

    def add(self, request: str, wanted: Wanted, start: int, length: int) -> None:
        """Read a request's prompt; one that comes back after a preemption begins anew."""
        self._readers[request] = Reader(wanted, start, length)

    def drop(self, request: str) -> None:
        """Forget a request, if it is known."""
        self._readers.pop(request, None)

    def plan(self, requests: Sequence[str], counts: Sequence[int], computed: Sequence[int]) -> None:
        """Note which rows of the coming step to read: the prompt's, from `start` on.

        Args:
            requests: Requests of the step, in order.
            counts: Tokens of each.
            computed: Tokens of each that were computed before.
        """
        self._rows = []
        at = 0
        for request, count, before in zip(requests, counts, computed, strict=True):
            reader = self._readers.get(request)
            end = min(int(before) + count, reader.length) if reader else 0
            if reader is not None and end > before:
                if before == 0:  # the first time, or again after a preemption
                    reader.seen, reader.found = 0, None
                if reader.seen != before:
                    raise RuntimeError(f"esr: {request} goes on at {before}, read {reader.seen}")
                reader.seen = end
                begin = max(int(before), reader.start)
                if end > begin:
                    self._rows.append(Rows(reader, at + begin - before, at + end - before))
            at += count

    def collect(self, tap: Float[Tensor, "tokens d_model"]) -> None:
        """Encode the rows that were planned, readers of the same wish together."""
        rows, self._rows = self._rows, []
        alike: dict[Wanted, list[Rows]] = defaultdict(list)
        for one in rows:
            alike[one.reader.wanted].append(one)
        for wanted, group in alike.items():
            latents = wanted.latents
            which = None if latents is None else torch.tensor(latents, device=tap.device)
            width = self._sae.d_sae if latents is None else max(len(latents), 1)
            for batch in _batches(group, max(1, CELLS // width)):
                h = torch.cat([tap[one.begin : one.end] for one in batch])
                acts = self._sae.encode(h, which)
                lengths = [one.end - one.begin for one in batch]
                for one, part in zip(batch, acts.split(lengths), strict=True):
                    one.reader.take(part)

    def result(self, request: str) -> Float[np.ndarray, "*positions n"]:
        """What was read of a request, which is forgotten."""
        return self._readers.pop(request).result()


def _batches(rows: Sequence[Rows], most: int) -> list[list[Rows]]:
    """Divide rows into batches of no more than so many, cutting readers' rows where need be."""
    batches: list[list[Rows]] = [[]]
    room = most
    for reader, begin, end in rows:
        while begin < end:
            if not room:
                batches.append([])
                room = most
            cut = min(end, begin + room)
            batches[-1].append(Rows(reader, begin, cut))
            room -= cut - begin
            begin = cut
    return batches

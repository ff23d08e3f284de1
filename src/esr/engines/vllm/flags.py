"""Requests whose residual stream or logits were not finite: marks on the device, in static buffers.

The operation in vLLM's graph marks tokens, the wrapped logits mark requests. Nothing waits for the
device until a request has finished and its mark is read.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from esr.engines.vllm.slots import Slots, upload


class Flags:
    """A mark for each running request, kept until the request is dropped."""

    def __init__(self, n_requests: int, n_tokens: int, device: torch.device) -> None:
        """Allocate the buffers.

        Args:
            n_requests: Requests that can be known at a time.
            n_tokens: Largest number of tokens in a step, padding included.
            device: Device of the model.
        """
        self._slots = Slots[str](n_requests)
        self._marks: Int[Tensor, "2 slots"] = torch.zeros(
            2, n_requests + 1, dtype=torch.int32, device=device
        )
        """Tokens and rows of logits of each request that were not finite; slot 0: padding.

        The second row counts those tokens alone that the tap depends on.
        """
        self._owner: Int[Tensor, " tokens"] = torch.zeros(
            n_tokens, dtype=torch.int64, device=device
        )
        """For each token of the step, the slot of its request."""
        self._step: Int[Tensor, " requests"] = self._owner[:0]
        """Slots of the requests of the step, in the order of its logits."""

    def __contains__(self, request: str) -> bool:
        return request in self._slots

    def add(self, request: str) -> None:
        """Register a request. One that is registered, as after a preemption, keeps its mark."""
        if request not in self._slots:
            slot, _ = self._slots.acquire(request)
            self._marks[:, slot] = 0

    def drop(self, request: str) -> None:
        """Forget a request."""
        self._slots.release(request)

    def fill(self, requests: Sequence[str], counts: Sequence[int], end: int) -> None:
        """Write the buffers for a step.

        Args:
            requests: Requests of the step, in the order of their tokens and logits.
            counts: Tokens of each.
            end: Tokens to write; those after the last request are padding.
        """
        step = torch.tensor([self._slots[request] for request in requests], dtype=torch.int64)
        owner = torch.zeros(end, dtype=torch.int64)
        owner[: sum(counts)] = step.repeat_interleave(torch.tensor(counts))
        self._step = step.to(self._marks.device, non_blocking=True)
        upload(self._owner[:end], owner)

    def mark_tokens(self, bad: Bool[Tensor, " tokens"], tapped: bool) -> None:
        """Mark the requests of tokens of this step. Static: part of the graph.

        Args:
            bad: Tokens whose residual stream is not finite.
            tapped: The tap is at this layer or a later one.
        """
        counts = bad.int().expand(1 + tapped, -1)
        self._marks[: 1 + tapped].index_add_(1, self._owner[: len(bad)], counts)

    def mark_logits(self, bad: Bool[Tensor, " requests"]) -> None:
        """Mark requests of this step, in the order of its logits."""
        self._marks[0].index_add_(0, self._step, bad.int())

    def unreadable(self, n: int) -> Bool[Tensor, " tokens"]:
        """Tokens whose stream at the tap follows from a replaced one. Static: part of the graph."""
        return self._marks[1].index_select(0, self._owner[:n]) > 0

    def read(self, requests: Sequence[str]) -> list[bool]:
        """Whether each request is marked. Waits for the device."""
        slots = torch.tensor([self._slots[request] for request in requests], dtype=torch.int64)
        return (self._marks[0, slots.to(self._marks.device)] > 0).tolist()

    @property
    def n_step(self) -> int:
        """Requests of the step."""
        return len(self._step)

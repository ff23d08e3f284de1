"""A fake engine that records what it generates."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from esr.engines.base import Generation, Request, Sampling
from esr.engines.readouts import LogProbs, ReadoutRequest


class CountingEngine:
    """A response depends on its group, as rounding makes it do in the transformers engine.

    `fail_after` groups it fails. With `backwards`, it computes the last group first.
    """

    independent = False

    def __init__(
        self, fail_after: int | None = None, backwards: bool = False, **identity: Any
    ) -> None:
        self.identity = {"engine": "fake", **identity}
        self.computed: list[list[Request]] = []
        self.fail_after = fail_after
        self.backwards = backwards
        self.waiting: list[Mapping[str, Request]] = []

    def partition(self, requests: Sequence[Request | ReadoutRequest]) -> list[list[int]]:
        order = sorted(range(len(requests)), key=lambda i: requests[i].tokens)
        return [order[i : i + 3] for i in range(0, len(order), 3)]

    def stream(self, sampling: Sampling) -> Any:
        self.waiting = []
        return self

    def submit(self, group: Mapping[str, Request]) -> None:
        self.waiting.append(group)

    def results(self, timeout: float | None = None) -> Iterator[dict[str, Generation]]:
        while self.waiting:
            if len(self.computed) == self.fail_after:
                raise RuntimeError("out of memory")
            group = self.waiting.pop(-1 if self.backwards else 0)
            self.computed.append(list(group.values()))
            yield dict(zip(group, self.respond(list(group.values())), strict=True))

    def respond(self, group: Sequence[Request]) -> list[Generation]:
        whole = sum(request.seed for request in group)
        return [Generation((request.seed, whole), "stop") for request in group]

    def encode(self, *_: Any, **__: Any) -> list[np.ndarray]:
        raise NotImplementedError

    def log_probs(self, requests: Sequence[ReadoutRequest]) -> list[LogProbs | None]:
        raise NotImplementedError


class Independent(CountingEngine):
    """Computes each request on its own, the last one first."""

    independent = True

    def __init__(self, **identity: Any) -> None:
        super().__init__(backwards=True, **identity)

    def partition(self, requests: Sequence[Request | ReadoutRequest]) -> list[list[int]]:
        return [[i] for i in range(len(requests))]

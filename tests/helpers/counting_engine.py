"""An engine that counts what it generates."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from esr.engines.base import Generation, Request, Sampling


class CountingEngine:
    """Fakes an engine: a response depends on its group, as rounding makes it; keeps count.

    It fails once `fail_after` groups are done; `backwards`, the last group is done first.
    """

    independent = False

    def __init__(
        self, fail_after: int | None = None, backwards: bool = False, **identity: Any
    ) -> None:
        self.identity = {"engine": "fake", **identity}
        self.computed: list[list[Request]] = []
        self.fail_after, self.backwards = fail_after, backwards
        self.waiting: list[tuple[int, Sequence[Request]]] = []

    def partition(self, requests: Sequence[Request]) -> list[list[int]]:
        order = sorted(range(len(requests)), key=lambda i: requests[i].tokens)
        return [order[i : i + 3] for i in range(0, len(order), 3)]

    def stream(self, sampling: Sampling) -> Any:
        self.waiting = []
        return self

    def submit(self, name: int, group: Sequence[Request]) -> None:
        self.waiting.append((name, group))

    def results(self, patience: float | None = None) -> Iterator[tuple[int, list[Generation]]]:
        while self.waiting:
            if len(self.computed) == self.fail_after:
                raise RuntimeError("out of memory")
            name, group = self.waiting.pop(-1 if self.backwards else 0)
            self.computed.append(list(group))
            yield name, self.respond(group)

    def respond(self, group: Sequence[Request]) -> list[Generation]:
        whole = sum(request.seed for request in group)
        return [Generation((request.seed, whole), "stop") for request in group]

    def encode(self, *_: Any, **__: Any) -> list[np.ndarray]:
        raise NotImplementedError

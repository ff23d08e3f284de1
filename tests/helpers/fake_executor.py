"""Answers to the queries of a threshold search by a function, for all latents at a time."""

from collections import deque
from collections.abc import Callable, Sequence

from esr.judges.base import Judgment
from esr.thresholds.search import Query

Answer = Callable[[Sequence[Query]], Sequence[Judgment]]


class Rounds:
    """Answers step by step; `independent`, each latent for itself and the last one first."""

    def __init__(self, answer: Answer, independent: bool = False) -> None:
        self.independent = independent
        self._answer = answer
        self._queries = deque[Sequence[Query]]()

    def submit(self, queries: Sequence[Query]) -> None:
        self._queries.append(queries)

    def next(self) -> tuple[Sequence[Query], Sequence[Judgment]]:
        queries = self._queries.pop() if self.independent else self._queries.popleft()
        return queries, self._answer(queries)

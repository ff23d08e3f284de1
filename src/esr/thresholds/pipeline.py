"""Runs the queries of a threshold search: the engine generates, a judge scores.

The judge runs in a thread, so that the engine generates the next responses meanwhile.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

from esr.engines.base import Engine, Generation, Request, Sampling
from esr.engines.journaled import JournaledStream
from esr.journal import Journal
from esr.judges.base import Judge, JudgeInput, Judgment
from esr.thresholds.search import Query

POLL_SECONDS = 0.05
"""How long to wait for the engine, while the judge works, before the judge is checked."""


@dataclass
class Step:
    """Queries that were submitted together, and the responses so far, by index."""

    queries: Sequence[Query]
    generations: dict[int, Generation] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every query has a response."""
        return len(self.generations) == len(self.queries)


Judged = tuple[Step, list[Judgment]]


class QueryPipeline:
    """Generates and judges; see `esr.thresholds.search.QueryExecutor`.

    Use it in a `with` block, which ends the thread of the judge.
    """

    def __init__(
        self,
        engine: Engine,
        sampling: Sampling,
        journal: Journal,
        judge: Judge,
        request: Callable[[Query], Request],
        exchange: Callable[[Query, Generation], JudgeInput | str],
    ) -> None:
        """Open a pipeline.

        Args:
            engine: Generates responses.
            sampling: Sampling settings.
            journal: Records every response.
            judge: Scores responses. It runs in one thread at a time.
            request: Makes the engine's request for a query.
            exchange: Makes the judge's input from a query and its response; or the status of one
                without an answer.
        """
        self.independent = engine.independent
        self._engine = engine
        self._judge = judge
        self._stream = JournaledStream(engine, sampling, journal)
        self._request = request
        self._exchange = exchange
        self._waiting: dict[str, list[tuple[Step, int]]] = defaultdict(list)
        """Steps, and the index of the query in them, that wait for the response to a request."""
        self._generated: list[Step] = []
        self._judging: Future[list[Judged]] | None = None
        self._judged: deque[Judged] = deque()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="judge")

    def __enter__(self) -> "QueryPipeline":
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown()

    def submit(self, queries: Sequence[Query]) -> None:
        """Submit queries; see `esr.thresholds.search.QueryExecutor`."""
        requests = [self._request(query) for query in queries]
        step = Step(queries)
        for group in self._engine.partition(requests):
            ids = self._stream.submit([requests[i] for i in group])
            for index, id_ in zip(group, ids, strict=True):
                self._waiting[id_].append((step, index))

    def next(self) -> tuple[Sequence[Query], Sequence[Judgment]]:
        """Wait for the judgments of a step; see `esr.thresholds.search.QueryExecutor`.

        Raises:
            EsrError: the engine or the judge failed.
        """
        while True:
            self._advance_judge()
            if self._judged:
                step, judgments = self._judged.popleft()
                return step.queries, judgments
            timeout = None if self._judging is None else POLL_SECONDS
            response = next(self._stream.results(timeout), None)
            if response is not None:
                self._receive(*response)
            elif timeout is None:
                raise RuntimeError("no queries are left to wait for")

    def _receive(self, id_: str, generation: Generation) -> None:
        for step, index in self._waiting.pop(id_, ()):
            step.generations[index] = generation
            if step.complete:
                self._generated.append(step)

    def _advance_judge(self) -> None:
        """Collect finished judgments, and start on the steps that were completed meanwhile."""
        # With nothing left to generate, wait for the judge: there is nothing else to do.
        if self._judging is not None and (self._judging.done() or not self._waiting):
            self._judged += self._judging.result()
            self._judging = None
        if self._judging is None and self._generated:
            # All of them in one call: a judge is faster on many responses than on a few.
            self._judging = self._executor.submit(self._judge_steps, self._generated)
            self._generated = []

    def _judge_steps(self, steps: Sequence[Step]) -> list[Judged]:
        responses = [
            (query, step.generations[i]) for step in steps for i, query in enumerate(step.queries)
        ]
        judgments = self._judgments(responses)
        return [(step, list(islice(judgments, len(step.queries)))) for step in steps]

    def _judgments(self, responses: Sequence[tuple[Query, Generation]]) -> Iterator[Judgment]:
        """Yield a judgment for each response; one without an answer is not shown to the judge."""
        exchanges = [
            "engine_error"
            if generation.finish_reason == "error"
            else self._exchange(query, generation)
            for query, generation in responses
        ]
        judged = iter(self._judge.judge([e for e in exchanges if isinstance(e, JudgeInput)]))
        for exchange in exchanges:
            yield Judgment(exchange) if isinstance(exchange, str) else next(judged)

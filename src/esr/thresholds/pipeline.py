"""Runs the queries of a threshold search: the engine generates, a judge scores.

The judge runs in a thread, while the engine generates the next responses. A judge that the job runs
starts with the engine, and receives each response when it is complete. Any other receives all
generated steps in one call.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

from esr.engines.base import Engine, Generation, Request, Sampling
from esr.engines.journaled import JournaledStream
from esr.journal import Journal
from esr.judges.base import Judge, JudgeInput, Judgment
from esr.thresholds.judging import JudgeThread
from esr.thresholds.search import Query

POLL_SECONDS = 0.05
"""How long to wait for the engine, while the judge works, before the judge is checked."""


@dataclass(eq=False)
class Step:
    """Queries that were submitted together, with the progress of each by its index."""

    queries: Sequence[Query]
    inputs: dict[int, JudgeInput] = field(default_factory=dict)
    """Responses that the judge has not been given yet."""
    judgments: dict[int, Judgment] = field(default_factory=dict)

    @property
    def generated(self) -> bool:
        """Whether every query has a response, and the judge has been given none of them."""
        return len(self.inputs) + len(self.judgments) == len(self.queries)

    @property
    def judged(self) -> bool:
        """Whether every query has a judgment."""
        return len(self.judgments) == len(self.queries)


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
        self._judge = JudgeThread(judge)
        # A response that is computed has no reply yet, so the judge starts with the engine.
        self._stream = JournaledStream(engine, sampling, journal, self._judge.start)
        self._request = request
        self._exchange = exchange
        self._waiting: dict[str, list[tuple[Step, int]]] = defaultdict(list)
        """Steps, and the index of the query in them, that wait for the response to a request."""
        self._tickets = count()
        self._shown: dict[int, tuple[Step, int]] = {}
        """Responses that are being judged, by ticket: their step, and the query in it."""
        self._judged: deque[Step] = deque()

    def __enter__(self) -> "QueryPipeline":
        return self

    def __exit__(self, *_: object) -> None:
        self._judge.close()

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
            # With nothing left to generate, there is only the judge to wait for.
            self._collect(wait=not self._waiting)
            if self._judged:
                step = self._judged.popleft()
                return step.queries, [step.judgments[i] for i in range(len(step.queries))]
            if not self._waiting and self._judge.pending:
                continue
            timeout = POLL_SECONDS if self._judge.pending else None
            response = next(self._stream.results(timeout), None)
            if response is not None:
                self._receive(*response)
            elif timeout is None:
                raise RuntimeError("no queries are left to wait for")

    def _receive(self, id_: str, generation: Generation) -> None:
        for step, index in self._waiting.pop(id_, ()):
            self._show(step, index, generation)

    def _show(self, step: Step, index: int, generation: Generation) -> None:
        """Give a response to the judge; one without an answer is not shown to it."""
        failed = generation.finish_reason == "error"
        found = "engine_error" if failed else self._exchange(step.queries[index], generation)
        if isinstance(found, str):
            self._keep(step, index, Judgment(found))
        else:
            step.inputs[index] = found
        if step.inputs and (self._judge.one_by_one or step.generated):
            tickets = {next(self._tickets): i for i in sorted(step.inputs)}
            self._shown |= {ticket: (step, i) for ticket, i in tickets.items()}
            self._judge.submit({ticket: step.inputs[i] for ticket, i in tickets.items()})
            step.inputs = {}

    def _collect(self, wait: bool) -> None:
        for ticket, judgment in self._judge.take(wait):
            self._keep(*self._shown.pop(ticket), judgment)

    def _keep(self, step: Step, index: int, judgment: Judgment) -> None:
        step.judgments[index] = judgment
        if step.judged:
            self._judged.append(step)

"""The desk where queries of a threshold search are answered, engine and judge at work at once."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from esr.engines.base import Generation, Intervention, Request, Sampling
from esr.errors import EsrError
from esr.journal import Journal
from esr.judges.base import Attempt, JudgeInput, Judgment
from esr.thresholds.pipeline import QueryPipeline
from esr.thresholds.search import Query
from helpers.counting_engine import CountingEngine

SAMPLING = Sampling(0.6, 8)


class Independent(CountingEngine):
    """Takes each request on its own; the last one handed in is done first."""

    independent = True

    def __init__(self, **identity: Any) -> None:
        super().__init__(backwards=True, **identity)

    def partition(self, requests: Sequence[Request]) -> list[list[int]]:
        return [[i] for i in range(len(requests))]


class Scores:
    """A judge whose score is the seed of the response; `wait` holds it up, once."""

    served_as = "scores"

    def __init__(self, wait: threading.Event | None = None, fail: bool = False) -> None:
        self.wait, self.fail = wait, fail
        self.seen: list[list[str]] = []

    def judge(self, exchanges: Sequence[JudgeInput]) -> list[Judgment]:
        if self.fail:
            raise EsrError("the budget is spent")
        self.seen.append([exchange.response for exchange in exchanges])
        if self.wait is not None:
            assert self.wait.wait(timeout=20)
        return [
            Judgment("ok", (Attempt(0, 1, float(exchange.response)),)) for exchange in exchanges
        ]


def query(latent: int, step: int = 0, sample: int = 0) -> Query:
    seed = 10 * latent + sample
    return Query(latent, step, sample, 1.0 + step, "p", seed)


@contextmanager
def desk(engine: CountingEngine, judge: Scores, folder: Path) -> Iterator[QueryPipeline]:
    with (
        Journal(folder / "journal.jsonl") as journal,
        QueryPipeline(
            engine,
            SAMPLING,
            journal,
            judge,
            lambda q: Request((2, 3), q.seed, Intervention(q.latent, q.boost)),
            lambda q, said: JudgeInput("prompt", str(said.tokens[0])),
        ) as pipeline,
    ):
        yield pipeline


@pytest.mark.parametrize("engine", [CountingEngine(), Independent()], ids=["rounds", "each"])
def test_judgments_come_with_their_queries_in_order(engine: CountingEngine, tmp_path: Path) -> None:
    with desk(engine, Scores(), tmp_path) as answers:
        assert answers.independent == engine.independent
        steps = [[query(k, sample=i) for i in range(2)] for k in (1, 2, 3)]
        for step in steps:
            answers.ask(step)
        answered = [answers.next() for _ in steps]
    assert sorted(queries[0].latent for queries, _ in answered) == [1, 2, 3]
    for queries, judgments in answered:
        assert [judgment.first_score for judgment in judgments] == [q.seed for q in queries]


def test_the_engine_goes_on_while_the_judge_is_at_work(tmp_path: Path) -> None:
    wait, engine = threading.Event(), Independent()
    judge = Scores(wait)
    with desk(engine, judge, tmp_path) as answers:
        for latent in (1, 2, 3):
            answers.ask([query(latent)])
        done: list[Any] = []
        asking = threading.Thread(target=lambda: done.append(answers.next()))
        asking.start()
        for _ in range(200):  # all is generated, though nothing has been judged
            if len(engine.computed) == 3:
                break
            asking.join(timeout=0.05)
        assert len(engine.computed) == 3
        assert done == []
        wait.set()
        asking.join(timeout=20)
        rest = [answers.next(), answers.next()]
    assert len(done) + len(rest) == 3
    # What was said while the judge was at work is judged together.
    assert [len(seen) for seen in judge.seen] == [1, 2]


def test_a_response_that_failed_is_a_status_and_shown_to_no_judge(tmp_path: Path) -> None:
    class Failing(Independent):
        def respond(self, group: Sequence[Request]) -> list[Generation]:
            if group[0].seed == 21:
                return [Generation((), "error")]
            return super().respond(group)

    judge = Scores()
    with desk(Failing(), judge, tmp_path) as answers:
        answers.ask([query(2, sample=i) for i in range(3)])
        _, judgments = answers.next()
    assert [judgment.status for judgment in judgments] == ["ok", "engine_error", "ok"]
    assert judge.seen == [["20", "22"]]


def test_what_the_judge_raises_reaches_the_search(tmp_path: Path) -> None:
    with desk(Independent(), Scores(fail=True), tmp_path) as answers:
        answers.ask([query(1)])
        with pytest.raises(EsrError, match="the budget is spent"):
            answers.next()


def test_a_rerun_generates_nothing_again(tmp_path: Path) -> None:
    for expected in (2, 0):
        engine = Independent()
        with desk(engine, Scores(), tmp_path) as answers:
            answers.ask([query(1, sample=i) for i in range(2)])
            answers.next()
        assert len(engine.computed) == expected

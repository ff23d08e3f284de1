"""Queries of a threshold search: the engine generates while the judge scores."""

import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from esr.config import ThresholdPriorConfig
from esr.engines.base import Generation, Intervention, Request, Sampling, Window
from esr.errors import EsrError
from esr.journal import Journal
from esr.judges.base import Attempt, JudgeInput, Judgment
from esr.thresholds.pipeline import QueryPipeline
from esr.thresholds.search import Query
from helpers.checkout import REPO, load_script
from helpers.counting_engine import CountingEngine, Independent
from helpers.studies import load_study
from helpers.tiny import llama_tokenizer

SAMPLING = Sampling(0.6, 8)
MODEL = "llama-3.1-8b"


class Scores:
    """A judge whose score is the seed of the response. It sets `began`, and waits for `wait`."""

    served_as = "scores"

    def __init__(
        self,
        wait: threading.Event | None = None,
        fail: bool = False,
        began: threading.Event | None = None,
    ) -> None:
        self.wait, self.fail = wait, fail
        self.began = began or threading.Event()
        self.seen: list[list[str]] = []

    def judge(self, inputs: Sequence[JudgeInput]) -> list[Judgment]:
        if self.fail:
            raise EsrError("the budget is spent")
        self.seen.append([one.response for one in inputs])
        self.began.set()
        if self.wait is not None:
            assert self.wait.wait(timeout=20)
        return [Judgment("ok", (Attempt(0, 1, float(one.response)),)) for one in inputs]


def query(latent: int, step: int = 0, sample: int = 0) -> Query:
    seed = 10 * latent + sample
    return Query(latent, step, sample, 1.0 + step, "p", seed)


@contextmanager
def open_pipeline(engine: CountingEngine, judge: Scores, folder: Path) -> Iterator[QueryPipeline]:
    with (
        Journal(folder / "journal.jsonl") as journal,
        QueryPipeline(
            engine,
            SAMPLING,
            journal,
            judge,
            lambda q: Request((2, 3), q.seed, Intervention(q.latent, q.boost)),
            lambda q, generation: JudgeInput("prompt", str(generation.tokens[0])),
        ) as pipeline,
    ):
        yield pipeline


@pytest.mark.parametrize("engine", [CountingEngine(), Independent()], ids=["rounds", "each"])
def test_judgments_come_with_their_queries_in_order(engine: CountingEngine, tmp_path: Path) -> None:
    with open_pipeline(engine, Scores(), tmp_path) as pipeline:
        assert pipeline.independent == engine.independent
        steps = [[query(k, sample=i) for i in range(2)] for k in (1, 2, 3)]
        for step in steps:
            pipeline.submit(step)
        found = [pipeline.next() for _ in steps]
    assert sorted(queries[0].latent for queries, _ in found) == [1, 2, 3]
    for queries, judgments in found:
        assert [judgment.first_score for judgment in judgments] == [q.seed for q in queries]


def test_the_engine_generates_while_the_judge_works(tmp_path: Path) -> None:
    wait, began = threading.Event(), threading.Event()
    judge = Scores(wait, began=began)

    class Paced(Independent):
        def respond(self, group: Sequence[Request]) -> list[Generation]:
            if self.computed[1:]:  # the judge works on the first response
                assert began.wait(timeout=20)
            return super().respond(group)

    engine = Paced()
    with open_pipeline(engine, judge, tmp_path) as pipeline:
        for latent in (1, 2, 3):
            pipeline.submit([query(latent)])
        done: list[Any] = []
        waiting = threading.Thread(target=lambda: done.append(pipeline.next()))
        waiting.start()
        for _ in range(200):  # everything is generated before anything is judged
            if len(engine.computed) == 3:
                break
            waiting.join(timeout=0.05)
        assert len(engine.computed) == 3
        assert done == []
        wait.set()
        waiting.join(timeout=20)
        rest = [pipeline.next(), pipeline.next()]
    assert len(done) + len(rest) == 3
    # Steps that were generated while the judge worked are judged together.
    assert [len(seen) for seen in judge.seen] == [1, 2]


class OneByOne(Scores):
    """A judge that takes each response at once, and holds those whose seeds are in `held`."""

    def __init__(self, held: Collection[int] = ()) -> None:
        super().__init__()
        self.held = set(held)

    def open_stream(self) -> "HeldStream":
        return HeldStream(self)


class HeldStream:
    """Its stream."""

    one_by_one = True

    def __init__(self, judge: OneByOne) -> None:
        self.judge = judge
        self.inputs: dict[int, JudgeInput] = {}

    @property
    def pending(self) -> bool:
        return bool(self.inputs)

    def start(self) -> None:
        pass

    def submit(self, inputs: Mapping[int, JudgeInput]) -> None:
        self.inputs |= inputs

    def results(self, timeout: float) -> list[tuple[int, Judgment]]:
        time.sleep(0.01)
        free = [t for t, one in self.inputs.items() if int(one.response) not in self.judge.held]
        return [(t, self.judge.judge([self.inputs.pop(t)])[0]) for t in reversed(free)]


@pytest.mark.parametrize("engine", [CountingEngine(), Independent()], ids=["rounds", "each"])
def test_a_judge_that_works_one_by_one_takes_each_response(
    engine: CountingEngine, tmp_path: Path
) -> None:
    judge = OneByOne()
    with open_pipeline(engine, judge, tmp_path) as pipeline:
        for latent in (1, 2, 3):
            pipeline.submit([query(latent, sample=i) for i in range(2)])
        found = [pipeline.next() for _ in range(3)]
    for queries, judgments in found:
        assert [judgment.first_score for judgment in judgments] == [q.seed for q in queries]
    assert [len(seen) for seen in judge.seen] == [1] * 6


def test_a_latent_advances_before_the_judgment_of_another_ends(tmp_path: Path) -> None:
    judge = OneByOne(held=[11])
    with open_pipeline(Independent(), judge, tmp_path) as pipeline:
        for latent in (1, 2):
            pipeline.submit([query(latent, sample=i) for i in range(2)])
        for step in (1, 2, 3):
            queries, _ = pipeline.next()
            assert [(q.latent, q.step) for q in queries] == [(2, step - 1)] * 2
            pipeline.submit([query(2, step, i) for i in range(2)])
        judge.held.clear()
        last = [pipeline.next()[0][0] for _ in range(2)]
    assert {(q.latent, q.step) for q in last} == {(1, 0), (2, 3)}


def test_a_failed_generation_is_a_status_and_is_not_shown_to_the_judge(tmp_path: Path) -> None:
    class Failing(Independent):
        def respond(self, group: Sequence[Request]) -> list[Generation]:
            if group[0].seed == 21:
                return [Generation((), "error")]
            return super().respond(group)

    judge = Scores()
    with open_pipeline(Failing(), judge, tmp_path) as pipeline:
        pipeline.submit([query(2, sample=i) for i in range(3)])
        _, judgments = pipeline.next()
    assert [judgment.status for judgment in judgments] == ["ok", "engine_error", "ok"]
    assert judge.seen == [["20", "22"]]


def test_an_error_of_the_judge_reaches_the_search(tmp_path: Path) -> None:
    with open_pipeline(Independent(), Scores(fail=True), tmp_path) as pipeline:
        pipeline.submit([query(1)])
        for _ in range(2):  # a failure is not forgotten
            with pytest.raises(EsrError, match="the budget is spent"):
                pipeline.next()


def test_a_rerun_generates_nothing_again(tmp_path: Path) -> None:
    for expected in (2, 0):
        engine = Independent()
        with open_pipeline(engine, Scores(), tmp_path) as pipeline:
            pipeline.submit([query(1, sample=i) for i in range(2)])
            pipeline.next()
        assert len(engine.computed) == expected


def test_queries_with_the_same_request_share_its_response(tmp_path: Path) -> None:
    engine = Independent()
    with open_pipeline(engine, Scores(), tmp_path) as pipeline:
        for _ in range(2):
            pipeline.submit([query(1)])
        found = [pipeline.next() for _ in range(2)]
    assert [judgments[0].first_score for _, judgments in found] == [10, 10]
    assert len(engine.computed) == 1


def test_an_error_of_the_engine_reaches_the_search(tmp_path: Path) -> None:
    with open_pipeline(CountingEngine(fail_after=0), Scores(), tmp_path) as pipeline:
        pipeline.submit([query(1)])
        with pytest.raises(RuntimeError, match="out of memory"):
            pipeline.next()


def test_waiting_without_queries_is_an_error(tmp_path: Path) -> None:
    with (
        open_pipeline(CountingEngine(), Scores(), tmp_path) as pipeline,
        pytest.raises(RuntimeError, match="no queries are left to wait for"),
    ):
        pipeline.next()


class Whatever:
    """A judge to whom all text is worth 50 points."""

    served_as = "whatever"

    def judge(self, exchanges: Sequence[JudgeInput]) -> list[Judgment]:
        return [Judgment("ok", (Attempt(0, 1, 50.0),)) for _ in exchanges]


@pytest.mark.parametrize("prompt", [True, False])
def test_a_search_steers_the_tokens_that_the_arms_do(prompt: bool, tmp_path: Path) -> None:
    config = load_study({"steering": {"prompt": prompt}})
    engine, script = CountingEngine(), load_script("find_thresholds")
    with (
        Journal(tmp_path / "journal.jsonl") as journal,
        script.open_pipeline(
            config, "planted", engine, llama_tokenizer(), Whatever(), journal, {7: "boats"}
        ) as pipeline,
    ):
        pipeline.submit([Query(7, 0, 0, 3.0, "baking-1", 44)])
        pipeline.next()
    (request,) = engine.computed[0]
    window = request.intervention.window
    assert window == (None if prompt else Window(len(request.tokens), None))


LOCAL = {"kind": "vllm", "source": "a/b", "revision": "1" * 40, "parameters": 32.8e9}
CLAUDE = {"kind": "anthropic", "model": "claude-haiku-4-5"}


class TestProposals:
    """Their keys hold what the scores follow from."""

    def facts(self, judge: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
        config = load_study(
            {"judging": {"primary": "one", "judges": {"one": {**judge, **changes}}}}, name="paper"
        )
        script = load_script("find_thresholds")
        prior = ThresholdPriorConfig(upper=40, mean=10, sd=4)
        found: dict[str, Any] = script.determining_settings(config, MODEL, CountingEngine(), prior)
        self.former: dict[str, Any] = script.former_settings(config, found)
        return found

    @pytest.mark.parametrize(
        "changes",
        [
            {"prompt_lookup": 5},
            {"batch_size": 7},
            {"memory_fraction": 0.5},
            {"tensor_parallel": 1},
            {"together": True},
        ],
        ids=str,
    )
    def test_what_changes_no_text_forgets_none(self, changes: dict[str, Any]) -> None:
        assert self.facts(LOCAL) == self.facts(LOCAL, **changes)

    def test_calls_in_flight_and_batches_forget_none(self) -> None:
        changes = {"concurrency": 3, "mode": "batch", "retries": 1, "timeout": 5}
        assert self.facts(CLAUDE) == self.facts(CLAUDE, **changes)

    @pytest.mark.parametrize(
        "changes",
        [
            {"temperature": 1},
            {"kv_cache": "fp8"},
            {"shown": "full_prompt"},
            {"rubric": "resources/rubrics/compact.yaml"},
        ],
        ids=str,
    )
    def test_what_changes_scores_forgets_all(self, changes: dict[str, Any]) -> None:
        assert self.facts(LOCAL) != self.facts(LOCAL, **changes)

    def test_the_same_rubric_elsewhere_forgets_none(self, tmp_path: Path) -> None:
        copy = tmp_path / "mine.yaml"
        copy.write_bytes((REPO / "resources/rubrics/blind.yaml").read_bytes())
        assert self.facts(LOCAL) == self.facts(LOCAL, rubric=str(copy))

    def test_those_of_version_0_1_are_found(self) -> None:
        """Its keys had all settings of the judge; there was no cache to set, no prompt lookup."""
        self.facts(LOCAL, prompt_lookup=5)
        judge = self.former["judge"]
        assert judge["batch_size"] == 256
        assert not {"prompt_lookup", "kv_cache"} & judge.keys()
        self.facts(LOCAL, kv_cache="fp8")
        assert self.former["judge"]["kv_cache"] == "fp8"

"""Judging as a stream: a judge that the job runs gives each judgment as its reply ends."""

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from esr.config import VllmJudgeConfig
from esr.engines.vllm.messages import Write, Written
from esr.errors import EsrError
from esr.journal import read_journal
from esr.judges.anchors import AnchorGrading, read_anchors
from esr.judges.base import JudgeInput, Judgment
from esr.judges.llm import CachedLlm
from esr.judges.replies import is_reply
from esr.judges.rubric_judge import LlmJudge
from esr.judges.rubrics import read_rubric
from esr.judges.stream import JudgingStream, open_stream
from helpers.local_judge import FakeHost, HeldHost, judge_settings, local_model, tiny_judge

INPUTS = {i: JudgeInput(f"Explain how to do {i}.", f"Boats number {i}.") for i in range(6)}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_judge(tmp_path_factory.mktemp("judge"))


def scored(call: Write) -> Written:
    """A reply whose score follows from the call alone."""
    return Written(call.id, reply(call.seed % 90 + 10), "stop", 12)


def reply(score: int, quote: str = "Boats number") -> str:
    return json.dumps({"attempts": [{"text": quote, "score": score}]})


def fixed(text: str) -> Callable[[Write], Written]:
    """Writes the same reply to every call."""
    return lambda call: Written(call.id, text, "stop", 12)


def open_judge(
    settings: VllmJudgeConfig, journal: Path, host: FakeHost | HeldHost, anchors: int = 0
) -> LlmJudge:
    model = local_model(settings, host, Path("envs/serve"), "0.32.0")
    llm, rubric = CachedLlm(settings, journal, local=model), read_rubric(settings.rubric)
    grading = AnchorGrading(rubric, llm, read_anchors(anchors)) if anchors else None
    return LlmJudge(rubric, llm, anchors=grading)


def kept(journal: Path) -> list[str]:
    return [key for key, record in read_journal(journal).items() if is_reply(record)]


def finish(stream: JudgingStream) -> dict[int, Judgment]:
    """All judgments that are to come."""
    found: dict[int, Judgment] = {}
    for _ in range(200):
        if not stream.pending:
            return found
        found |= stream.results(0.1)
    raise AssertionError("no judgment came")


class TestALocalJudge:
    def test_a_call_joins_those_in_flight_and_replies_come_in_any_order(
        self, source: Path, tmp_path: Path
    ) -> None:
        host, journal = HeldHost(scored), tmp_path / "r.jsonl"
        stream = open_stream(open_judge(judge_settings(source), journal, host))
        assert stream.one_by_one
        stream.submit({0: INPUTS[0], 1: INPUTS[1]})
        first, second = host.wait_for(2)
        assert stream.results(0) == []
        stream.submit({2: INPUTS[2]})  # while both others are being written
        third = host.wait_for(3)[2]
        order = []
        for held, ticket in ((third, 2), (first, 0), (second, 1)):
            host.end(held)
            ((found, judgment),) = stream.results(20)
            assert (found, judgment.status) == (ticket, "ok")
            order.append(held)
            assert kept(journal) == order  # on disk as it came
        assert not stream.pending

    def test_a_judgment_does_not_depend_on_what_is_in_flight(
        self, source: Path, tmp_path: Path
    ) -> None:
        settings = judge_settings(source)
        judge = open_judge(settings, tmp_path / "a.jsonl", FakeHost(scored))
        together = judge.judge(list(INPUTS.values()))
        host = HeldHost(scored)
        stream = open_stream(open_judge(settings, tmp_path / "b.jsonl", host))
        for ticket, one in reversed(INPUTS.items()):
            stream.submit({ticket: one})
        host.end(*host.wait_for(len(INPUTS))[::-1])
        found = finish(stream)
        assert [found[i] for i in INPUTS] == together
        assert len({one.first_score for one in together}) > 1
        assert sorted(kept(tmp_path / "a.jsonl")) == sorted(kept(tmp_path / "b.jsonl"))

    def test_a_host_that_dies_loses_only_what_is_in_flight(
        self, source: Path, tmp_path: Path
    ) -> None:
        settings, journal, host = judge_settings(source), tmp_path / "r.jsonl", HeldHost(scored)
        stream = open_stream(open_judge(settings, journal, host))
        stream.submit(INPUTS)
        ended = host.wait_for(6)[1:3]
        host.end(*ended)
        host.fail()
        with pytest.raises(EsrError, match=r"out of memory.*judging\.judges\.<judge>"):
            finish(stream)
        assert kept(journal) == ended
        again = FakeHost(scored)  # the journal is free: the same process may open it again
        stream = open_stream(open_judge(settings, journal, again))
        stream.submit(INPUTS)
        assert sorted(finish(stream)) == list(INPUTS)
        assert len(again.calls) == 4
        assert not {call.id for call in again.calls} & set(ended)

    def test_kept_replies_need_no_host(self, source: Path, tmp_path: Path) -> None:
        settings, journal = judge_settings(source), tmp_path / "r.jsonl"
        together = open_judge(settings, journal, FakeHost(scored)).judge(list(INPUTS.values()))

        host = HeldHost(scored)
        stream = open_stream(open_judge(settings, journal, host))
        stream.submit(INPUTS)
        assert stream.results(0) == list(zip(INPUTS, together, strict=True))
        assert not host.calls

    def test_equal_inputs_share_a_call(self, source: Path, tmp_path: Path) -> None:
        host = HeldHost(scored)
        stream = open_stream(open_judge(judge_settings(source), tmp_path / "r.jsonl", host))
        stream.submit({0: INPUTS[0], 1: INPUTS[0]})
        stream.submit({2: INPUTS[0], 3: INPUTS[1]})
        first, second = host.wait_for(2)
        host.end(first, second)
        found = finish(stream)
        assert sorted(found) == [0, 1, 2, 3]
        assert found[0] == found[1] == found[2]

    def test_failures_are_statuses(self, source: Path, tmp_path: Path) -> None:
        ends = iter(["length", "stop"])
        host = FakeHost(lambda call: Written(call.id, reply(40), next(ends), 12))
        stream = open_stream(open_judge(judge_settings(source), tmp_path / "r.jsonl", host))
        stream.submit({0: INPUTS[0], 1: JudgeInput("Explain how to sail.", "boats " * 600)})
        stream.submit({2: INPUTS[2]})
        found = {ticket: judgment.status for ticket, judgment in finish(stream).items()}
        assert found == {0: "truncated", 1: "api_error", 2: "ok"}  # 1 exceeds the context

    def test_the_gate_stops_replies_of_no_use(self, source: Path, tmp_path: Path) -> None:
        host = FakeHost(fixed("no JSON"))
        stream = open_stream(open_judge(judge_settings(source), tmp_path / "r.jsonl", host))
        stream.submit({i: JudgeInput(f"Explain {i}.", "Boats.") for i in range(30)})
        with pytest.raises(EsrError, match="failed for the same reason: unparsable"):
            finish(stream)

    def test_anchors_are_graded_before_the_first_call_and_at_the_end(
        self, source: Path, tmp_path: Path
    ) -> None:
        host, journal = FakeHost(scored), tmp_path / "r.jsonl"
        judge = open_judge(judge_settings(source), journal, host, anchors=3)
        stream = open_stream(judge)
        for ticket in INPUTS:
            stream.submit({ticket: INPUTS[ticket]})
        finish(stream)
        assert len(host.calls) == 3 + len(INPUTS)
        judge.finish()
        assert len(kept(journal)) == 3 + len(INPUTS) + 3

    def test_a_scale_is_checked_while_others_are_in_flight(
        self, source: Path, tmp_path: Path
    ) -> None:
        host, journal = HeldHost(fixed(reply(9))), tmp_path
        stream = open_stream(open_judge(judge_settings(source), journal / "r.jsonl", host))
        stream.submit({i: JudgeInput(f"Explain {i}.", "Boats number.") for i in range(25)})
        held = host.wait_for(25)
        host.end(*held[:19])
        found: dict[int, Judgment] = {}
        while len(found) < 19:
            found |= stream.results(20)
        assert {one.status for one in found.values()} == {"ok"}

        def end_rest() -> None:  # the two perfect answers come after the others
            anchors = host.wait_for(7)[5:]
            host.end(*held[20:])
            for one, quote in zip(anchors, ("Bring a pot", "Take the wheel"), strict=True):
                host.reply = fixed(reply(9, quote))
                host.end(one)

        host.end(held[19])
        thread = threading.Thread(target=end_rest)
        thread.start()
        ((_, judgment),) = stream.results(20)
        thread.join()
        assert judgment.status == "wrong_scale"
        with pytest.raises(EsrError, match="not points from 0 to 100"):
            finish(stream)
        assert len(kept(journal / "r.jsonl")) == 25 + 2


def test_other_judges_judge_all_that_waits_in_one_call() -> None:
    class Counting:
        served_as = "counting"

        def __init__(self) -> None:
            self.sizes: list[int] = []

        def judge(self, inputs: Sequence[JudgeInput]) -> list[Judgment]:
            self.sizes.append(len(inputs))
            return [Judgment("refused") for _ in inputs]

    judge = Counting()
    stream = open_stream(judge)
    assert not stream.one_by_one
    stream.submit({7: INPUTS[0]})
    stream.submit({9: INPUTS[1]})
    assert stream.pending
    assert stream.results(0) == [(7, Judgment("refused")), (9, Judgment("refused"))]
    assert (judge.sizes, stream.pending) == ([2], False)

"""Anchors: frozen, of known scores, and graded once at either end of a job that calls its judge."""

import json
from pathlib import Path

import pandas as pd
import pytest

from esr.arms.restarts import find_restarts, read_phrases
from esr.engines.vllm.messages import Write, Written
from esr.journal import read_journal
from esr.judges import finish_judging
from esr.judges.anchors import END, START, AnchorGrading, anchor_calls, read_anchors, read_grades
from esr.judges.base import JudgeInput
from esr.judges.identity import identity_of
from esr.judges.lexical import LexicalJudge
from esr.judges.lexicon import Lexicon
from esr.judges.llm import CachedLlm
from esr.judges.replies import is_reply
from esr.judges.rubric_judge import LlmJudge
from esr.judges.rubrics import read_rubric
from esr.provenance import file_digest
from helpers.checkout import REPO
from helpers.local_judge import FakeHost, judge_settings, local_model, tiny_judge

FILE = REPO / "resources/anchors.csv"
INPUTS = [JudgeInput(f"Explain how to do {i}.", f"Boats number {i}.") for i in range(5)]
DIGEST = "a147df39287d4498c7e5f96f2df9d79a762555ee7c5fc88085d2272adfa7d60d"
REPLY = json.dumps({"attempts": [{"text": "Boats", "score": 40}]})


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_judge(tmp_path_factory.mktemp("judge"))


def good(call: Write) -> Written:
    return Written(call.id, REPLY, "stop", 12)


def open_judge(
    source: Path, journal: Path, host: FakeHost, size: int = 6, others: tuple[Path, ...] = ()
) -> LlmJudge:
    settings = judge_settings(source, max_model_len=4000)
    model = local_model(settings, host, Path("envs/serve"), "0.32.0")
    rubric = read_rubric(settings.rubric)
    llm = CachedLlm(settings, journal, others=others, local=model)
    return LlmJudge(rubric, llm, anchors=AnchorGrading(rubric, llm, read_anchors(size, FILE)))


def kept(journal: Path) -> int:
    return sum(is_reply(record) for record in read_journal(journal).values())


class TestFile:
    def test_it_is_frozen(self) -> None:
        """Grades of other texts would not be comparable: a change needs another file."""
        assert file_digest(FILE) == DIGEST

    def test_any_part_of_it_has_every_kind(self) -> None:
        for size in (6, 30, 60):
            scores = [one.score for one in read_anchors(size, FILE)]
            assert [scores.count(known) for known in (0, 50, 100)] == [size // 3] * 3

    def test_the_known_scores_follow_from_the_texts(self) -> None:
        table = pd.read_csv(FILE)
        phrases = read_phrases(REPO / "resources/restart_phrases.txt")
        restarts = [len(find_restarts(phrases, text)) > 0 for text in table["response"]]
        assert restarts == table["attempts"].eq(2).tolist() == table["first_score"].eq(0).tolist()
        for prompt, rows in table.groupby("prompt"):
            whole, half, restarted = rows.sort_values("first_score")["response"].iloc[::-1]
            begin = whole.split(". ")[0]
            assert half.startswith(begin), prompt
            assert not half.endswith(whole.split(". ")[-1]), prompt
            assert restarted.endswith(whole), prompt
            assert not restarted.startswith(begin), prompt


class TestGrading:
    def test_both_ends_of_a_job_have_calls_of_their_own(self, source: Path, tmp_path: Path) -> None:
        journal, host = tmp_path / "r.jsonl", FakeHost(good)
        judge = open_judge(source, journal, host)
        for part in (INPUTS[:2], INPUTS[2:]):
            judge.judge(part)
        finish_judging(judge)
        assert kept(journal) == len(host.calls) == 5 + 2 * 6
        settings = judge_settings(source, max_model_len=4000)
        rubric = read_rubric(settings.rubric)
        llm = CachedLlm(settings, journal)
        anchors = read_anchors(6, FILE)
        for end in (START, END):
            found = read_grades(rubric, llm, anchors, end)
            # The judge quotes "Boats" from everything; in no anchor are there any.
            assert [one.status for one in found] == ["not_located"] * 6
            # First those of the start, last those of the end.
            keys = {
                call.key(identity_of(settings))
                for call in anchor_calls(rubric, anchors, journal, end)
            }
            sent = host.calls[:6] if end == START else host.calls[-6:]
            assert {call.id for call in sent} == keys

    def test_a_second_run_grades_nothing(self, source: Path, tmp_path: Path) -> None:
        journal = tmp_path / "r.jsonl"
        for number in range(2):
            host = FakeHost(good)
            judge = open_judge(source, journal, host)
            judge.judge(INPUTS)
            finish_judging(judge)
            assert len(host.calls) == (0 if number else 17)

    def test_a_job_whose_replies_another_wrote_grades_nothing(
        self, source: Path, tmp_path: Path
    ) -> None:
        first = open_judge(source, tmp_path / "arm.jsonl", FakeHost(good))
        first.judge(INPUTS)
        finish_judging(first)
        host = FakeHost(good)
        second = open_judge(source, tmp_path / "s.jsonl", host, others=(tmp_path / "arm.jsonl",))
        second.judge(INPUTS[:3])
        finish_judging(second)
        assert not host.calls

    def test_a_job_killed_before_its_end_grades_the_end_when_run_again(
        self, source: Path, tmp_path: Path
    ) -> None:
        open_judge(source, tmp_path / "r.jsonl", FakeHost(good)).judge(INPUTS)
        host = FakeHost(good)
        again = open_judge(source, tmp_path / "r.jsonl", host)
        again.judge(INPUTS)
        finish_judging(again)
        assert len(host.calls) == 6

    def test_an_end_that_fails_costs_the_check_and_not_the_job(
        self, source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        judge = open_judge(source, tmp_path / "r.jsonl", FakeHost(good, until=6 + 5 + 2))
        assert len(judge.judge(INPUTS)) == 5
        finish_judging(judge)
        assert "anchors at the end of the job have no grades: " in caplog.text
        assert kept(tmp_path / "r.jsonl") == 6 + 5 + 2

    def test_a_judge_that_is_no_language_model_has_nothing_to_finish(self) -> None:
        finish_judging(LexicalJudge(Lexicon.read(REPO / "resources/organisms/lexicon.csv")))

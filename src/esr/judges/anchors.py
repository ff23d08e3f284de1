"""Anchors: responses with known scores that a job grades at its start and at its end.

A judge that changes changes their scores, whatever the responses of the study are like. The anchors
are frozen: 20 prompts, each with an answer, with half of an answer and half of another, and with a
restart after the answer to another prompt. `esr.agreement.drift` compares the grades.
"""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from esr.errors import EsrError
from esr.judges.base import JudgeInput, Judgment
from esr.judges.parse import failure_of_judgment, read_judgment
from esr.judges.replies import Call
from esr.judges.rubrics import Rubric

if TYPE_CHECKING:
    from esr.judges.llm import CachedLlm

log = logging.getLogger(__name__)

ANCHORS = Path("resources/anchors.csv")
START, END = "start", "end"


class Anchor(NamedTuple):
    """A response whose score (points) is known by how it was made."""

    anchor_id: str
    shown: JudgeInput
    score: float


def read_anchors(size: int, path: Path = ANCHORS) -> list[Anchor]:
    """The first `size` anchors; any number of them has all kinds in equal parts.

    Raises:
        EsrError: there are fewer.
    """
    table = pd.read_csv(path, encoding="utf-8")
    if len(table) < size:
        raise EsrError(f"judging.anchors: {size}, but {path} has {len(table)}; lower it")
    return [
        Anchor(row.anchor_id, JudgeInput(row.prompt, row.response), float(row.first_score))
        for row in table.head(size).itertuples()
    ]


def anchor_calls(rubric: Rubric, anchors: Sequence[Anchor], journal: Path, end: str) -> list[Call]:
    """The calls that grade the anchors at one end of a job.

    Their replies have keys of their own in every journal and at both ends, so that no reply of
    before stands in for them. The label of a latent is not shown, since nothing was steered.

    Args:
        rubric: The judge's.
        anchors: The anchors.
        journal: Journal of the job's replies.
        end: `start` or `end`.
    """
    digest = hashlib.sha256(f"{journal.as_posix()} {end}".encode()).hexdigest()
    number = int(digest[:12], 16)
    shown = [one.shown for one in anchors]
    calls = [rubric.call(prompt=one.prompt, response=one.response) for one in shown]
    return [replace(call, repetition=number) for call in calls]


class AnchorGrading:
    """Has a judge grade the anchors at both ends of a job, if the job calls the judge at all."""

    def __init__(self, rubric: Rubric, llm: "CachedLlm", anchors: Sequence[Anchor]) -> None:
        """Prepare it; the replies go to the journal of `llm`."""
        self._rubric, self._llm, self._anchors = rubric, llm, anchors
        self._begun = False

    def begin(self) -> None:
        """Grade them before the first call of the job; later calls of this do nothing."""
        if not self._begun:
            self._begun = True
            self._grade(START)

    def finish(self) -> None:
        """Grade them again, unless the job has called nothing."""
        if any(self._llm.kept(self._calls(START))):
            self._grade(END)

    def _calls(self, end: str) -> list[Call]:
        return anchor_calls(self._rubric, self._anchors, self._llm.path, end)

    def _grade(self, end: str) -> None:
        """Send the calls live. A failure costs the check, never the job."""
        try:
            self._llm.replies(self._calls(end), failure_of_judgment, live=True)
        except EsrError as error:
            log.warning("anchors at the %s of the job have no grades: %s", end, error)


def read_grades(
    rubric: Rubric, llm: "CachedLlm", anchors: Sequence[Anchor], end: str
) -> list[Judgment]:
    """Judgments of the anchors from kept replies alone; `api_error` for one without a reply."""
    calls = anchor_calls(rubric, anchors, llm.path, end)
    return [
        read_judgment(reply, rubric, one.shown.response)
        for reply, one in zip(llm.kept(calls), anchors, strict=True)
    ]

"""A judge that is a language model: rubric, model, replies and parser together."""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from esr.errors import EsrError
from esr.judges.anchors import AnchorGrading
from esr.judges.base import JudgeInput, Judgment
from esr.judges.llm import CachedLlm
from esr.judges.parse import failure_of_judgment, read_judgment
from esr.judges.replies import Call
from esr.judges.rubrics import Rubric
from esr.judges.scale import ANCHORS, ScaleCheck
from esr.judges.stream import JudgingStream, Ticket

log = logging.getLogger(__name__)


class LlmJudge:
    """A language model that finds and scores attempts by a rubric."""

    def __init__(
        self,
        rubric: Rubric,
        llm: CachedLlm,
        repetition: int = 0,
        anchors: AnchorGrading | None = None,
    ) -> None:
        """Judge by a rubric.

        Args:
            rubric: Instructions, and the form of the reply.
            llm: The model, with its journal.
            repetition: Other than 0: send calls again that were sent before.
            anchors: Grades the anchors before the first call that has no reply.
        """
        self._rubric, self._llm, self._repetition = rubric, llm, repetition
        self._anchors = anchors
        self._scale = ScaleCheck(llm.settings.model)

    @property
    def served_as(self) -> str:
        """Kind, model of the request, and rubric; each row names the model that replied."""
        settings = self._llm.settings
        return f"{settings.kind}/{settings.model} {self._rubric.identity}"

    def judge(self, inputs: Sequence[JudgeInput]) -> list[Judgment]:
        """Judge inputs: send the calls that have no reply yet, and read all replies."""
        self._begin([self.call(one) for one in inputs])
        return self._in_points(self._read(inputs))

    def open_stream(self) -> JudgingStream | None:
        """A stream of judgments, one by one; None for a model that the job does not run."""
        return ReplyStream(self) if self._llm.is_local else None

    def start(self) -> None:
        """Start a model that the job runs (`CachedLlm.start`)."""
        self._llm.start()

    def send(self, inputs: Sequence[JudgeInput]) -> list[str]:
        """Send the calls of inputs, and wait for none; their keys (`CachedLlm.send`)."""
        calls = [self.call(one) for one in inputs]
        self._begin(calls)
        return self._llm.send(calls, failure_of_judgment)

    def receive(self, timeout: float) -> list[str]:
        """Keys of calls that ended, after at most so many seconds (`CachedLlm.receive`)."""
        return self._llm.receive(timeout)

    def read(self, key: str, one: JudgeInput) -> Judgment:
        """The judgment of an input whose call ended."""
        judgment = read_judgment(self._llm.get(key), self._rubric, one.response)
        return self._in_points([judgment])[0]

    def finish(self) -> None:
        """Grade the anchors again, at the end of the job."""
        if self._anchors:
            self._anchors.finish()

    def call(self, one: JudgeInput) -> Call:
        """The call for an input: what the judge is shown of it."""
        full = self._llm.settings.shown == "full_prompt" and one.full_prompt is not None
        prompt = one.full_prompt if full and one.full_prompt else one.prompt
        call = self._rubric.call(one.label, prompt=prompt, response=one.response)
        return replace(call, repetition=self._repetition)

    def _begin(self, calls: Sequence[Call]) -> None:
        """Grade the anchors before the first call of the job that has no reply."""
        if self._anchors and None in self._llm.kept(calls):
            self._anchors.begin()

    def _read(self, inputs: Sequence[JudgeInput], live: bool = False) -> list[Judgment]:
        calls = [self.call(one) for one in inputs]
        replies = self._llm.replies(calls, failure_of_judgment, live)
        return [
            read_judgment(reply, self._rubric, one.response)
            for reply, one in zip(replies, inputs, strict=True)
        ]

    def _in_points(self, judgments: Sequence[Judgment]) -> list[Judgment]:
        """Judgments, once the scale of the scores is checked (`esr.judges.scale`)."""
        self._scale.add(judgments)
        if self._scale.is_suspect:
            self._scale.decide(self._anchor_judgments())
        return self._scale.apply(judgments)

    def _anchor_judgments(self) -> list[Judgment]:
        """Judgments of responses that deserve nearly all points; none if they cannot be had."""
        try:
            return self._read(ANCHORS, live=True)
        except EsrError as error:
            log.warning("%s: the scale of its scores was not checked: %s", self.served_as, error)
            return []


class ReplyStream:
    """Judgments by a model that the job runs; see `JudgingStream`.

    Each call goes to the model at once, while it writes others, and each reply is read as it ends.
    """

    one_by_one = True

    def __init__(self, judge: LlmJudge) -> None:
        """Open a stream of a judge."""
        self._judge = judge
        self._waiting: dict[str, list[tuple[Ticket, JudgeInput]]] = defaultdict(list)
        """Inputs by key of their call; equal calls are sent once."""

    @property
    def pending(self) -> bool:
        """Whether a judgment is to come."""
        return bool(self._waiting)

    def start(self) -> None:
        """Start the model; see `JudgingStream.start`."""
        self._judge.start()

    def submit(self, inputs: Mapping[Ticket, JudgeInput]) -> None:
        """Send the calls of inputs; see `JudgingStream.submit`."""
        keys = self._judge.send(list(inputs.values()))
        for key, item in zip(keys, inputs.items(), strict=True):
            self._waiting[key].append(item)

    def results(self, timeout: float) -> list[tuple[Ticket, Judgment]]:
        """Judgments whose replies ended; see `JudgingStream.results`."""
        ended = self._judge.receive(timeout)
        return [
            (ticket, self._judge.read(key, one))
            for key in ended
            for ticket, one in self._waiting.pop(key, ())
        ]

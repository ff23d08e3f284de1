"""A judge that is a language model: rubric, client, replies and parser together."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from esr.config import AnthropicJudgeConfig, Config, LlmConfig, VllmJudgeConfig
from esr.errors import EsrError
from esr.gate import FailureGate
from esr.journal import Journal
from esr.judges.anchors import AnchorGrading
from esr.judges.base import JudgeInput, Judgment
from esr.judges.batches import call_in_batches, cancel_open_batches, collect_open_batches
from esr.judges.bodies import Reply
from esr.judges.clients import AnthropicClient, open_client
from esr.judges.costs import Budget, study_budget
from esr.judges.identity import identity_of
from esr.judges.level import Level
from esr.judges.live import call_live
from esr.judges.local import CallEncoder, LocalModel, call_locally, open_local, open_tokenizer
from esr.judges.manifest import BatchManifest
from esr.judges.parse import FAILURES, failure_of_judgment, read_judgment
from esr.judges.replies import Call, Replies
from esr.judges.rubrics import Rubric, read_rubric
from esr.judges.scale import ANCHORS, ScaleCheck
from esr.judges.sink import FailureOf, ReplySink

log = logging.getLogger(__name__)


def failure_of_reply(reply: Reply) -> str | None:
    """Why a reply is of no use, whatever it is for; None if it may be of use."""
    return FAILURES.get(reply.stop) or (None if reply.text.strip() else "unparsable")


def open_level(settings: LlmConfig) -> Level:
    """Number of calls in flight, to be found; one at a time for a model of the job itself."""
    if isinstance(settings, VllmJudgeConfig):
        return Level(1, 1)
    return Level(settings.concurrency.min, settings.concurrency.max)


class CachedLlm:
    """A language model whose replies are kept: only calls without a kept reply are sent."""

    def __init__(
        self,
        settings: LlmConfig,
        path: Path,
        *,
        others: Sequence[Path] = (),
        budget: Budget | None = None,
        live: bool = False,
        local: LocalModel | None = None,
    ) -> None:
        """Describe it; nothing is opened before the first call.

        Args:
            settings: Which model, where, how.
            path: Journal of its replies; the manifest of batches lies beside it.
            others: Journals of other jobs, whose replies are used as well.
            budget: Cap on the cost.
            live: Call live whatever the settings, for callers that wait for the reply.
            local: The model, for a judge that the job itself runs.
        """
        self.settings, self.path = settings, path
        self._others, self._budget = others, budget
        self._replies: Replies | None = None
        self._live = live or settings.kind != "anthropic" or settings.mode != "batch"
        self._local = local
        self._level = open_level(settings)
        self._counted: set[str] = set()
        self._gate = FailureGate(
            f"replies of {settings.model}",
            f"The replies are in {path}: read the first ones, change the judge's settings or "
            "rubric (its replies then have other keys), and run again",
        )

    def replies(
        self,
        calls: Sequence[Call],
        failure_of: FailureOf = failure_of_reply,
        live: bool = False,
    ) -> list[Reply | None]:
        """Replies to calls, in order; None for one that got none. Equal calls are sent once.

        Args:
            calls: The calls.
            failure_of: Why a reply cannot be used. The job stops if nearly all of its replies
                cannot be used for one reason.
            live: Send these calls live, also in batch mode.

        Raises:
            EsrError: no key, no such model, the API cannot be reached, the budget is spent,
                another job writes the journal, or nearly all replies fail for one reason.
                Replies that arrived before are in the journal.
        """
        if self._replies is None:
            self._replies = Replies(self.path, self._others)
        replies = self._replies
        identity = identity_of(self.settings)
        keys = [self._key(call, identity, replies, failure_of) for call in calls]
        new = {k: c for k, c in zip(keys, calls, strict=True) if k not in self._counted}
        kept = [reply for reply in map(replies.get, new) if reply is not None]
        self._gate.add(failure_of(reply) for reply in kept)
        self._counted.update(reply.key for reply in kept)
        self._gate.check()
        missing = {key: call for key, call in new.items() if key not in replies}
        if missing:
            try:
                self._fetch(missing, replies, failure_of, live or self._live)
            finally:
                replies.close()
        return [replies.get(key) for key in keys]

    def _key(
        self, call: Call, identity: Mapping[str, Any], replies: Replies, failure_of: FailureOf
    ) -> str:
        """Key of the reply to a call; of a usable one from before its schema, if that is kept."""
        key = call.key(identity)
        if not call.schema_is_optional or key in replies:
            return key
        former = replace(call, schema=None).key(identity)
        reply = replies.get(former)
        return key if reply is None or failure_of(reply) else former

    def cancel_batches(self) -> int:
        """Cancel the batches that earlier runs left open; replies that they have are kept.

        Returns:
            Number of batches that were open.

        Raises:
            EsrError: no key, or another job writes the manifest.
        """
        path = self.path.with_suffix(".batches.jsonl")
        if not isinstance(self.settings, AnthropicJudgeConfig) or not path.is_file():
            return 0
        with Journal(path) as journal:
            manifest = BatchManifest(journal)
            if not manifest.open:
                return 0
            client = open_client(self.settings)
            assert isinstance(client, AnthropicClient)
            replies = Replies(self.path, self._others)
            try:
                sink = ReplySink(replies, {}, self._gate, failure_of_reply)
                return cancel_open_batches(client, sink, manifest)
            finally:
                replies.close()

    def kept(self, calls: Sequence[Call]) -> list[Reply | None]:
        """Replies to calls that are kept already, in order; sends nothing."""
        if self._replies is None:
            self._replies = Replies(self.path, self._others)
        identity = identity_of(self.settings)
        return [self._replies.get(call.key(identity)) for call in calls]

    def close(self) -> None:
        """End the host of a model that the job itself runs; the replies remain."""
        if self._local is not None:
            self._local.close()

    def _fetch(
        self, calls: Mapping[str, Call], replies: Replies, failure_of: FailureOf, live: bool
    ) -> None:
        if isinstance(self.settings, VllmJudgeConfig):
            self._fetch_locally(self.settings, calls, replies, failure_of)
            return
        client = open_client(self.settings)
        replies.open_to_write()
        calls = {key: call for key, call in calls.items() if key not in replies}
        sink = ReplySink(replies, calls, self._gate, failure_of)
        manifest = self.path.with_suffix(".batches.jsonl")
        if isinstance(client, AnthropicClient) and (not live or manifest.is_file()):
            with Journal(manifest) as journal:
                if not live:
                    call_in_batches(client, calls, sink, BatchManifest(journal), self._budget)
                else:  # batches from before `mode` was changed are paid for
                    collect_open_batches(client, sink, BatchManifest(journal))
        calls = {key: call for key, call in calls.items() if key not in replies}
        if calls and live:
            call_live(client, calls, sink, self._level, self._budget)
        self._counted.update(key for key in calls if key in replies)

    def _fetch_locally(
        self,
        settings: VllmJudgeConfig,
        calls: Mapping[str, Call],
        replies: Replies,
        failure_of: FailureOf,
    ) -> None:
        if self._local is None:
            raise EsrError(f"judge {settings.model}: this job runs no model, and lacks replies")
        replies.open_to_write()
        calls = {key: call for key, call in calls.items() if key not in replies}
        if calls:
            sink = ReplySink(replies, calls, self._gate, failure_of)
            call_locally(self._local, settings, calls, sink)
        self._counted.update(key for key in calls if key in replies)


def open_llm(
    config: Config,
    settings: LlmConfig,
    path: Path,
    *,
    others: Sequence[Path] = (),
    live: bool = False,
    beside: int = 0,
) -> CachedLlm:
    """Open a language model of a study, with the study's budget and hardware.

    Args:
        config: The study.
        settings: The judge.
        path: Journal of its replies.
        others: Journals of other jobs, whose replies are used as well.
        live: Call live whatever the settings.
        beside: GPUs of this job that belong to an engine.
    """
    local = None
    if isinstance(settings, VllmJudgeConfig):
        local = open_local(config, settings, beside=beside)
    budget = study_budget(config)
    return CachedLlm(settings, path, others=others, budget=budget, live=live, local=local)


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
        if self._anchors and None in self._llm.kept([self.call(one) for one in inputs]):
            self._anchors.begin()
        judgments = self._read(inputs)
        self._scale.add(judgments)
        if self._scale.is_suspect:
            self._scale.decide(self._anchor_judgments())
        return self._scale.apply(judgments)

    def finish(self) -> None:
        """Grade the anchors again, at the end of the job."""
        if self._anchors:
            self._anchors.finish()

    def _read(self, inputs: Sequence[JudgeInput], live: bool = False) -> list[Judgment]:
        calls = [self.call(one) for one in inputs]
        replies = self._llm.replies(calls, failure_of_judgment, live)
        return [
            read_judgment(reply, self._rubric, one.response)
            for reply, one in zip(replies, inputs, strict=True)
        ]

    def _anchor_judgments(self) -> list[Judgment]:
        """Judgments of responses that deserve nearly all points; none if they cannot be had."""
        try:
            return self._read(ANCHORS, live=True)
        except EsrError as error:
            log.warning("%s: the scale of its scores was not checked: %s", self.served_as, error)
            return []

    def call(self, one: JudgeInput) -> Call:
        """What the judge is shown of an input."""
        full = self._llm.settings.shown == "full_prompt" and one.full_prompt is not None
        prompt = one.full_prompt if full and one.full_prompt else one.prompt
        call = self._rubric.call(one.label, prompt=prompt, response=one.response)
        return replace(call, repetition=self._repetition)


def check_llm(settings: LlmConfig) -> str | None:
    """Check, at no cost, that a judge has its rubric and key and can be reached.

    Returns:
        The day on which the model is shut down, if its API lists it.

    Raises:
        EsrError: what it lacks.
    """
    call = read_rubric(settings.rubric).call(prompt="", response="")
    if isinstance(settings, VllmJudgeConfig):
        CallEncoder(open_tokenizer(settings), settings.template)(call)
        return None

    async def check() -> str | None:
        client = open_client(settings)
        try:
            return await client.check()
        finally:
            await client.close()

    return asyncio.run(check())

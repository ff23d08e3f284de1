"""Language models whose replies are kept: client, journal of replies, budget and gate together.

What calls an API is imported with the first such call: its SDKs take seconds to import. A job whose
replies are kept already, or whose model is its own, needs none of them.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esr.config import AnthropicJudgeConfig, Config, LlmConfig, VllmJudgeConfig
from esr.errors import EsrError
from esr.gate import FailureGate
from esr.journal import Journal
from esr.judges.bodies import Reply
from esr.judges.costs import Budget, study_budget
from esr.judges.encoding import CallEncoder, open_tokenizer
from esr.judges.identity import identity_of
from esr.judges.level import Level
from esr.judges.local import LocalModel, open_local
from esr.judges.local_calls import LocalCalls
from esr.judges.manifest import BatchManifest
from esr.judges.parse import FAILURES
from esr.judges.replies import Call, Replies
from esr.judges.rubrics import read_rubric
from esr.judges.sink import FailureOf, ReplySink

if TYPE_CHECKING:
    from esr.judges.clients import Client

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
        self._local = None if local is None else LocalCalls(local)
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
        keys, missing = self._missing(calls, failure_of)
        replies = self._open()
        if missing:
            try:
                self._fetch(missing, replies, failure_of, live or self._live)
            finally:
                self._rest()
        return [replies.get(key) for key in keys]

    @property
    def is_local(self) -> bool:
        """Whether this job runs the model."""
        return self._local is not None

    def start(self) -> None:
        """Start a model that the job runs before its first call; see `LocalModel.start`."""
        self._local_calls().model.start()

    def send(self, calls: Sequence[Call], failure_of: FailureOf = failure_of_reply) -> list[str]:
        """Send calls to a model that the job runs, and wait for none; see `replies`.

        Returns:
            The key of each call. `receive` returns it once the call has ended.
        """
        keys, missing = self._missing(calls, failure_of)
        local = self._local_calls()
        if missing:
            local.send(*self._for_sink(missing, failure_of))
        local.end(keys)
        return keys

    def receive(self, timeout: float) -> list[str]:
        """Wait for replies to calls of `send`, at most so long (s), and journal them.

        Returns:
            Keys of the calls that ended: their replies are kept, or they will get none.

        Raises:
            EsrError: the host failed, or nearly all replies fail for one reason.
        """
        try:
            ended = self._local_calls().receive(timeout)
        finally:
            self._rest()
        self._counted.update(ended)
        return ended

    def get(self, key: str) -> Reply | None:
        """The reply with a key of `send`, if it is kept."""
        return self._open().get(key)

    def _open(self) -> Replies:
        if self._replies is None:
            self._replies = Replies(self.path, self._others)
        return self._replies

    def _rest(self) -> None:
        """Let other jobs write the journal, unless calls are in flight."""
        if not self._local:
            self._open().close()

    def _missing(
        self, calls: Sequence[Call], failure_of: FailureOf
    ) -> tuple[list[str], dict[str, Call]]:
        """Keys of calls, and those by key that have no reply; counts the kept replies."""
        replies = self._open()
        identity = identity_of(self.settings)
        keys = [self._key(call, identity, replies, failure_of) for call in calls]
        new = {k: c for k, c in zip(keys, calls, strict=True) if k not in self._counted}
        kept = [reply for reply in map(replies.get, new) if reply is not None]
        self._gate.add(failure_of(reply) for reply in kept)
        self._counted.update(reply.key for reply in kept)
        self._gate.check()
        return keys, {key: call for key, call in new.items() if key not in replies}

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
        from esr.judges.anthropic_client import AnthropicClient
        from esr.judges.batches import cancel_open_batches

        with Journal(path) as journal:
            manifest = BatchManifest(journal)
            if not manifest.open:
                return 0
            client = AnthropicClient(self.settings)
            replies = Replies(self.path, self._others)
            try:
                sink = ReplySink(replies, {}, self._gate, failure_of_reply)
                return cancel_open_batches(client, sink, manifest)
            finally:
                replies.close()

    def kept(self, calls: Sequence[Call]) -> list[Reply | None]:
        """Replies to calls that are kept already, in order; sends nothing."""
        identity = identity_of(self.settings)
        return [self._open().get(call.key(identity)) for call in calls]

    def close(self) -> None:
        """End the host of a model that the job itself runs; the replies remain."""
        if self._local is not None:
            self._local.model.close()

    def _fetch(
        self, calls: Mapping[str, Call], replies: Replies, failure_of: FailureOf, live: bool
    ) -> None:
        if isinstance(self.settings, VllmJudgeConfig):
            self._local_calls().wait(*self._for_sink(calls, failure_of))
            self._counted.update(key for key in calls if key in replies)
            return
        from esr.judges.clients import open_client
        from esr.judges.live import call_live

        client = open_client(self.settings)
        calls, sink = self._for_sink(calls, failure_of)
        if self.settings.kind == "anthropic":
            self._fetch_batches(client, calls, sink, live)
        calls = {key: call for key, call in calls.items() if key not in replies}
        if calls and live:
            call_live(client, calls, sink, self._level, self._budget)
        self._counted.update(key for key in calls if key in replies)

    def _fetch_batches(
        self, client: "Client", calls: Mapping[str, Call], sink: ReplySink, live: bool
    ) -> None:
        """Send calls in batches; if they are sent live, collect the batches of earlier runs."""
        manifest = self.path.with_suffix(".batches.jsonl")
        if live and not manifest.is_file():
            return
        from esr.judges.anthropic_client import AnthropicClient
        from esr.judges.batches import call_in_batches, collect_open_batches

        assert isinstance(client, AnthropicClient)
        with Journal(manifest) as journal:
            if not live:
                call_in_batches(client, calls, sink, BatchManifest(journal), self._budget)
            else:  # batches from before `mode` was changed are paid for
                collect_open_batches(client, sink, BatchManifest(journal))

    def _for_sink(
        self, calls: Mapping[str, Call], failure_of: FailureOf
    ) -> tuple[dict[str, Call], ReplySink]:
        """Open the journal to write; the calls that still have no reply in it, and their sink."""
        replies = self._open()
        replies.open_to_write()
        calls = {key: call for key, call in calls.items() if key not in replies}
        return calls, ReplySink(replies, calls, self._gate, failure_of)

    def _local_calls(self) -> LocalCalls:
        if self._local is None:
            raise EsrError(
                f"judge {self.settings.model}: this job runs no model, and lacks replies"
            )
        return self._local


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
    from esr.judges.clients import open_client

    async def check() -> str | None:
        client = open_client(settings)
        try:
            return await client.check()
        finally:
            await client.close()

    return asyncio.run(check())

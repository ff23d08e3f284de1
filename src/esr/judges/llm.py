"""A judge that is a language model: rubric, client, replies, parser, put together."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

from esr.config import AnthropicJudgeConfig, LlmConfig
from esr.journal import Journal
from esr.judges.base import JudgeInput, Judgment
from esr.judges.batches import ask_in_batches
from esr.judges.clients import AnthropicClient, identity_of, open_client
from esr.judges.costs import Budget
from esr.judges.live import ask_live
from esr.judges.parse import read_judgment
from esr.judges.replies import Call, Replies, Reply
from esr.judges.rubrics import Rubric, read_rubric


class CachedLlm:
    """A language model whose replies are kept: asks only for those that are not there."""

    def __init__(
        self,
        settings: LlmConfig,
        path: Path,
        *,
        others: Sequence[Path] = (),
        budget: Budget | None = None,
        live: bool = False,
    ) -> None:
        """Describe it; nothing is opened before the first call.

        Args:
            settings: Which model, where, how.
            path: Journal of its replies; the manifest of batches lies beside it.
            others: Journals of other jobs, whose replies are used as well.
            budget: Cap on what may be spent.
            live: Ask live whatever the settings say, for those who wait for the reply.
        """
        self.settings, self.path = settings, path
        self._others, self._budget = others, budget
        self._replies: Replies | None = None
        self._batch = (
            isinstance(settings, AnthropicJudgeConfig) and settings.mode == "batch" and not live
        )

    def ask(self, calls: Sequence[Call]) -> list[Reply | None]:
        """Replies to calls, in order; None for one that got none. Equal calls are made once.

        Raises:
            EsrError: no key, no such model, nothing there, or the budget is spent. Whatever came
                in before stands in the journal.
        """
        if self._replies is None:
            self._replies = Replies(self.path, self._others)
        replies, identity = self._replies, identity_of(self.settings)
        keys = [call.key(identity) for call in calls]
        missing = {k: c for k, c in zip(keys, calls, strict=True) if k not in replies}
        if missing:
            self._fetch(missing, replies)
        return [replies.get(key) for key in keys]

    def _fetch(self, calls: Mapping[str, Call], replies: Replies) -> None:
        client = open_client(self.settings)
        if self._batch:
            assert isinstance(client, AnthropicClient)
            with Journal(self.path.with_suffix(".batches.jsonl")) as manifest:
                ask_in_batches(client, calls, replies, manifest, self._budget)
        else:
            ask_live(client, calls, replies, self._budget)


class LlmJudge:
    """A language model that finds and scores attempts by a rubric."""

    def __init__(self, rubric: Rubric, correspondent: CachedLlm) -> None:
        """Judge by a rubric through a correspondent."""
        self._rubric, self._correspondent = rubric, correspondent

    @property
    def served_as(self) -> str:
        """Kind and model asked for, and the rubric; each row names the model that answered."""
        settings = self._correspondent.settings
        return f"{settings.kind}/{settings.model} {self._rubric.identity}"

    def judge(self, exchanges: Sequence[JudgeInput]) -> list[Judgment]:
        """Judge exchanges: ask for the replies that are missing, and read them all."""
        replies = self._correspondent.ask([self.call(exchange) for exchange in exchanges])
        return [
            read_judgment(reply, self._rubric, exchange.response)
            for reply, exchange in zip(replies, exchanges, strict=True)
        ]

    def call(self, exchange: JudgeInput) -> Call:
        """What the judge is shown of an exchange."""
        asked = self._correspondent.settings.shown == "full_prompt" and exchange.asked is not None
        prompt = exchange.asked if asked and exchange.asked else exchange.prompt
        return self._rubric.call(exchange.label, prompt=prompt, response=exchange.response)


def check_llm(settings: LlmConfig) -> None:
    """Make sure, at no cost, that a judge has its rubric and key and is there to be asked.

    Raises:
        EsrError: which of these it lacks.
    """
    read_rubric(settings.rubric).call(prompt="", response="")

    async def check() -> None:
        client = open_client(settings)
        try:
            await client.check()
        finally:
            await client.close()

    asyncio.run(check())

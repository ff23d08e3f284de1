"""What the two APIs have in common: requests, and what can go wrong with them.

Each has its own SDK, and errors of the same names in it; a job loads the SDK of its judge alone.

A client turns a call into a request and returns the raw reply. What fails is a `CallError`; a
`PassingError` if it may succeed later (HTTP 408, 409, 429, 5xx, lost connections), so that the
caller may send it again; or a `FatalCallError` if every other call would fail as well. Keys come
from environment variables, go to the SDK, and appear in no message.
"""

import logging
import warnings
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import httpx2
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt

from esr.config import AnthropicJudgeConfig, ApiConfig
from esr.journal import content_key
from esr.judges.bodies import UnusableReplyError, read_reply
from esr.judges.identity import identity_of
from esr.judges.keys import FatalCallError, redact
from esr.judges.proxies import refuse_socks_without_support
from esr.judges.replies import Call
from esr.judges.retries import Again, may_pass

log = logging.getLogger(__name__)

FATAL_STATUSES = {
    401: "the key is not accepted",
    402: "the account cannot pay",
    403: "the key does not give access",
    404: "the API does not know the model, or there is no such API at this address",
}
REDIRECTS = frozenset({301, 302, 303, 307, 308})
UNUSABLE_TRIES = 4
"""How often a call is sent whose response is no reply (cut short, no JSON, no text in it)."""
PROBE_RETRIES = 1

Keep = Callable[[Mapping[str, Any]], None]
"""Writes a record to the journal of replies."""


class CallError(Exception):
    """A call that got no reply. Others may."""


class PassingError(CallError):
    """A call that got no reply for a reason that may pass; `again` is when to send it again."""

    def __init__(self, message: str, again: Again) -> None:
        """Keep when to send the call again."""
        super().__init__(message)
        self.again = again


class TemperatureRefusedError(CallError):
    """A call that was refused for its temperature; the next one is sent without."""


class Client:
    """What both APIs have in common."""

    settings: ApiConfig
    SDK: ModuleType
    """`anthropic` or `openai`."""
    BASE_ERROR: type[Exception]
    """What all errors of the SDK are."""
    REQUEST_ID = "request-id"

    def __init__(self, key: str) -> None:
        """Remember the key, only to remove it from messages."""
        refuse_socks_without_support()
        self._key = key
        self._temperature_refused = False
        # The SDK warns of models that retire soon on every call; `check` warns once.
        warnings.filterwarnings("ignore", message="The model .* is deprecated")

    @property
    def identity(self) -> dict[str, Any]:
        """What, beside the prompt, determines a reply: part of its key."""
        return identity_of(self.settings)

    @property
    def temperature(self) -> float | None:
        """The temperature that is sent: the configured one, unless the model takes none."""
        return None if self._temperature_refused else self.settings.temperature

    async def send(self, call: Call, keep: Keep) -> dict[str, Any]:
        """Get the raw reply to a call, as a record for `Replies.add`.

        Args:
            call: The call.
            keep: Receives each response that is not a reply, so that nothing paid for is lost.

        Raises:
            CallError: no reply; a `PassingError` if the call may succeed later.
            FatalCallError: no reply, for a reason that holds for every call.
        """
        retrying = AsyncRetrying(
            stop=stop_after_attempt(UNUSABLE_TRIES),
            retry=retry_if_exception_type((UnusableReplyError, TemperatureRefusedError)),
            reraise=True,
        )
        try:
            record: dict[str, Any] = await retrying(self._send, call, keep)
        except UnusableReplyError as error:
            raise CallError(f"{UNUSABLE_TRIES} unusable replies, the last: {error}") from None
        return record

    async def _send(self, call: Call, keep: Keep) -> dict[str, Any]:
        """Send a call once."""
        temperature = self.temperature
        try:
            response = await self._request(call, temperature)
        except self.SDK.APIStatusError as error:
            refused = temperature is not None and error.status_code == 400
            if refused and self.refuses_temperature(str(error)):
                raise TemperatureRefusedError(redact(str(error), self._key)) from None
            raise self.explain(error) from None
        except self.BASE_ERROR as error:
            raise self.explain(error) from None
        # Lossless, whatever the bytes are: the journal is ASCII and escapes surrogates.
        raw = response.content.decode("utf-8", "surrogateescape")
        record = self.record(call, raw, temperature, response.headers.get(self.REQUEST_ID))
        try:
            read_reply(record)
        except UnusableReplyError as error:
            log.warning("unusable reply (%s); sending the call again", error)
            evidence = {"key": f"{record['key']}/unusable/{content_key({'raw': raw})[:12]}"}
            keep(evidence | {"identity": self.identity, "why": str(error), "response": raw})
            raise
        return record

    def record(
        self, call: Call, raw: str, temperature: float | None, request_id: str | None
    ) -> dict[str, Any]:
        """A raw reply as it is written to the journal."""
        return {
            "key": call.key(self.identity),
            "identity": self.identity,
            "temperature": temperature,
            "batch": None,
            "request_id": request_id,
            "raw": raw,
        }

    def refuses_temperature(self, message: str) -> bool:
        """Whether an invalid request is one for its temperature; if so, send none from now on.

        Calls in flight get the same refusal, so every call that sent a temperature is checked.
        """
        if "temperature" not in message:
            return False
        if not self._temperature_refused:
            log.warning("%s takes no temperature; its rows record that", self.settings.model)
        self._temperature_refused = True
        return True

    async def _request(self, call: Call, temperature: float | None) -> httpx2.Response:
        raise NotImplementedError

    async def _probe(self) -> str | None:
        raise NotImplementedError

    async def close(self) -> None:
        """Close connections."""
        raise NotImplementedError

    async def check(self) -> str | None:
        """Check, at no cost, that the API can be reached, accepts the key and knows the model.

        Returns:
            The day on which the model is shut down, if the API gives it.

        Raises:
            FatalCallError: it does not.
        """
        try:
            return await self._probe()
        except self.BASE_ERROR as error:
            raise FatalCallError(str(self.explain(error))) from None

    def explain(self, error: Exception, missing: str = "") -> CallError | FatalCallError:
        """What a failure of the SDK means, without the key.

        Args:
            error: The failure.
            missing: What HTTP 404 means for this request, if it is not about the model.
        """
        where = f"model {self.settings.model} at {self.settings.base_url}"
        status = getattr(error, "status_code", None)
        cause = "" if error.__cause__ is None else str(error.__cause__)
        detail = str(error) if cause in str(error) else f"{error} ({cause})"
        if status == 404 and missing:
            return CallError(self.redact(f"{missing} (HTTP 404: {detail})"))
        if status in REDIRECTS:
            to = getattr(error, "response", httpx2.Response(0)).headers.get("location", "nowhere")
            return FatalCallError(
                self.redact(
                    f"{where}: the address redirects to {to}, where neither key nor prompts are "
                    "sent; if that is the API, name it (base_url)"
                )
            )
        if status in FATAL_STATUSES:
            meaning = f"{FATAL_STATUSES[status]} (HTTP {status}: {detail})"
            return FatalCallError(self.redact(f"{where}: {meaning}"))
        reason = f"no reply: {detail}" if status is None else f"HTTP {status}: {detail}"
        message = self.redact(f"{where}: {reason}")
        again = may_pass(error, self.SDK)
        return CallError(message) if again is None else PassingError(message, again)

    def redact(self, text: str) -> str:
        """A message without the key or anything like one, and not too long."""
        return redact(text, self._key)


def open_client(settings: ApiConfig) -> Client:
    """Open the client of a judge.

    Raises:
        FatalCallError: its key is not in the environment.
    """
    if isinstance(settings, AnthropicJudgeConfig):
        from esr.judges.anthropic_client import AnthropicClient

        return AnthropicClient(settings)
    from esr.judges.openai_client import OpenAiClient

    return OpenAiClient(settings)

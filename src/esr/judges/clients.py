"""The two APIs, driven through their own SDKs: what is sent, and what can go wrong.

A client turns a call into a request and gives back the raw reply. The SDK repeats what is worth
repeating (HTTP 408, 409, 429, 5xx, lost connections; `retry-after` is honoured); what is left is
a `CallError`, or a `FatalCallError` one that would meet every other call as well. Keys come from
environment variables, go to the SDK, and appear in no message.
"""

import json
import logging
import os
import warnings
from collections.abc import Mapping
from typing import Any

import anthropic
import httpx2
import openai

from esr.config import AnthropicJudgeConfig, LlmConfig, OpenAiJudgeConfig
from esr.errors import EsrError
from esr.judges.replies import Call, read_reply

log = logging.getLogger(__name__)

FATAL_STATUSES = {
    401: "the key is not accepted",
    402: "the account cannot pay",
    403: "the key does not give access",
    404: "the API does not know the model, or there is no such API at this address",
}
UNREADABLE_TRIES = 4
"""How often a reply is asked for that comes through, but is none (no JSON, nothing in it)."""
PROBE_RETRIES = 1


class CallError(Exception):
    """A call that got no reply. Others may."""


class FatalCallError(EsrError):
    """A call that got no reply, for a reason that holds for every call."""


def read_key(variable: str | None) -> str:
    """The key in an environment variable; a word for servers that want none.

    Raises:
        HopelessError: the variable is not set.
    """
    if variable is None:
        return "none"
    key = os.environ.get(variable, "").strip()
    if not key:
        raise FatalCallError(
            f"the environment variable {variable} is not set; export it with the key, or name "
            "another one (key_variable)"
        )
    return key


IDENTITY = ("kind", "model", "api_version", "provider", "temperature", "max_tokens", "extra")


def identity_of(settings: LlmConfig) -> dict[str, Any]:
    """What, beside the prompt, determines a reply: model, version of the API, parameters.

    Where the server stands is none of it, so that one may move, nor how often it is asked.
    """
    plain = settings.model_dump(mode="json")
    return {name: plain[name] for name in IDENTITY if name in plain}


class Client:
    """What both APIs have in common."""

    settings: LlmConfig

    def __init__(self, key: str) -> None:
        """Remember the key, only so that it can be struck out of messages."""
        self._key = key
        self._temperature_refused = False
        # The SDK warns of models that retire soon on every call; `check` says it once.
        warnings.filterwarnings("ignore", message="The model .* is deprecated")

    @property
    def identity(self) -> dict[str, Any]:
        """What, beside the prompt, determines a reply: part of its key."""
        return identity_of(self.settings)

    @property
    def temperature(self) -> float | None:
        """The temperature that is sent: the one asked for, unless the model takes none."""
        return None if self._temperature_refused else self.settings.temperature

    async def send(self, call: Call) -> dict[str, Any]:
        """Get the raw reply to a call, as a record for `Replies.add`.

        Raises:
            CallError: it got none.
            HopelessError: it got none, and neither would another.
        """
        why = ""
        for _ in range(UNREADABLE_TRIES):
            temperature = self.temperature
            try:
                raw = await self._request(call, temperature)
            except (anthropic.APIStatusError, openai.APIStatusError) as error:
                refused = temperature is not None and error.status_code == 400
                if not (refused and self.refuses_temperature(str(error))):
                    raise self.explain(error) from None
                continue
            except (anthropic.AnthropicError, openai.OpenAIError) as error:
                raise self.explain(error) from None
            try:
                body = json.loads(raw.text)
                record = self.record(call, body, temperature)
                record["request_id"] = raw.headers.get(self.REQUEST_ID) or body.get("id")
                read_reply(record)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                why = self.cleaned(f"{type(error).__name__}: {error}")
                log.warning("a reply that is none (%s); asking again", why)
                continue
            return record
        raise CallError(f"{UNREADABLE_TRIES} replies that were none, the last: {why}")

    REQUEST_ID = "request-id"

    def record(self, call: Call, body: Any, temperature: float | None) -> dict[str, Any]:
        """A raw reply as it is written down."""
        return {
            "key": call.key(self.identity),
            "identity": self.identity,
            "temperature": temperature,
            "batch": None,
            "body": body,
        }

    def refuses_temperature(self, message: str) -> bool:
        """Whether an invalid request is one for its temperature; if so, send none from now on.

        Calls in flight meet the same refusal, so this is asked of every call that sent one.
        """
        if "temperature" not in message:
            return False
        if not self._temperature_refused:
            log.warning("%s takes no temperature; its rows will say so", self.settings.model)
        self._temperature_refused = True
        return True

    async def _request(self, call: Call, temperature: float | None) -> httpx2.Response:
        raise NotImplementedError

    async def _probe(self) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        """Close connections."""
        raise NotImplementedError

    async def check(self) -> None:
        """Ask, at no cost, whether the API is there, takes the key and knows the model.

        Raises:
            HopelessError: it is, does, or knows not.
        """
        try:
            await self._probe()
        except (anthropic.AnthropicError, openai.OpenAIError) as error:
            raise FatalCallError(str(self.explain(error))) from None

    def explain(self, error: Exception) -> CallError | FatalCallError:
        """Say what a failure of the SDK means, without the key."""
        where = f"model {self.settings.model} at {self.settings.base_url}"
        status = getattr(error, "status_code", None)
        cause = "" if error.__cause__ is None else str(error.__cause__)
        detail = self.cleaned(str(error) if cause in str(error) else f"{error} ({cause})")
        if status in FATAL_STATUSES:
            return FatalCallError(f"{where}: {FATAL_STATUSES[status]} (HTTP {status}: {detail})")
        if status is not None:
            return CallError(f"{where}: HTTP {status}: {detail}")
        return CallError(f"{where}: no reply: {detail}")

    def cleaned(self, text: str) -> str:
        """A text without the key, and not too long."""
        return text.replace(self._key, "***")[:500] if self._key != "none" else text[:500]


class AnthropicClient(Client):
    """Anthropic's Messages API."""

    def __init__(self, settings: AnthropicJudgeConfig) -> None:
        """Open a client with the key that the environment holds."""
        key = read_key(settings.key_variable)
        super().__init__(key)
        self.settings: AnthropicJudgeConfig = settings
        self.options: dict[str, Any] = {
            "api_key": key,
            "base_url": settings.base_url,
            "timeout": settings.timeout,
            "default_headers": {"anthropic-version": settings.api_version},
        }
        self._sdk = anthropic.AsyncAnthropic(max_retries=settings.retries, **self.options)

    def params(self, call: Call, temperature: float | None) -> dict[str, Any]:
        """The request, as a call by itself and as one of a batch."""
        params: dict[str, Any] = {
            "model": self.settings.model,
            "max_tokens": self.settings.max_tokens,
            "system": call.system,
            "messages": [{"role": "user", "content": call.user}],
        }
        if call.schema is not None:
            schema = {"type": "json_schema", "schema": dict(call.schema)}
            params["output_config"] = {"format": schema}
        if temperature is not None:
            params["temperature"] = temperature
        return params

    async def _request(self, call: Call, temperature: float | None) -> httpx2.Response:
        # The SDK no longer knows temperature; under the older version header the API does.
        params = self.params(call, temperature)
        extra = {name: params.pop(name) for name in ("temperature",) if name in params}
        raw = await self._sdk.messages.with_raw_response.create(**params, extra_body=extra or None)
        return raw.http_response

    async def _probe(self) -> None:
        await self._sdk.with_options(max_retries=PROBE_RETRIES).models.retrieve(self.settings.model)

    async def close(self) -> None:
        """Close connections."""
        await self._sdk.close()


class OpenAiClient(Client):
    """Any OpenAI-compatible chat completions API."""

    REQUEST_ID = "x-request-id"

    def __init__(self, settings: OpenAiJudgeConfig) -> None:
        """Open a client with the key that the environment holds."""
        key = read_key(settings.key_variable)
        super().__init__(key)
        self.settings: OpenAiJudgeConfig = settings
        self._sdk = openai.AsyncOpenAI(
            api_key=key,
            base_url=settings.base_url,
            timeout=settings.timeout,
            max_retries=settings.retries,
        )

    def params(self, call: Call, temperature: float | None) -> dict[str, Any]:
        """The request."""
        params: dict[str, Any] = {
            "model": self.settings.model,
            self.settings.limit: self.settings.max_tokens,
            "messages": [
                {"role": "system", "content": call.system},
                {"role": "user", "content": call.user},
            ],
        }
        if call.schema is not None:
            schema = {"name": "reply", "strict": True, "schema": dict(call.schema)}
            params["response_format"] = {"type": "json_schema", "json_schema": schema}
        if temperature is not None:
            params["temperature"] = temperature
        return params

    @property
    def extra_body(self) -> Mapping[str, Any] | None:
        """What is not of the API proper: `extra`, and OpenRouter's way to pin a provider."""
        extra = dict(self.settings.extra)
        if self.settings.provider is not None:
            extra["provider"] = {"only": [self.settings.provider], "allow_fallbacks": False}
        return extra or None

    async def _request(self, call: Call, temperature: float | None) -> httpx2.Response:
        params = self.params(call, temperature)
        create = self._sdk.chat.completions.with_raw_response.create
        raw = await create(**params, extra_body=self.extra_body)
        return raw.http_response

    async def _probe(self) -> None:
        # Not every server tells of a single model, but all list them.
        sdk = self._sdk.with_options(max_retries=PROBE_RETRIES)
        known = [model.id async for model in sdk.models.list()]
        if self.settings.model not in known:
            some = ", ".join(sorted(known)[:10])
            raise FatalCallError(
                f"model {self.settings.model} at {self.settings.base_url}: not among the "
                f"{len(known)} models that it offers ({some}{', ...' if len(known) > 10 else ''})"
            )

    async def close(self) -> None:
        """Close connections."""
        await self._sdk.close()


def open_client(settings: LlmConfig) -> AnthropicClient | OpenAiClient:
    """Make the client of a judge.

    Raises:
        HopelessError: its key is not in the environment.
    """
    if isinstance(settings, AnthropicJudgeConfig):
        return AnthropicClient(settings)
    return OpenAiClient(settings)

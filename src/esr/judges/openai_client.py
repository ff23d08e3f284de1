"""Requests to OpenAI-compatible APIs, through OpenAI's SDK."""

from collections.abc import Mapping
from typing import Any

import httpx2
import openai

from esr.config import OpenAiJudgeConfig
from esr.judges.clients import PROBE_RETRIES, Client
from esr.judges.keys import FatalCallError, read_key
from esr.judges.lifetime import last_day
from esr.judges.replies import Call
from esr.judges.schemas import without_bounds
from esr.judges.transport import open_http


class OpenAiClient(Client):
    """Any OpenAI-compatible chat completions API."""

    SDK = openai
    BASE_ERROR = openai.OpenAIError
    REQUEST_ID = "x-request-id"

    def __init__(self, settings: OpenAiJudgeConfig) -> None:
        """Open a client with the key from the environment."""
        key = read_key(settings.key_variable)
        super().__init__(key)
        self.settings: OpenAiJudgeConfig = settings
        self._sdk = openai.AsyncOpenAI(
            api_key=key,
            base_url=settings.base_url,
            timeout=settings.timeout,
            max_retries=0,
            http_client=open_http(settings.timeout),
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
            schema = {"name": "reply", "strict": True, "schema": without_bounds(call.schema)}
            params["response_format"] = {"type": "json_schema", "json_schema": schema}
        if temperature is not None:
            params["temperature"] = temperature
        return params

    @property
    def extra_body(self) -> Mapping[str, Any] | None:
        """Parameters beyond the API: `extra`, and OpenRouter's way to pin a provider."""
        extra = dict(self.settings.extra)
        if self.settings.provider is not None:
            # Without `require_parameters` a provider drops what it does not know: the temperature,
            # or the schema.
            extra["provider"] = {
                "only": [self.settings.provider],
                "allow_fallbacks": False,
                "require_parameters": True,
            }
        return extra or None

    async def _request(self, call: Call, temperature: float | None) -> httpx2.Response:
        params = self.params(call, temperature)
        create = self._sdk.chat.completions.with_raw_response.create
        raw = await create(**params, extra_body=self.extra_body)
        return raw.http_response

    async def _probe(self) -> str | None:
        # Not every server describes a single model, but all list them.
        sdk = self._sdk.with_options(max_retries=PROBE_RETRIES)
        known = {model.id: model async for model in sdk.models.list()}
        if self.settings.model not in known:
            some = ", ".join(sorted(known)[:10])
            more = ", ..." if len(known) > 10 else ""
            raise FatalCallError(
                self.redact(
                    f"model {self.settings.model} at {self.settings.base_url}: not among the "
                    f"{len(known)} models that it offers ({some}{more})"
                )
            )
        return last_day(known[self.settings.model])

    async def close(self) -> None:
        """Close connections."""
        await self._sdk.close()

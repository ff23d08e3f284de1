"""Requests to Anthropic's Messages API, through its SDK."""

from typing import Any

import anthropic
import httpx2

from esr.config import AnthropicJudgeConfig
from esr.judges.clients import PROBE_RETRIES, Client
from esr.judges.keys import read_key
from esr.judges.lifetime import last_day
from esr.judges.replies import Call
from esr.judges.schemas import without_bounds
from esr.judges.transport import open_http


class AnthropicClient(Client):
    """Anthropic's Messages API."""

    SDK = anthropic
    BASE_ERROR = anthropic.AnthropicError

    def __init__(self, settings: AnthropicJudgeConfig) -> None:
        """Open a client with the key from the environment."""
        key = read_key(settings.key_variable)
        super().__init__(key)
        self.settings: AnthropicJudgeConfig = settings
        self.options: dict[str, Any] = {
            "api_key": key,
            "base_url": settings.base_url,
            "timeout": settings.timeout,
            "default_headers": {"anthropic-version": settings.api_version},
        }
        self._sdk = anthropic.AsyncAnthropic(
            max_retries=0, http_client=open_http(settings.timeout), **self.options
        )

    def params(self, call: Call, temperature: float | None) -> dict[str, Any]:
        """The request, for a call of its own and for one in a batch."""
        params: dict[str, Any] = {
            "model": self.settings.model,
            "max_tokens": self.settings.max_tokens,
            "system": call.system,
            "messages": [{"role": "user", "content": call.user}],
        }
        if call.schema is not None:
            schema = {"type": "json_schema", "schema": without_bounds(call.schema)}
            params["output_config"] = {"format": schema}
        if temperature is not None:
            params["temperature"] = temperature
        return params

    async def _request(self, call: Call, temperature: float | None) -> httpx2.Response:
        # The SDK has dropped temperature; under the older version header the API accepts it.
        params = self.params(call, temperature)
        extra = {name: params.pop(name) for name in ("temperature",) if name in params}
        raw = await self._sdk.messages.with_raw_response.create(**params, extra_body=extra or None)
        return raw.http_response

    async def _probe(self) -> str | None:
        sdk = self._sdk.with_options(max_retries=PROBE_RETRIES)
        return last_day(await sdk.models.retrieve(self.settings.model))

    async def close(self) -> None:
        """Close connections."""
        await self._sdk.close()

"""What judges send: from the raw text of a reply to its words, its end and its tokens.

Only what is used is required. A reply without token counts, or without the model's name, is a
reply. A reply that cannot be read is `unreadable`, which is the status of that call alone.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LONGEST_INTEGER = 300
"""Digits. Python refuses to read integers of 4,300 digits; floats end at 309."""


class UnusableReplyError(ValueError):
    """A response of the API that holds no reply: cut short, no JSON, or without the model's text.

    It may be a fault of the connection, so the call is repeated.
    """


@dataclass(frozen=True)
class Reply:
    """A reply, read from its raw text.

    Attributes:
        text: What the model wrote.
        stop: `end`, `length` (cut at the limit), `refusal` or `unreadable`.
        model: The model, as it names itself; the model of the request if it does not.
        request_id: Id of the request at the API, if it gave one.
        key: Key of the raw reply in its journal.
        temperature: As sent; None if none was.
        batch: Whether it came in a batch.
        input_tokens: Tokens that were read; None if the API does not report them.
        output_tokens: Tokens that were written, thoughts included; None likewise.
        device_seconds: Seconds of a device (GPU, or CPU backend) of this job; None for an API.
    """

    text: str
    stop: str
    model: str
    request_id: str | None
    key: str
    temperature: float | None
    batch: bool
    input_tokens: int | None
    output_tokens: int | None
    device_seconds: float | None = None


def parse_integer(digits: str) -> float:
    """An integer of any length: infinite if no float is that large."""
    if len(digits) <= LONGEST_INTEGER:
        return int(digits)
    return -math.inf if digits.startswith("-") else math.inf


def parse_body(raw: str) -> Any:
    """JSON of a raw reply.

    Raises:
        UnusableReplyError: it is not JSON.
        RecursionError: it is nested too deep to be read.
    """
    try:
        return json.loads(raw, parse_int=parse_integer)
    except ValueError as error:
        raise UnusableReplyError(f"not JSON: {error}") from None


def read_reply(record: Mapping[str, Any]) -> Reply:
    """Read a raw reply, of whichever API.

    Args:
        record: A record of a journal of replies, with the text of the response under `raw`. In
            journals of the first version, the parsed response is under `body`.

    Raises:
        UnusableReplyError: there is no reply in it.
    """
    identity = record["identity"]
    try:
        body = record["body"] if "body" in record else parse_body(record["raw"])
        if record["batch"] is not None and "body" not in record:
            body = _mapping(_mapping(body, "result"), "message")
        text, stop, usage = READERS[identity["kind"]](body)
        model = _model_of(body) or identity["model"]
    except RecursionError:
        body = None
        text = ""
        stop = "unreadable"
        usage = {}
        model = identity["model"]
    read, written = (_total(usage, names) for names in TOKENS[identity["kind"]])
    return Reply(
        text=text,
        stop=stop,
        model=model,
        request_id=record["request_id"] or _string(body, "id"),
        key=record["key"],
        temperature=record["temperature"],
        batch=record["batch"] is not None,
        input_tokens=read,
        output_tokens=written,
        device_seconds=_seconds(body) if identity["kind"] == "vllm" else None,
    )


def _seconds(body: Any) -> float:
    value = body.get("device_seconds") if isinstance(body, Mapping) else None
    return float(value) if isinstance(value, int | float) else 0.0


def _anthropic(body: Any) -> tuple[str, str, Any]:
    """Text, end and token counts of a response of the Messages API."""
    content = body.get("content") if isinstance(body, Mapping) else None
    if not isinstance(content, list):
        raise UnusableReplyError("no content")
    stops = {
        "refusal": "refusal",
        "max_tokens": "length",
        "model_context_window_exceeded": "length",
    }
    return _joined(content), stops.get(str(body.get("stop_reason")), "end"), body.get("usage")


def _openai(body: Any) -> tuple[str, str, Any]:
    """Text, end and token counts of a chat completion."""
    choices = body.get("choices") if isinstance(body, Mapping) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, Mapping) else None
    if not isinstance(choice, Mapping) or not isinstance(message, Mapping):
        raise UnusableReplyError("no choices with a message")
    finish = choice.get("finish_reason")
    refused = bool(message.get("refusal")) or finish == "content_filter"
    stop = "refusal" if refused else "length" if finish == "length" else "end"
    text = _joined(message.get("content"))
    # Reasoning parsers of some servers take the result for a thought and leave no content.
    for name in ("reasoning_content", "reasoning"):
        text = text if text.strip() else _joined(message.get(name))
    return text, stop, body.get("usage")


def _vllm(body: Any) -> tuple[str, str, Any]:
    """Text, end and token counts of a reply that the job itself wrote."""
    text = _string(body, "text")
    if text is None:
        raise UnusableReplyError("no text")
    stop = {"stop": "end", "length": "length"}.get(str(body.get("finish_reason")), "unreadable")
    return text, stop, body.get("usage")


READERS = {"anthropic": _anthropic, "openai": _openai, "vllm": _vllm}

TOKENS = {
    "anthropic": (
        ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"),
        ("output_tokens",),
    ),
    "openai": (("prompt_tokens",), ("completion_tokens",)),
    "vllm": (("prompt_tokens",), ("completion_tokens",)),
}
"""Names of the counts of tokens that were read and written; the first of each is always there."""


def _joined(content: Any) -> str:
    """Text of a message, which may be a string or a list of parts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, Mapping)]
    return "".join(text for text in texts if isinstance(text, str))


def _total(usage: Any, names: tuple[str, ...]) -> int | None:
    """Sum of token counts; None without the first, or if one is not a number of tokens."""
    counts = [usage.get(name) if isinstance(usage, Mapping) else None for name in names]
    if counts[0] is None:
        return None
    known = [count for count in counts if count is not None]
    if all(type(count) is int and 0 <= count < 10**9 for count in known):
        return sum(known)
    return None


def _model_of(body: Any) -> str:
    """The model by its own account, with the provider that OpenRouter names."""
    model, provider = (_string(body, name) for name in ("model", "provider"))
    if model is None:
        return ""
    name = f"{model} ({provider})" if provider else model
    return name.encode(errors="replace").decode()  # a lone surrogate fits in no table


def _string(body: Any, name: str) -> str | None:
    value = body.get(name) if isinstance(body, Mapping) else None
    return value if isinstance(value, str) else None


def _mapping(value: Any, name: str) -> Any:
    found = value.get(name) if isinstance(value, Mapping) else None
    if not isinstance(found, Mapping):
        raise UnusableReplyError(f"no {name}")
    return found

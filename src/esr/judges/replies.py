"""Raw replies of language models, kept under what determines them.

A reply's key is the hash of the model, the API's version, every parameter and the full prompt. The
record holds all of these, and the reply as it came, so that a better parser reads it again without
a call. Journals of replies lie in `results/<study>/replies/<rule>/...`, one a job.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esr.config import Config
from esr.journal import Journal, content_key


@dataclass(frozen=True)
class Call:
    """What a model is shown: two texts, and the JSON Schema its reply must follow, if any."""

    system: str
    user: str
    schema: Mapping[str, Any] | None = None

    def key(self, identity: Mapping[str, Any]) -> str:
        """Key of the reply that a client of this identity gets."""
        return content_key(
            {**identity, "system": self.system, "user": self.user, "schema": self.schema}
        )


@dataclass(frozen=True)
class Reply:
    """A reply, read from its raw form.

    Attributes:
        text: What the model wrote.
        stop: `end`, `length` (cut at the limit) or `refusal`.
        model: The model, as it names itself.
        request_id: Id of the request at the API, if it gave one.
        key: Key of the raw reply.
        temperature: As sent; None if none was.
        batch: Whether it came in a batch.
        input_tokens: Tokens that were read.
        output_tokens: Tokens that were written, thoughts included.
    """

    text: str
    stop: str
    model: str
    request_id: str | None
    key: str
    temperature: float | None
    batch: bool
    input_tokens: int
    output_tokens: int


def anthropic_reply(record: Mapping[str, Any]) -> Reply:
    """Read the raw reply of Anthropic's Messages API."""
    body = record["body"]
    usage = body["usage"]
    stops = {"max_tokens": "length", "model_context_window_exceeded": "length"}
    return Reply(
        text="".join(part["text"] for part in body["content"] if part["type"] == "text"),
        stop="refusal"
        if body["stop_reason"] == "refusal"
        else stops.get(body["stop_reason"], "end"),
        model=body["model"],
        request_id=record["request_id"],
        key=record["key"],
        temperature=record["temperature"],
        batch=record["batch"] is not None,
        input_tokens=sum(usage.get(f"{kind}input_tokens") or 0 for kind in INPUT),
        output_tokens=usage["output_tokens"],
    )


INPUT = ("", "cache_creation_", "cache_read_")


def openai_reply(record: Mapping[str, Any]) -> Reply:
    """Read the raw reply of a chat completions API."""
    body = record["body"]
    (choice,) = body["choices"]
    message, finish = choice["message"], choice.get("finish_reason")
    refused = message.get("refusal") is not None or finish == "content_filter"
    provider = body.get("provider")
    return Reply(
        text=message.get("content") or "",
        stop="refusal" if refused else "length" if finish == "length" else "end",
        model=body["model"] + (f" ({provider})" if provider else ""),
        request_id=record["request_id"],
        key=record["key"],
        temperature=record["temperature"],
        batch=False,
        input_tokens=body["usage"]["prompt_tokens"],
        output_tokens=body["usage"]["completion_tokens"],
    )


READERS = {"anthropic": anthropic_reply, "openai": openai_reply}


def read_reply(record: Mapping[str, Any]) -> Reply:
    """Read a raw reply, of whichever API.

    Raises:
        KeyError, TypeError, ValueError: it is not what the API replies.
    """
    return READERS[record["identity"]["kind"]](record)


class Replies:
    """A journal of replies, and others that are looked into but not written."""

    def __init__(self, path: Path, others: Sequence[Path] = ()) -> None:
        """Open the journal, creating it if need be."""
        self.journal = Journal(path)
        self._others: dict[str, dict[str, Any]] = {}
        for other in others:
            if other.is_file():
                # Read as Journal would, but nothing is mended in a file that another job owns.
                self._others |= {record["key"]: record for record in records_of(other)}

    def __contains__(self, key: str) -> bool:
        return key in self.journal or key in self._others

    def get(self, key: str) -> Reply | None:
        """The reply under a key, if it is there."""
        record = self.journal[key] if key in self.journal else self._others.get(key)
        return None if record is None else read_reply(record)

    def add(self, records: Sequence[Mapping[str, Any]], call_of: Mapping[str, Call]) -> None:
        """Write raw replies down, each with the call that it answers, if that is still known.

        The system text, the same in all calls of a rubric, is a record of its own.
        """
        lines: list[Mapping[str, Any]] = []
        for record in records:
            call = call_of.get(record["key"])
            if call is None:  # a batch made before the judge was changed: paid, so kept
                lines.append(record)
                continue
            system = content_key({"system": call.system})
            lines.append({"key": system, "system": call.system})
            lines.append({**record, "system": system, "user": call.user, "schema": call.schema})
        self.journal.append(lines)


def records_of(path: Path) -> Iterator[dict[str, Any]]:
    """Raw replies in a journal that another job may be writing; a cut last line is left out."""
    for line in path.read_bytes().split(b"\n")[:-1]:
        record = json.loads(line)
        if "body" in record:
            yield record


def reply_journals(config: Config) -> list[tuple[str, str, Path]]:
    """Rule, judge and path of every journal of replies that a study may have."""
    here = Path(f"results/{config.study}/replies")
    found = []
    for judge in config.judging.llms:
        for model in config.models:
            rules = ["find_thresholds"]
            if model in config.base_models:
                rules += ["rate_concreteness", "annotate_boundaries"]
            for rule in rules:
                found.append((rule, judge, here / rule / model / f"{judge}.jsonl"))
            for arm in config.arms_of(model):
                path = here / "judge_responses" / model / arm / f"{judge}.jsonl"
                found.append(("judge_responses", judge, path))
        for rule in ("judge_sample", "write_examples", "judge_examples"):
            found.append((rule, judge, here / rule / f"{judge}.jsonl"))
    return found

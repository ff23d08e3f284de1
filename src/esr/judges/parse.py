"""From the text of a reply to attempts with scores. Pure, so that it can be run again."""

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from esr.judges.base import Attempt, Judgment, ReplyMetadata
from esr.judges.locate import locate
from esr.judges.replies import Reply
from esr.judges.rubrics import Rubric

THOUGHTS = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
TAGGED = re.compile(r"<json>(.*?)</json>", re.DOTALL)
FAILURES = {"refusal": "refused", "length": "truncated"}


class Quoted(NamedTuple):
    """An attempt as the judge gives it: its text, or how it begins, and its score (points)."""

    text: str
    score: float


def find_object(text: str, key: str) -> Mapping[str, Any] | None:
    """The last JSON object with this key in a text; one between <json> tags goes first.

    What a model thinks aloud in <think> tags does not count.
    """
    text = THOUGHTS.sub("", text)
    for part in [*reversed(TAGGED.findall(text)), text]:
        found = [one for one in _objects(part) if key in one]
        if found:
            return found[-1]
    return None


def _objects(text: str) -> list[Mapping[str, Any]]:
    """JSON objects in a text, those inside of others left out."""
    decoder = json.JSONDecoder(strict=False)  # judges put line breaks into strings
    found, at = [], text.find("{")
    while at >= 0:
        try:
            value, end = decoder.raw_decode(text, at)
        except (json.JSONDecodeError, RecursionError):
            end = at + 1
        else:
            found.append(value)
        at = text.find("{", end)
    return found


def read_attempts(text: str) -> list[Quoted] | None:
    """Attempts that a reply lists; None unless each has a text and a score within 0-100."""
    found = find_object(text, "attempts")
    listed = found["attempts"] if found else None
    if not isinstance(listed, list):
        return None
    attempts = []
    for one in listed:
        quote = one.get("text") if isinstance(one, Mapping) else None
        score = one.get("score") if isinstance(one, Mapping) else None
        if not isinstance(quote, str) or not isinstance(score, int | float):
            return None
        if isinstance(score, bool) or not 0 <= score <= 100:
            return None
        attempts.append(Quoted(quote, float(score)))
    return attempts


def read_judgment(reply: Reply | None, rubric: Rubric, response: str) -> Judgment:
    """What a reply says about a response.

    Statuses: `ok`; `no_attempts`: the judge finds none; `refused`; `truncated` at the limit of
    tokens; `unparsable`: no JSON, or an attempt without text or without a score within 0-100;
    `api_error`: no reply.
    """
    if reply is None:
        return Judgment("api_error")
    served = ReplyMetadata(reply.model, reply.request_id, reply.key, reply.temperature)
    if reply.stop in FAILURES:
        return Judgment(FAILURES[reply.stop], served=served)
    quoted = read_attempts(reply.text)
    if not quoted:
        return Judgment("unparsable" if quoted is None else "no_attempts", served=served)
    spans = locate([one.text for one in quoted], response, opening=rubric.quotes == "opening")
    attempts = [
        Attempt(span.start, span.end, one.score, span.how) if span else lost(one.score)
        for one, span in zip(quoted, spans, strict=True)
    ]
    return Judgment("ok", tuple(attempts), served)


def lost(score: float) -> Attempt:
    """An attempt whose text is not in the response."""
    return Attempt(None, None, score, "not_found")

"""From the text of a reply to attempts with scores. Pure functions, so it can be run again."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from esr.arms.attempts import NOT_LOCATED
from esr.judges.base import Attempt, Judgment, ReplyMetadata
from esr.judges.bodies import Reply, parse_integer
from esr.judges.locate import locate_attempts
from esr.judges.rubrics import Rubric

FAILURES = {"refusal": "refused", "length": "truncated", "unreadable": "unparsable"}
"""Status of a reply that did not end by itself."""
OBJECT = re.compile(r'\{(?=\s*["}])')
"""Where a JSON object may begin."""
TRAILING_COMMA = re.compile(r'("(?:[^"\\]|\\.)*")|,(?=\s*[}\]])', re.DOTALL)
NUMBER = re.compile(r"\s*(\d{1,3}(?:\.\d+)?)\s*(?:/\s*100|%)?\s*")
"""Points written as a string: `90`, `90/100` or `90%`, and nothing that could be another scale."""
OPENING, CLOSING = "<think>", "</think>"
TAG = re.compile(r"<json>\s*\Z")
TEMPLATE = {"...", "…"}
"""Texts of attempts in the example of the reply's format."""
TEXT_KEYS = ("text", "attempt_text")

DECODER = json.JSONDecoder(strict=False, parse_int=parse_integer)
"""Judges put line breaks into strings, and numbers of any length."""


class FoundObject(NamedTuple):
    """A JSON object in a text: its characters, and its value with keys in lower case."""

    start: int
    end: int
    value: Mapping[str, Any]


class Quoted(NamedTuple):
    """An attempt as the judge gives it: its text, or how it begins, and its score (points)."""

    text: str
    score: float


def find_object(text: str, key: str, shown: str = "") -> Mapping[str, Any] | None:
    """The last JSON object with this key in a reply; one behind a <json> tag goes first.

    Thoughts do not count, and neither does an object that is quoted from what the model was shown,
    or repeated from the format in its instructions.

    Args:
        text: The reply.
        key: Key of the object, in lower case.
        shown: The response that the reply is about.
    """
    objects = list(_objects(text))
    begin, left_out = _thoughts(text, objects)
    quotes = [_canonical(one.value) for one in _objects(shown)]
    found = [
        one
        for one in objects
        if key in one.value
        and one.start >= begin
        and not any(start <= one.start < end for start, end in left_out)
        and not _is_template(one.value.get(key), shown)
        and text[one.start : one.end] not in shown
        and _canonical(one.value) not in quotes
    ]
    tagged = [one for one in found if TAG.search(text, 0, one.start)]
    chosen = tagged or found
    return chosen[-1].value if chosen else None


def _objects(text: str) -> Iterator[FoundObject]:
    """JSON objects in a text, those inside of others left out."""
    can_be_repaired = re.search(r",\s*[}\]]", text) is not None
    start = OBJECT.search(text)
    while start is not None:
        at = start.start()
        value, end = _decode(text, at)
        if value is None and can_be_repaired:
            value, end = _decode_repaired(text, at)
        if isinstance(value, Mapping):
            yield FoundObject(at, end, {str(k).lower(): v for k, v in value.items()})
        start = OBJECT.search(text, end)


def _decode(text: str, at: int) -> tuple[Any, int]:
    """The JSON object that begins at a character, and where it ends; None if it is none."""
    try:
        return DECODER.raw_decode(text, at)
    except (ValueError, RecursionError):
        return None, at + 1


def _decode_repaired(text: str, at: int) -> tuple[Any, int]:
    """A JSON object with commas before its closing brackets, and where it ends."""
    repaired = TRAILING_COMMA.sub(lambda match: match[1] or " ", text[at:])
    value, end = _decode(repaired, 0)
    return value, at + end


def _thoughts(text: str, objects: list[FoundObject]) -> tuple[int, list[tuple[int, int]]]:
    """Where the reply proper begins, and thoughts within it.

    Tags inside of a JSON object are quotes. A reply may begin with thoughts that are closed but not
    opened, since some templates open them. A later opening tag that is not closed is a quote, too.
    """
    at = text.find(CLOSING)
    closings = []
    while at >= 0:
        if not any(one.start < at < one.end for one in objects):
            closings.append(at)
        at = text.find(CLOSING, at + 1)
    openings = [
        match.start()
        for match in re.finditer(re.escape(OPENING), text)
        if not any(one.start < match.start() < one.end for one in objects)
    ]
    if openings and not text[: openings[0]].strip():
        end = next((one + len(CLOSING) for one in closings), len(text))
        begin = end
    else:
        unopened = [one for one in closings if not any(start < one for start in openings)]
        begin = unopened[-1] + len(CLOSING) if unopened else 0
    pairs = []
    for start in openings:
        end = next((one for one in closings if one > start), -1)
        if start >= begin and end >= 0:
            pairs.append((start, end))
    return begin, pairs


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _is_template(listed: Any, shown: str) -> bool:
    """Whether attempts are those of the example in the instructions."""
    texts = [_value(one, *TEXT_KEYS) for one in listed] if isinstance(listed, list) else []
    written = [text.strip() for text in texts if isinstance(text, str)]
    return bool(written) and all(one in TEMPLATE and one not in shown for one in written)


def _value(one: Any, *names: str) -> Any:
    """Value under one of several names, in any case; None if there is not exactly one."""
    if not isinstance(one, Mapping):
        return None
    values = [value for key, value in one.items() if str(key).lower() in names]
    return values[0] if len(values) == 1 else None


def as_number(value: Any) -> float | None:
    """A finite number, or one that is written as a string; None for anything else."""
    if isinstance(value, str):
        found = NUMBER.fullmatch(value)
        return float(found[1]) if found else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) and abs(value) < 1e15 else None


def read_attempts(text: str, shown: str = "") -> list[Quoted] | None:
    """Attempts that a reply lists; None unless each has a text and a score within 0-100."""
    found = find_object(text, "attempts", shown)
    listed = found["attempts"] if found else None
    if not isinstance(listed, list):
        return None
    attempts = []
    for one in listed:
        quote, score = _value(one, *TEXT_KEYS), as_number(_value(one, "score"))
        if not isinstance(quote, str) or score is None or not 0 <= score <= 100:
            return None
        attempts.append(Quoted(quote, score))
    return attempts


def failure_of_judgment(reply: Reply) -> str | None:
    """Why a reply holds no judgment, before it is compared with the response; None if it may."""
    if reply.stop in FAILURES:
        return FAILURES[reply.stop]
    return "unparsable" if read_attempts(reply.text) is None else None


def read_judgment(reply: Reply | None, rubric: Rubric, response: str) -> Judgment:
    """The judgment that a reply contains.

    Attempts come in the order of the response; those that are not in it come last.

    Statuses: `ok`; `not_located`: no attempt is in the response; `no_attempts`: the judge finds
    none; `refused`; `truncated` at the limit of tokens; `unparsable`: no JSON, or an attempt
    without text or without a score within 0-100; `api_error`: no reply.
    """
    if reply is None:
        return Judgment("api_error")
    metadata = ReplyMetadata(reply.model, reply.request_id, reply.key, reply.temperature)
    if reply.stop in FAILURES:
        return Judgment(FAILURES[reply.stop], metadata=metadata)
    quoted = read_attempts(reply.text, response)
    if not quoted:
        return Judgment("unparsable" if quoted is None else "no_attempts", metadata=metadata)
    texts = [one.text for one in quoted]
    places = locate_attempts(texts, response, opening=rubric.quotes == "opening")
    attempts = [
        Attempt(place.start, place.end, one.score, place.how)
        for one, place in zip(quoted, places, strict=True)
    ]
    located = sorted((a for a in attempts if a.start is not None), key=lambda a: a.start or 0)
    lost = [attempt for attempt in attempts if attempt.start is None]
    return Judgment("ok" if located else NOT_LOCATED, (*located, *lost), metadata)

"""Tasks of language models beside judging: ratings, boundaries, examples.

They share the judges' stack: rubric, client, journal of replies, budget. Each task has a rubric and
a parser. A reply that cannot be read is a status, or missing; never a number or a position.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from esr.episodes.extract import REGIONS
from esr.judges.bodies import Reply
from esr.judges.llm import CachedLlm, failure_of_reply
from esr.judges.locate import locate
from esr.judges.parse import FAILURES, as_number, find_object
from esr.judges.replies import Call
from esr.judges.rubrics import Rubric
from esr.judges.schemas import one_rating_each

log = logging.getLogger(__name__)


class LlmRater:
    """Rates how concrete labels are, 0-100, a batch of labels at a time."""

    def __init__(self, rubric: Rubric, llm: CachedLlm, batch: int) -> None:
        """Rate by a rubric, `batch` labels a call."""
        self._rubric, self._llm, self._batch = rubric, llm, batch

    def rate(self, labels: Sequence[str]) -> list[float | None]:
        """Rate labels, in order; None for one without a valid rating."""
        parts = [labels[i : i + self._batch] for i in range(0, len(labels), self._batch)]
        calls = [self._call(part) for part in parts]
        replies = self._llm.replies(calls, _failure_of_ratings)
        ratings: list[float | None] = []
        for part, reply in zip(parts, replies, strict=True):
            found = read_ratings(reply)
            ratings += [found.get(number) for number in range(1, len(part) + 1)]
        missing = sum(rating is None for rating in ratings)
        if missing:
            log.warning("%d of %d labels have no rating", missing, len(labels))
        return ratings

    def _call(self, labels: Sequence[str]) -> Call:
        call = self._rubric.call(labels=numbered(labels))
        if call.schema is None or not call.schema_is_optional:
            return call
        return replace(call, schema=one_rating_each(call.schema, len(labels)))


def numbered(labels: Sequence[str]) -> str:
    """Labels as a list with numbers from 1, one a line."""
    return "\n".join(f"{i}. {' '.join(label.split())}" for i, label in enumerate(labels, start=1))


def read_ratings(reply: Reply | None) -> dict[int, float]:
    """Ratings by number, without duplicates and without those outside 0-100."""
    found = find_object(reply.text, "ratings") if reply and reply.stop == "end" else None
    listed = found["ratings"] if found else None
    ratings: dict[int, float] = {}
    twice: set[int] = set()
    for one in listed if isinstance(listed, list) else []:
        number, rating = _numbers(one, "number", "rating")
        if number is None or rating is None or not 0 <= rating <= 100 or number % 1:
            continue
        if number in ratings:
            twice.add(int(number))
        ratings[int(number)] = rating
    return {number: rating for number, rating in ratings.items() if number not in twice}


def _numbers(one: Any, *names: str) -> list[float | None]:
    return [as_number(one.get(name)) if isinstance(one, Mapping) else None for name in names]


def _failure_of_ratings(reply: Reply) -> str | None:
    """Why a reply rates nothing; None if it rates something."""
    return failure_of_reply(reply) or (None if read_ratings(reply) else "unparsable")


class Boundaries(NamedTuple):
    """Where the three regions of a self-correction begin, or why that is not known.

    Attributes:
        status: `ok`; `no_correction`: the annotator sees none; `not_found`: a quote is not in the
            response; or as for judges: `refused`, `truncated`, `unparsable`, `api_error`.
        off_topic: First character of the off-topic region.
        correction: First character of the correction.
        on_topic: First character of the on-topic region.
    """

    status: str
    off_topic: int | None = None
    correction: int | None = None
    on_topic: int | None = None


def annotate_boundaries(
    pairs: Sequence[tuple[str, str]], rubric: Rubric, llm: CachedLlm
) -> list[Boundaries]:
    """Boundaries of the self-corrections in responses.

    Args:
        pairs: Prompt and response of each.
        rubric: Instructions to the annotator.
        llm: The annotator.
    """
    calls = [rubric.call(prompt=prompt, response=response) for prompt, response in pairs]
    replies = llm.replies(calls, _failure_of_texts)
    return [
        read_boundaries(reply, response)
        for reply, (_, response) in zip(replies, pairs, strict=True)
    ]


def read_boundaries(reply: Reply | None, response: str) -> Boundaries:
    """Where the regions of a response begin, by the quotes in a reply."""
    quotes, status = _three_texts(reply)
    if status != "ok":
        return Boundaries(status)
    if not any(quotes):
        return Boundaries("no_correction")
    spans = locate([quote or "" for quote in quotes], response, opening=True)
    starts = [span.start if span else None for span in spans]
    return Boundaries("ok" if None not in starts else "not_found", *starts)


def _three_texts(reply: Reply | None) -> tuple[list[str | None], str]:
    """Texts of the three regions in a reply, and a status."""
    if reply is None:
        return [], "api_error"
    if reply.stop in FAILURES:
        return [], FAILURES[reply.stop]
    found = find_object(reply.text, "correction")
    texts = [found.get(name) for name in REGIONS] if found else []
    if not texts or not all(text is None or isinstance(text, str) for text in texts):
        return [], "unparsable"
    return texts, "ok"


def _failure_of_texts(reply: Reply) -> str | None:
    status = _three_texts(reply)[1]
    return None if status == "ok" else status


class Example(NamedTuple):
    """A self-correction to fine-tune on; `status` is `ok`, or why there are no texts."""

    status: str
    off_topic: str = ""
    correction: str = ""
    on_topic: str = ""


def write_examples(
    pairs: Sequence[tuple[str, str]], rubric: Rubric, llm: CachedLlm
) -> list[Example]:
    """Write self-corrections, in three consecutive parts.

    Args:
        pairs: Prompt and unrelated subject of each. Equal pairs get the same example.
        rubric: Instructions to the writer.
        llm: The writer; its temperature decides how much examples differ.
    """
    calls = [rubric.call(prompt=prompt, subject=subject) for prompt, subject in pairs]
    return [read_example(reply) for reply in llm.replies(calls, _failure_of_texts)]


def read_example(reply: Reply | None) -> Example:
    """The three parts in a reply; `unparsable` if one is missing, `empty` if one has no text."""
    texts, status = _three_texts(reply)
    if status != "ok":
        return Example(status)
    if None in texts:
        return Example("unparsable")
    parts = [(text or "").strip() for text in texts]
    return Example("ok", *parts) if all(parts) else Example("empty")

"""Finding what a judge quotes in the response that it quotes from.

Judges copy with small liberties: other quotation marks, other blanks, no markup, dots for what they
leave out, a typing error put right. So a quote is looked for as it is, then normalised, then with
its middle left out, then by similarity. Attempts that are located do not overlap.

A quote may be an opening, which says only how an attempt begins. It may be a single word, so it is
looked for where a word begins first, and dots at its end stand for the rest of the attempt.
"""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from rapidfuzz import fuzz
from rapidfuzz.distance import Levenshtein

from esr.text import Normalised, normalise

ELISIONS = ("[...]", "(...)", "...")
LEAST_SIMILAR = 88.0
"""Least similarity, in percent, of a fuzzy match (rapidfuzz's partial ratio)."""
LEAST_EQUAL = 4
"""Least number of equal characters that show where a fuzzy match begins."""
NOT_FOUND = "not_found"
LEAST_LENGTH = 15
"""Shorter quotes (in normalised characters) are similar to too much to be matched by similarity."""


class Found(NamedTuple):
    """Characters of a quote in a response, and how it was found."""

    start: int
    end: int
    how: str


def locate(quotes: Sequence[str], response: str, opening: bool = False) -> list[Found | None]:
    """Find quotes in a response, in order and without overlap.

    Args:
        quotes: Texts of attempts.
        response: The response.
        opening: Whether quotes say only how attempts begin; these then end where the next begins.

    Returns:
        For each quote where it is, or None.
    """
    plain = normalise(response)
    found: list[Found | None] = []
    at = 0
    for quote in quotes:
        one = find(quote, response, plain, at, opening)
        found.append(one)
        at = one.end if one else at
    return _prolonged(found, response) if opening else found


class Place(NamedTuple):
    """Characters of an attempt in a response, and how it was found; none for one that is lost."""

    start: int | None
    end: int | None
    how: str


def locate_attempts(quotes: Sequence[str], response: str, opening: bool = False) -> list[Place]:
    """Find the attempts that a judge quotes, in whatever order and however they overlap.

    - A quote that is in the response as often as it is given has a span for each; one that is
      given more often is `doubled`, and so is a quote of text that other attempts already cover.
    - Of two attempts that overlap, the earlier one ends where the later one begins. An attempt in
      the middle of another one, or at its end, thereby cuts it off; if both begin at the same
      character, the longer one begins where the shorter one ends.
    - An empty quote, and one that is not in the response, is `not_found`.

    Args:
        quotes: Texts of attempts.
        response: The response.
        opening: Whether quotes say only how attempts begin; these then end where the next begins.

    Returns:
        For each quote its place; places that have a span do not overlap.
    """
    plain = normalise(response)
    places = [Place(None, None, NOT_FOUND)] * len(quotes)
    spans: list[tuple[int, int, int]] = []
    at = 0
    for number, quote in enumerate(quotes):
        one = _find_anywhere(quote, response, plain, at, opening)
        if one is not None:
            places[number] = Place(None, None, one.how)
            spans.append((one.start, one.end, number))
            at = max(at, one.end)
    if opening:
        spans = _reach_to_next(spans, response)
    kept = {number: (start, end) for start, end, number in _separate(spans, response)}
    return [
        Place(*kept[number], place.how)
        if number in kept
        else place._replace(how=NOT_FOUND if place.how == NOT_FOUND else "doubled")
        for number, place in enumerate(places)
    ]


def _find_anywhere(
    quote: str, response: str, plain: Normalised, at: int, opening: bool
) -> Found | None:
    """Find a quote after a character, else before it; by similarity only if it is in neither."""
    after = find(quote, response, plain, at, opening)
    if at == 0 or (after is not None and after.how in ("exact", "normalised")):
        return after
    before = find(quote, response, plain, 0, opening)
    if before is not None and before.how in ("exact", "normalised"):
        return before
    return after or before


def _reach_to_next(
    spans: Sequence[tuple[int, int, int]], response: str
) -> list[tuple[int, int, int]]:
    """Let each attempt of which the beginning is known reach to where the next one begins."""
    starts = [*sorted({start for start, _, _ in spans}), len(response)]
    after = dict(pairwise(starts))
    return [(start, after[start], number) for start, _, number in spans]


def _separate(spans: Sequence[tuple[int, int, int]], response: str) -> list[tuple[int, int, int]]:
    """Spans (start, end, number) without overlaps or blank ends; those left empty are dropped."""
    rest = sorted(spans)
    separate: list[tuple[int, int, int]] = []
    while rest:
        start, end, number = _stripped(rest.pop(0), response)
        if start >= end:
            continue
        if rest and rest[0][0] <= start:  # both begin here: this one is the shorter
            later = (end, rest[0][1], rest[0][2])
            rest = sorted([(start, end, number), later, *rest[1:]])
            continue
        if rest and rest[0][0] < end:
            start, end, number = _stripped((start, rest[0][0], number), response)
        separate.append((start, end, number))
    return separate


def _stripped(span: tuple[int, int, int], response: str) -> tuple[int, int, int]:
    """A span without the blanks at its ends."""
    start, end, number = span
    text = response[start:end]
    lead = len(text) - len(text.lstrip())
    return start + lead, start + len(text.rstrip()), number


def find(
    quote: str, response: str, plain: Normalised, at: int, opening: bool = False
) -> Found | None:
    """Find a quote at or after a character of a response.

    Args:
        quote: Text of an attempt, or its opening.
        response: The response.
        plain: The response, normalised.
        at: Character of the response from which the quote is looked for.
        opening: Whether it is an opening.
    """
    wanted = quote.strip()
    if not wanted:
        return None
    search = _find_word if opening else str.find
    start = search(response, wanted, at)
    if start >= 0:
        return Found(start, start + len(wanted), "exact")
    needle, begin = normalise(wanted).text.strip(), bisect_left(plain.starts, at)
    if not needle:
        return None
    start = search(plain.text, needle, begin)
    if start >= 0:
        return _original(plain, start, start + len(needle), "normalised")
    cut = needle.rstrip(" .")
    if opening and cut and needle.endswith("..."):
        start = search(plain.text, cut, begin)
        if start >= 0:
            return _original(plain, start, start + len(cut), "elided")
    return _elided(needle, plain, begin) or _similar(needle, plain, begin)


def _find_word(text: str, wanted: str, at: int) -> int:
    """Where a text first occurs at the beginning of a word, else where it first occurs; or -1."""
    first = start = text.find(wanted, at)
    while start > 0 and text[start - 1].isalnum() and wanted[0].isalnum():
        start = text.find(wanted, start + 1)
    return first if start < 0 else start


def _original(plain: Normalised, start: int, end: int, how: str) -> Found:
    """Characters of the response that normalised ones come from."""
    return Found(*plain.span(start, end), how)


def _elided(needle: str, plain: Normalised, begin: int) -> Found | None:
    """Find a quote by its two ends, where the judge wrote dots for the middle."""
    mark = next((mark for mark in ELISIONS if mark in needle), None)
    if mark is None:
        return None
    head, tail = needle.split(mark, 1)[0].strip(), needle.rsplit(mark, 1)[1].strip()
    start = plain.text.find(head, begin) if len(head) >= LEAST_LENGTH else -1
    if start < 0:
        return None
    if not tail:
        return _original(plain, start, start + len(head), "elided")
    end = plain.text.find(tail, start + len(head))
    return _original(plain, start, end + len(tail), "elided") if end >= 0 else None


def _similar(needle: str, plain: Normalised, begin: int) -> Found | None:
    """Find the stretch most similar to a quote, if it is similar enough."""
    rest = plain.text[begin:]
    if len(needle) < LEAST_LENGTH or not rest:
        return None
    match = fuzz.partial_ratio_alignment(needle, rest, score_cutoff=LEAST_SIMILAR)
    if match is None or match.dest_end <= match.dest_start:
        return None
    # The other way round, a long quote would be found in any short rest that it contains.
    if match.dest_end - match.dest_start < len(needle) * LEAST_SIMILAR / 100:
        return None
    start, end = begin + match.dest_start, begin + match.dest_end
    start = max(begin, start + _shift(needle, plain.text[start:end]))
    while start < end and plain.text[start] == " ":
        start += 1
    while end > start and plain.text[end - 1] == " ":
        end -= 1
    return _original(plain, start, end, "fuzzy") if end > start else None


def _shift(needle: str, match: str) -> int:
    """Characters by which a quote begins after its match does, or before it if negative.

    A match is as long as the quote. So where the judge left a word out or put one in, the match
    begins that much too late or too early.
    """
    for block in Levenshtein.opcodes(needle, match):
        if block.tag == "equal" and block.src_end - block.src_start >= LEAST_EQUAL:
            return block.dest_start - block.src_start
    return 0


def _prolonged(found: Sequence[Found | None], response: str) -> list[Found | None]:
    """Let each attempt reach to where the next one that was found begins, blanks aside."""
    starts = [one.start for one in found if one] + [len(response)]
    after = dict(pairwise(starts))
    return [
        one._replace(end=one.start + len(response[one.start : after[one.start]].rstrip()))
        if one
        else None
        for one in found
    ]

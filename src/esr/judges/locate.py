"""Finding what a judge quotes in the response that it quotes from.

Judges copy with small liberties: other quotation marks, other blanks, no markup, dots for what they
leave out, a typing error put right. So a quote is looked for as it is, then normalised, then with
its middle left out, then by similarity; attempts stand in order and do not overlap.
"""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from rapidfuzz import fuzz

from esr.text import Normalised, normalise

ELISIONS = ("[...]", "(...)", "...")
LEAST_SIMILAR = 88.0
"""Least similarity, in percent, of a fuzzy match (rapidfuzz's partial ratio)."""
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
        one = find(quote, response, plain, at)
        found.append(one)
        at = one.end if one else at
    return _prolonged(found, response) if opening else found


def find(quote: str, response: str, plain: Normalised, at: int) -> Found | None:
    """Find a quote at or after a character of a response."""
    wanted = quote.strip()
    if not wanted:
        return None
    start = response.find(wanted, at)
    if start >= 0:
        return Found(start, start + len(wanted), "exact")
    needle, begin = normalise(wanted).text.strip(), bisect_left(plain.starts, at)
    if not needle:
        return None
    start = plain.text.find(needle, begin)
    if start >= 0:
        return _original(plain, start, start + len(needle), "normalised")
    return _elided(needle, plain, begin) or _similar(needle, plain, begin)


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
    while start < end and plain.text[start] == " ":
        start += 1
    while end > start and plain.text[end - 1] == " ":
        end -= 1
    return _original(plain, start, end, "fuzzy") if end > start else None


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

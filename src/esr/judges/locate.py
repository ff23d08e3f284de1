"""Finding what a judge quotes in the response that it quotes from.

Judges copy with small liberties: other quotation marks, other blanks, no markup, dots for what they
leave out, a typing error put right. So a quote is looked for as it is, then normalised, then with
its middle left out, then by similarity. Attempts that are located do not overlap.

A quote may be an opening, which says only how an attempt begins. It may be a single word, so it is
looked for as whole words first, and dots at its end stand for the rest of the attempt.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeGuard
from unicodedata import combining

from rapidfuzz import fuzz
from rapidfuzz.distance import Levenshtein

from esr.text import Normalised, normalise

ELISIONS = ("[...]", "(...)", "...")
DOTS_AT_END = re.compile(r"[ .]*(\.\.\.|\[\.\.\.\]|\(\.\.\.\))$")
"""Dots in normalised text that stand for the rest of an attempt."""
Matches = Callable[[str, int, int], bool]
"""Whether characters [start, end) of a text are a match."""
LEAST_SIMILAR = 88.0
"""Least similarity, in percent, of a fuzzy match (rapidfuzz's partial ratio)."""
LEAST_EQUAL = 4
"""Least number of equal characters that show where a fuzzy match begins."""
LEAST_ALIKE = 0.5
"""Least similarity (0 to 1) of words before these characters to what the quote has before them."""
SENTENCE_ENDS = (".", "!", "?", ":")
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
    """Find a quote after a character, else before it; by similarity only if it is in neither.

    An opening within a word counts only if no word begins with it.
    """

    def is_sure(found: Found | None) -> TypeGuard[Found]:
        if found is None or found.how not in ("exact", "normalised"):
            return False
        return not (opening and is_within_word(response, found.start))

    after = find(quote, response, plain, at, opening)
    if at == 0 or is_sure(after):
        return after
    before = find(quote, response, plain, 0, opening)
    return before if is_sure(before) else after or before


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
    needle, begin = normalise(wanted).text.strip(), bisect_left(plain.starts, at)
    if opening:
        return _find_opening(wanted, needle, response, plain, at)
    start = response.find(wanted, at)
    if start >= 0:
        return Found(start, start + len(wanted), "exact")
    if not needle:
        return None
    start = plain.text.find(needle, begin)
    if start >= 0:
        return _original(plain, start, start + len(needle), "normalised")
    return _elided(needle, plain, begin) or _similar(needle, plain, begin)


def _find_opening(
    wanted: str, needle: str, response: str, plain: Normalised, at: int
) -> Found | None:
    """Find how an attempt begins: by whole words, else by what begins a word, else anywhere.

    Dots alone say nothing, unless the response begins with them.
    """
    begin = bisect_left(plain.starts, at)
    cut = DOTS_AT_END.sub("", needle)
    if needle and not cut and (at > 0 or not response.lstrip().startswith(wanted)):
        return None
    for kinds in ((_is_word, _begins_word), (_is_anywhere,)):
        exact = _find_as(kinds, response, wanted, at)
        if exact >= 0:
            return Found(exact, exact + len(wanted), "exact")
        for text, how in ((needle, "normalised"), (cut, "elided")):
            start = _find_as(kinds, plain.text, text, begin) if text else -1
            if start >= 0:
                found = _original(plain, start, start + len(text), how)
                same = response.find(wanted, at, found.end + len(wanted))
                is_same = 0 <= same < found.end and found.start < same + len(wanted)
                return Found(same, same + len(wanted), "exact") if is_same else found
    return _elided(needle, plain, begin) or _similar(needle, plain, begin)


def _find_as(kinds: Sequence[Matches], text: str, wanted: str, at: int) -> int:
    """Where a text first occurs in the first of these ways in which it occurs; or -1."""
    starts = (_find_where(matches, text, wanted, at) for matches in kinds)
    return next((start for start in starts if start >= 0), -1)


def _find_where(matches: Matches, text: str, wanted: str, at: int) -> int:
    """Where a text first occurs in such a way; or -1."""
    start = text.find(wanted, at)
    while start >= 0 and not matches(text, start, start + len(wanted)):
        start = text.find(wanted, start + 1)
    return start


def _is_anywhere(text: str, start: int, end: int) -> bool:
    """As scripts without blanks have it, and judges that drop letters."""
    return True


def _begins_word(text: str, start: int, end: int) -> bool:
    return not is_within_word(text, start)


def _is_word(text: str, start: int, end: int) -> bool:
    return not is_within_word(text, start) and not is_within_word(text, end)


def is_within_word(text: str, at: int) -> bool:
    """Whether a character and the one before it are of one word."""
    pair = text[max(at - 1, 0) : at + 1]
    return 0 < at < len(text) and all(one.isalnum() or combining(one) for one in pair)


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
    start = _beginning(needle, plain.text, start, end, begin)
    while start < end and plain.text[start] == " ":
        start += 1
    while end > start and plain.text[end - 1] == " ":
        end -= 1
    return _original(plain, start, end, "fuzzy") if end > start else None


def _beginning(needle: str, text: str, start: int, end: int, least: int) -> int:
    """Where a quote begins that matches text[start:end], not before `least`.

    A match is as long as the quote. So where the judge left a word out or put one in, the match
    begins that much too late or too early. The first words that both have show where.
    """
    for block in Levenshtein.opcodes(needle, text[start:end]):
        if block.tag == "equal" and block.src_end - block.src_start >= LEAST_EQUAL:
            return _before(needle[: block.src_start], text, start + block.dest_start, least)
    return start


def _before(lead: str, text: str, at: int, least: int) -> int:
    """Where the lead of a quote begins in the text before the rest of the quote, which is at `at`.

    It begins with the words that resemble it. Without such words it is the judge's own, or stands
    for other words: the quote then begins with a sentence close by, else with its rest.
    """
    near = range(max(least, at - 2 * len(lead)), at)
    begins = [one for one in near if text[one] != " " and not is_within_word(text, one)]
    alike = {one: Levenshtein.normalized_similarity(lead, text[one:at]) for one in begins}
    best = max(begins, key=lambda one: (alike[one], one), default=at)
    if alike.get(best, 0.0) >= LEAST_ALIKE:
        return best
    rest = begins[-1] if begins and is_within_word(text, at) else at
    sentences = [one for one in (*begins, rest) if _begins_sentence(text, one)]
    return sentences[-1] if sentences else rest


def _begins_sentence(text: str, at: int) -> bool:
    """Whether a text, or a sentence in it, begins at a character."""
    before = text[max(at - 8, 0) : at].rstrip(" \"'([")
    return before.endswith(SENTENCE_ENDS) or not text[:at].strip()


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

"""One normaliser for every comparison of texts, with a map back to characters of the original.

The restart detector, the quote finder and the search for duplicate prompts all compare normalised
texts, so that they agree on which differences do not matter: case, blanks, composed or decomposed
letters, typographic quotes and dashes, markup, invisible characters, and letters of another
alphabet that look like Latin ones.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

_MARKS = {"'": "‘’‚‛ʼʹ′´\u1ffd", '"': "“”„‟«»″", "-": "‐‑‒–—―−", "...": "…"}
PUNCTUATION = {ord(one): plain for plain, marks in _MARKS.items() for one in marks}
MARKUP = frozenset("*_`#")
UNEVEN = re.compile(r"[*_`#]|[^\S \n]|\s\s|\A\s")
"""What normalising an ASCII text changes besides case: markup, and all blanks but single ones."""
INVISIBLE = frozenset(chr(code) for code in (0x34F, 0x115F, 0x1160, 0x3164, 0xFFA0)) | frozenset(
    map(chr, [*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)])
)
"""Characters without width besides those of category Cf: fillers and variation selectors."""
LOOKALIKES: dict[str, str] = dict(
    zip(
        "АВЕКМНОРСТУХЅІЈаеорсухѕіјԁһԛԝ" + "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧακινορυχϲϳ",
        "abekmhopctyxsijaeopcyxsijdhqw" + "abezhikmnoptyxakivopuxcj",
        strict=True,
    )
)
"""Latin letter that a Cyrillic or Greek one looks like."""


class Normalised(NamedTuple):
    """A normalised text; each of its characters comes from `[starts, ends)` of the original.

    A letter and its combining marks have the same `starts` and `ends`, so that a span of the
    original never cuts a character in two. Both are sorted.
    """

    text: str
    starts: Sequence[int]
    ends: Sequence[int]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Characters of the original that the non-empty span [start, end) comes from."""
        return self.starts[start], self.ends[end - 1]


def normalise(text: str, lines: bool = False) -> Normalised:
    """Normalise a text; normalising the result again changes nothing.

    Steps: compatibility decomposition (NFKD) with case folded; plain quotes, apostrophes, dashes
    and dots; no invisible characters; no markup (`*`, `_`, `` ` ``, `#`); one blank for a run of
    them, none at the beginning; Latin letters for look-alikes in words that have a Latin letter.

    Args:
        text: Any text.
        lines: Whether a run of blanks with a line break becomes a line break, not a blank.
    """
    if text.isascii() and not UNEVEN.search(text):  # a fifth of the time
        plain = text.lower() if lines else text.lower().replace("\n", " ")
        return Normalised(plain, range(len(text)), range(1, len(text) + 1))
    characters: list[str] = []
    lookalikes: list[str | None] = []
    starts: list[int] = []
    ends: list[int] = []
    at = 0
    for cluster in _clusters(text):
        start, at = at, at + len(cluster)
        for one, lookalike in _folded(cluster):
            if one.isspace():
                blank = "\n" if lines and one in "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029" else " "
                if not characters:
                    continue
                if characters[-1] in " \n":
                    characters[-1] = max(characters[-1], blank, key=" \n".index)
                    continue
                one = blank
            characters.append(one)
            lookalikes.append(lookalike)
            starts.append(start)
            ends.append(at)
    if any(lookalikes):
        _replace_lookalikes(characters, lookalikes)
    return Normalised("".join(characters), starts, ends)


def fold(text: str) -> str:
    """The normalised text alone, without a blank at its end: equal for equivalent texts."""
    return normalise(text).text.rstrip()


def _clusters(text: str) -> list[str]:
    """A text cut before every character that is neither a combining mark nor invisible."""
    if text.isascii():
        return list(text)
    clusters: list[str] = []
    for character in text:
        if clusters and _joins(character):
            clusters[-1] += character
        else:
            clusters.append(character)
    return clusters


@lru_cache(maxsize=4096)
def _joins(character: str) -> bool:
    first = unicodedata.normalize("NFKD", character)[0]
    return _invisible(character) or unicodedata.combining(first) != 0


def _invisible(character: str) -> bool:
    return unicodedata.category(character) == "Cf" or character in INVISIBLE


@lru_cache(maxsize=16384)
def _folded(cluster: str) -> tuple[tuple[str, str | None], ...]:
    """Characters that a cluster becomes, each with the Latin letter that it looks like."""
    visible = "".join(one for one in cluster if not _invisible(one)).translate(PUNCTUATION)
    plain = unicodedata.normalize("NFKD", visible)
    while True:
        folded = unicodedata.normalize("NFKD", plain.casefold())
        folded = "".join(one for one in folded if not _invisible(one)).translate(PUNCTUATION)
        if folded == plain:
            break
        plain = folded
    first = unicodedata.normalize("NFKD", visible)[:1]  # capitals look like other letters
    kept = [one for one in plain if one not in MARKUP]
    return tuple(
        (one, LOOKALIKES.get(first if i == 0 and first in LOOKALIKES else one))
        for i, one in enumerate(kept)
    )


def _replace_lookalikes(characters: list[str], lookalikes: list[str | None]) -> None:
    """Write Latin letters for look-alikes, in the words that have a Latin letter."""
    start = 0
    for end in range(len(characters) + 1):
        if end < len(characters) and _in_word(characters[end]):
            continue
        if any("a" <= one <= "z" for one in characters[start:end]):
            for i in range(start, end):
                characters[i] = lookalikes[i] or characters[i]
        start = end + 1


def _in_word(character: str) -> bool:
    return character.isalpha() or character == "'" or unicodedata.combining(character) != 0


def common_prefix_length(first: str, second: str) -> int:
    """Length of the longest common prefix, in characters."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(first), len(second)))

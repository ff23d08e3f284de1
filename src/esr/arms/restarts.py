"""The judge-free restart detector: does a response contain a restart phrase?

It runs beside every judge. It is deliberately crude and open to inspection: regular expressions
from a file, one a line, matched without case anywhere in the response.
"""

import re
from pathlib import Path

from esr.errors import EsrError


def read_phrases(path: Path) -> re.Pattern[str]:
    """Compile a phrase file: one regular expression a line, `#` begins a comment.

    Raises:
        EsrError: a line is not a regular expression, or there is none.
    """
    lines = [line.split("#")[0].strip() for line in path.read_text().splitlines()]
    phrases = [line for line in lines if line]
    for phrase in phrases:
        try:
            re.compile(phrase)
        except re.error as error:
            raise EsrError(f"{path}: {phrase!r} is not a regular expression: {error}") from None
    if not phrases:
        raise EsrError(f"{path}: no phrases")
    return re.compile("|".join(f"(?:{phrase})" for phrase in phrases), re.IGNORECASE)


def find_restarts(phrases: re.Pattern[str], response: str) -> list[tuple[int, int]]:
    """Character spans of the restart phrases in a response."""
    return [match.span() for match in phrases.finditer(response)]

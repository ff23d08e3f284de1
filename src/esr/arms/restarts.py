"""The judge-free restart detector: does a response contain a restart phrase?

It runs beside every judge and is open to inspection: regular expressions from a file, matched in
the normalised response (`esr.text`). Its measured precision and recall are in docs/method.md.
"""

import re
from functools import lru_cache
from pathlib import Path

from esr.errors import EsrError
from esr.text import normalise

PASSED_OVER = "passed_over"
"""Group of the expressions whose matches are no restart, such as quoted speech."""
BEGIN = "BEGIN"
"""Name of the expression that says where matches may begin at all."""
DEFINITION = re.compile(r"([A-Z]+) = (.*)")
NAME = re.compile(r"\{([A-Z]+)\}")
LEADING = re.compile(r"\{([A-Z]+)\}(?![?*+])")
ATOMS = re.compile(r"\\\D|\[\^?\]?(?:\\.|[^\]\\])*\]")
"""Escapes and sets of characters: what may hold a bracket that is none."""


def read_phrases(path: Path) -> re.Pattern[str]:
    """Compile a phrase file: one regular expression a line, `#` begins a comment.

    A line `NAME = expression` names an expression. `{NAME}` stands for it in the lines below; one
    that a phrase begins with holds for all alternatives of the phrase. A line `! expression` is
    passed over: what lies in a match of it is no restart. If `BEGIN` is named, all lines match only
    where it does: where it does not, no line is tried, which is three times as fast. `^` is the
    beginning of a line of the response. Responses are matched in their normalised form: lower case,
    plain quotes, apostrophes and dashes, single blanks.

    Raises:
        EsrError: a line is not a regular expression, uses an unknown name or names one twice; there
            are no phrases.
    """
    try:
        return _phrases_of(path.read_text(encoding="utf-8"))
    except EsrError as error:
        raise EsrError(f"{path}: {error}") from None


@lru_cache(maxsize=4)  # It takes a quarter of a second, and `re` forgets it for 512 others.
def _phrases_of(text: str) -> re.Pattern[str]:
    """Compile the text of a phrase file; see `read_phrases`."""
    names: dict[str, str] = {}
    phrases: dict[str, list[str]] = {}  # by the name that they begin with
    passed_over: list[str] = []
    lines: list[tuple[str, str]] = []  # expressions, and where they stand
    for line in text.splitlines():
        phrase = line.split("#")[0].strip()
        if not phrase:
            continue
        named, passes = DEFINITION.fullmatch(phrase), phrase.startswith("!")
        expression = named[2] if named else phrase.removeprefix("!").strip()
        where = repr(phrase)
        filled = _filled(expression, names, where)
        lines.append((filled, where))
        if named or not _is_whole(expression):
            _check(filled, where)
        if named and named[1] in names:
            raise EsrError(f"{where}: {named[1]} is named twice; join both expressions by `|`")
        if named:
            names[named[1]] = filled
        elif passes:
            passed_over.append(filled)
        else:
            prefix = LEADING.match(expression)
            rest = expression.removeprefix(prefix[0] if prefix else "")
            phrases.setdefault(names[prefix[1]] if prefix else "", []).append(
                _filled(rest, names, where)
            )
    if not phrases:
        raise EsrError("no phrases")
    # Alternatives are tried in order, so a passage that is passed over is consumed first. Where
    # phrases begin is matched once for all that begin the same way, which is five times as fast.
    parts = [f"(?P<{PASSED_OVER}>{'|'.join(passed_over)})"] if passed_over else []
    parts += [f"{prefix}(?:{'|'.join(rests)})" for prefix, rests in phrases.items()]
    place = f"(?={names[BEGIN]})" if BEGIN in names else ""
    return _compiled(f"{place}(?:{'|'.join(parts)})", lines)


def find_restarts(phrases: re.Pattern[str], response: str) -> list[tuple[int, int]]:
    """Character spans of the restart phrases in a response, in order and without overlap."""
    plain = normalise(response, lines=True)
    return [
        plain.span(*match.span())
        for match in phrases.finditer(plain.text)
        if match.lastgroup != PASSED_OVER and match.end() > match.start()
    ]


def _filled(expression: str, names: dict[str, str], where: str) -> str:
    """An expression with its names filled in.

    Raises:
        EsrError: it uses an unknown name.
    """
    unknown = [name for name in NAME.findall(expression) if name not in names]
    if unknown:
        raise EsrError(f"{where} uses {{{unknown[0]}}}, which no line above it defines")
    return f"(?:{NAME.sub(lambda match: names[match[1]], expression)})"


def _compiled(pattern: str, lines: list[tuple[str, str]]) -> re.Pattern[str]:
    """Compile all expressions at once; one by one takes twice as long and is done to name a line.

    Raises:
        EsrError: a line does not compile.
    """
    try:
        return re.compile(pattern, re.IGNORECASE | re.MULTILINE)
    except re.error:
        for each in lines:
            _check(*each)
        raise


def _is_whole(expression: str) -> bool:
    """Whether an expression opens what it closes and refers to no group.

    It then compiles alone if it does among others; if not, others could make up for what it lacks.
    """
    plain = ATOMS.sub("", expression)
    depth = 0
    for character in plain:
        depth += (character == "(") - (character == ")")
        if depth < 0 or character in "[]\\":
            return False
    return depth == 0 and "(?P" not in plain and "(?(" not in plain


def _check(expression: str, where: str) -> None:
    """Raise an `EsrError` if an expression does not compile."""
    try:
        re.compile(expression)
    except re.error as error:
        raise EsrError(f"{where} is not a regular expression: {error}") from None

"""Pairs of texts that a contrast is read from. Planning checks them without PyTorch or pandas."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from esr.directions.names import Names
from esr.errors import EsrError
from esr.handwritten import read_csv_rows

if TYPE_CHECKING:
    import pandas as pd

PAIRS = ["direction", "positive", "negative"]


def read_pairs(path: Path) -> "pd.DataFrame":
    """Pairs of texts as a table: columns direction, positive, negative; see `check_pairs`."""
    import pandas as pd

    return pd.DataFrame(check_pairs(path), columns=PAIRS, dtype=str)


def check_pairs(path: Path) -> list[dict[str, str]]:
    """Read and check pairs of texts: direction, positive, negative.

    Raises:
        EsrError: wrong columns, no row, an empty cell, a pair of equal texts, a pair that a
            direction has twice or reversed, or names of directions that differ in case or blanks
            alone.
    """
    columns, rows, lines = read_csv_rows(path)
    if columns != PAIRS:
        raise EsrError(f"pairs: {path} has columns {columns}, needs {PAIRS}")
    if not rows:
        raise EsrError(f"pairs: {path} has no pair; add one a line")
    seen: dict[tuple[str, str, str], int] = {}
    names = Names()
    for row, line in zip(rows, lines, strict=True):
        where = f"pairs: {path}, line {line}"
        for problem in _problems(row, seen):
            raise EsrError(f"{where}: {problem}")
        names.add(row["direction"], where)
        seen[row["direction"], row["positive"], row["negative"]] = line
    return rows


def _problems(row: Mapping[str, str], seen: Mapping[tuple[str, str, str], int]) -> Iterator[str]:
    """What is wrong with a pair, given the lines of those before it."""
    name, positive, negative = (row[column] for column in PAIRS)
    if not all(row.values()):
        yield "a cell is empty; fill it in, or remove the pair"
    if positive == negative:
        yield "both texts are the same, so that they contrast nothing; change one"
    if (name, positive, negative) in seen:
        line = seen[name, positive, negative]
        yield f"{name!r} has this pair on line {line}, too, and it would count twice; remove one"
    if (name, negative, positive) in seen:
        line = seen[name, negative, positive]
        yield f"{name!r} has this pair reversed on line {line}, and both cancel; remove one"

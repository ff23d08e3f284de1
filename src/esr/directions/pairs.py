"""Pairs of texts that a contrast is read from. Planning reads them, too, without PyTorch."""

from pathlib import Path

import pandas as pd

from esr.errors import EsrError
from esr.handwritten import read_csv_rows

PAIRS = ["direction", "positive", "negative"]


def read_pairs(path: Path) -> pd.DataFrame:
    """Read pairs of texts: columns direction, positive, negative.

    Raises:
        EsrError: wrong columns, no row, an empty cell, or a pair of equal texts.
    """
    columns, rows, lines = read_csv_rows(path)
    if columns != PAIRS:
        raise EsrError(f"pairs: {path} has columns {columns}, needs {PAIRS}")
    if not rows:
        raise EsrError(f"pairs: {path} has no pair; add one a line")
    for row, line in zip(rows, lines, strict=True):
        if not all(row.values()):
            raise EsrError(f"pairs: {path}, line {line}: a cell is empty")
        if row["positive"] == row["negative"]:
            raise EsrError(f"pairs: {path}, line {line}: both texts are the same")
    return pd.DataFrame(rows, columns=PAIRS, dtype=str)

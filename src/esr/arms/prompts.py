"""Prompt files: CSV with columns prompt_id, category, prompt."""

from functools import lru_cache
from pathlib import Path

import pandas as pd

from esr.errors import EsrError
from esr.handwritten import read_csv_rows
from esr.text import fold

COLUMNS = ["prompt_id", "category", "prompt"]


def read_prompts(path: Path) -> pd.DataFrame:
    """Read and check a prompt file.

    Returns:
        One row a prompt, all columns text, in the order of the file.

    Raises:
        EsrError: the file or a column is missing, the file is malformed (`esr.handwritten`), or a
            prompt or its id is empty or repeated; a prompt also if only its typography differs.
    """
    if not path.is_file():
        raise EsrError(f"prompts: {path} does not exist")
    return _checked(path, path.read_bytes()).copy()


@lru_cache(maxsize=64)  # `estimate` counts the prompts of every arm, rule and judge
def _checked(path: Path, _content: bytes) -> pd.DataFrame:
    """Read and check a file; once for the same content."""
    columns, rows, lines = read_csv_rows(path)
    if columns and columns != COLUMNS:
        raise EsrError(f"prompts: {path} has columns {columns}, needs {COLUMNS}")
    if not rows:
        raise EsrError(f"prompts: {path} has no prompts; add one a line")
    prompts = pd.DataFrame(rows, columns=COLUMNS, dtype=str)
    compared = {"prompt_id": prompts["prompt_id"], "prompt": prompts["prompt"].map(fold)}
    for name, values in compared.items():
        bad = values.eq("") | values.duplicated()
        if bad.any():
            line = lines[int(bad.to_numpy().argmax())]
            raise EsrError(f"prompts: {path}, line {line}: {name} is empty or repeated")
    return prompts

"""Prompt files: CSV with columns prompt_id, category, prompt."""

from pathlib import Path

import pandas as pd

from esr.errors import EsrError

COLUMNS = ["prompt_id", "category", "prompt"]


def read_prompts(path: Path) -> pd.DataFrame:
    """Read and check a prompt file.

    Raises:
        EsrError: file or columns missing, an empty or repeated prompt.
    """
    if not path.is_file():
        raise EsrError(f"prompts: {path} does not exist")
    try:
        prompts = pd.read_csv(path, dtype=str, keep_default_na=False)
    except pd.errors.EmptyDataError:
        raise EsrError(f"prompts: {path} has no prompts") from None
    if list(prompts.columns) != COLUMNS:
        raise EsrError(f"prompts: {path} has columns {list(prompts.columns)}, needs {COLUMNS}")
    for name in ("prompt_id", "prompt"):
        bad = prompts[prompts[name].str.strip().eq("") | prompts[name].duplicated()]
        if len(bad):
            raise EsrError(f"prompts: {path} row {bad.index[0] + 2}: {name} is empty or repeated")
    if prompts.empty:
        raise EsrError(f"prompts: {path} has no prompts")
    return prompts

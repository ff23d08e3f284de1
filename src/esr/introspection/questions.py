"""Yes/no questions: pairs of one about an injected concept and one about anything else."""

from pathlib import Path

import pandas as pd

from esr.errors import EsrError
from esr.handwritten import read_csv_rows

COLUMNS = ["question_id", "on_target", "off_target"]


def read_questions(path: Path) -> pd.DataFrame:
    """Read and check a file of questions, in its order; all columns text.

    Raises:
        EsrError: the file or a column is missing, it holds fewer than two pairs, or a cell is empty
            or repeated.
    """
    if not path.is_file():
        raise EsrError(f"introspection.questions: {path} does not exist")
    columns, rows, lines = read_csv_rows(path)
    if columns != COLUMNS:
        raise EsrError(f"introspection.questions: {path} has columns {columns}, needs {COLUMNS}")
    if len(rows) < 2:
        raise EsrError(
            f"introspection.questions: {path} has {len(rows)} pairs; give two or more, since an "
            "interval over questions needs several"
        )
    table = pd.DataFrame(rows, columns=COLUMNS, dtype=str)
    both = pd.concat([table["on_target"], table["off_target"]])
    for values in (table["question_id"], both):
        bad = values.eq("") | values.duplicated()
        if bad.any():
            line = lines[int(bad.to_numpy().argmax()) % len(lines)]
            raise EsrError(
                f"introspection.questions: {path}, line {line}: {values[bad].iloc[0]!r} is empty "
                "or repeated"
            )
    return table

"""Strict readers of files that people write: prompts, labels, word lists, sheets.

A file is UTF-8, with or without a byte order mark, whatever the locale. Every error names the file,
the line and the remedy. Standard library only, since each job of a run reads such files.
"""

import csv
import io
import re
from pathlib import Path
from typing import NamedTuple

from esr.errors import EsrError

AS_UTF8 = "save it as UTF-8 (in Excel: `CSV UTF-8 (Comma delimited)`)"
WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
"""First bytes of a workbook (.xlsx, .ods; .xls), which are those of any ZIP or OLE file."""
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}


class CsvRows(NamedTuple):
    """Contents of a CSV file.

    Attributes:
        columns: Names in the first line.
        rows: One dictionary a row; every value is text, without spaces at its ends.
        lines: Line on which each row ends, from 1.
    """

    columns: list[str]
    rows: list[dict[str, str]]
    lines: list[int]


def read_handwritten(path: Path) -> str:
    """Text of a file, which may be UTF-16 if it has a byte order mark (Excel's `Unicode Text`).

    Raises:
        EsrError: the file does not exist or is in another encoding.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EsrError(f"{path}: cannot be read: {error.strerror}") from None
    if content.startswith(WORKBOOKS):
        raise EsrError(
            f"{path} is a workbook, not text; open it in a spreadsheet and save the sheet as "
            "`CSV UTF-8 (Comma delimited)`, then name that file"
        )
    encoding = "UTF-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "UTF-8"
    if b"\0" in content and encoding == "UTF-8":
        raise EsrError(f"{path} is UTF-16 without its mark, or no text file; {AS_UTF8}")
    try:
        return content.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise EsrError(
            f"{path}, line {line}: byte 0x{content[error.start]:02x} is not {encoding}; {AS_UTF8}"
        ) from None


def read_csv_rows(path: Path) -> CsvRows:
    """Rows of a CSV file with a header; rows without any value are skipped.

    The header shows whether commas, semicolons (a spreadsheet in a country with a decimal comma) or
    tabs separate the cells.

    Raises:
        EsrError: another encoding, a column twice, an unclosed quote, or a row with more or fewer
            fields than the header.
    """
    text = read_handwritten(path)
    used = max(DELIMITERS, key=re.split(r"[\r\n]", text, maxsplit=1)[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=used)
    columns: list[str] = []
    rows: list[dict[str, str]] = []
    lines: list[int] = []
    try:
        for fields in reader:
            values = [field.strip() for field in fields]
            if not any(values):
                continue
            if not columns:
                columns = values
                _check_header(path, columns)
                continue
            if len(values) != len(columns):
                remedy = f"put a cell that contains a {DELIMITERS[used]} in quotes: "
                if len(values) < len(columns):
                    remedy = f"write a {DELIMITERS[used]} for an empty cell, too: "
                raise EsrError(
                    f"{path}, line {reader.line_num}: {len(values)} fields, but the header has "
                    f'{len(columns)}; {remedy}"one{used} two"'
                )
            rows.append(dict(zip(columns, values, strict=True)))
            lines.append(reader.line_num)
    except csv.Error as error:
        raise EsrError(
            f"{path}, line {reader.line_num}: {error}; check the quotes of the rows before it"
        ) from None
    return CsvRows(columns, rows, lines)


def _check_header(path: Path, columns: list[str]) -> None:
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise EsrError(f"{path} has column {twice[0]!r} twice; rename or remove one")

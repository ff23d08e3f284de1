"""Strict readers of files that people write: prompts, labels, word lists, sheets.

A file is UTF-8, with or without a byte order mark, whatever the locale. Every error names the file,
the line and the remedy. Standard library only, since each job of a run reads such files.
"""

import csv
import io
from pathlib import Path
from typing import NamedTuple

from esr.errors import EsrError

AS_UTF8 = "save it as UTF-8 (in Excel: `CSV UTF-8 (Comma delimited)`)"
NAMES = {",": "comma", ";": "semicolon", "\t": "tab"}
OTHER_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "bars"}


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


def read_handwritten(path: Path, utf16: bool = False) -> str:
    """Text of a file.

    Args:
        path: The file.
        utf16: Whether it may be UTF-16 with a byte order mark (Excel's `Unicode Text`).

    Raises:
        EsrError: the file does not exist or is in another encoding.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EsrError(f"{path}: cannot be read: {error.strerror}") from None
    if utf16 and content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in content:
        raise EsrError(f"{path} is UTF-16 or no text file; {AS_UTF8}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise EsrError(
            f"{path}, line {line}: byte 0x{content[error.start]:02x} is not UTF-8; {AS_UTF8}"
        ) from None


def read_csv_rows(path: Path, spreadsheet: bool = False) -> CsvRows:
    """Rows of a comma-separated file with a header; rows without any value are skipped.

    Args:
        path: The file.
        spreadsheet: Whether a person's spreadsheet saved it: the header shows whether commas,
            semicolons or tabs separate the cells, and it may be UTF-16.

    Raises:
        EsrError: another encoding or delimiter, a column twice, an unclosed quote, or a row with
            more or fewer fields than the header.
    """
    text = read_handwritten(path, utf16=spreadsheet)
    header = text.split("\n", 1)[0]
    used = max(",;\t", key=header.count) if spreadsheet else ","
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
                raise EsrError(
                    f"{path}, line {reader.line_num}: {len(values)} fields, but the header has "
                    f"{len(columns)}; put a cell that contains a {NAMES[used]} in quotes: "
                    f'"one{used} two"'
                )
            rows.append(dict(zip(columns, values, strict=True)))
            lines.append(reader.line_num)
    except csv.Error as error:
        raise EsrError(
            f"{path}, line {reader.line_num}: {error}; check the quotes of the rows before it"
        ) from None
    return CsvRows(columns, rows, lines)


def _check_header(path: Path, columns: list[str]) -> None:
    for delimiter, name in OTHER_DELIMITERS.items():
        if len(columns) == 1 and delimiter in columns[0]:
            raise EsrError(f"{path} is separated by {name}; save it with commas")
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise EsrError(f"{path} has column {twice[0]!r} twice; rename or remove one")

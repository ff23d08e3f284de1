"""Files that people write: what is accepted, and what is refused with file, line and remedy."""

import io
import zipfile
from pathlib import Path

import pytest

from esr.errors import EsrError
from esr.handwritten import read_csv_rows, read_handwritten

ROWS = 'id,text\na,Explain a crème brûlée.\nb,"One, two"\n'
EXPECTED = [{"id": "a", "text": "Explain a crème brûlée."}, {"id": "b", "text": "One, two"}]


def written(folder: Path, content: bytes) -> Path:
    path = folder / "file.csv"
    path.write_bytes(content)
    return path


def workbook() -> bytes:
    """What Excel saves as .xlsx begins like this: a ZIP file with its table of contents first."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("[Content_Types].xml", '<?xml version="1.0"?><Types/>')
        archive.writestr("xl/worksheets/sheet1.xml", "<worksheet/>")
    return content.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        ROWS.encode(),
        ROWS.encode("utf-8-sig"),
        ROWS.replace("\n", "\r\n").encode(),
        ROWS.replace("\n", "\r").encode(),
        (ROWS + ",\n\n , \n").encode(),
        ROWS.replace("id,text", "id, text").encode(),
        b"id;text\na;Explain a cr\xc3\xa8me br\xc3\xbbl\xc3\xa9e.\nb;One, two\n",
        ROWS.replace('"One, two"', "One, two")
        .replace("d,", "d\t")
        .encode("utf-16")
        .replace("\na,".encode("utf-16-le"), "\na\t".encode("utf-16-le"))
        .replace("\nb,".encode("utf-16-le"), "\nb\t".encode("utf-16-le")),
    ],
    ids=["plain", "BOM", "CRLF", "CR", "empty rows", "spaces", "semicolons", "UTF-16, tabs"],
)
def test_what_spreadsheets_write_is_read(tmp_path: Path, content: bytes) -> None:
    columns, rows, lines = read_csv_rows(written(tmp_path, content))
    assert (columns, rows) == (["id", "text"], EXPECTED)
    assert lines == [2, 3]


def test_a_cell_may_have_several_lines_and_quotes(tmp_path: Path) -> None:
    path = written(tmp_path, b'id,text\na,"one\ntwo ""three"""\nb,x\n')
    found = read_csv_rows(path)
    assert found.rows[0]["text"] == 'one\ntwo "three"'
    assert found.lines == [3, 4]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (ROWS.encode("cp1252"), r"line 2: byte 0xe8 is not UTF-8; save it as UTF-8"),
        (ROWS.encode("utf-16-le"), r"is UTF-16 without its mark, or no text file; save it as"),
        (ROWS.encode("utf-16")[:-1], r"line \d+: byte 0x\w+ is not UTF-16; save it as UTF-8"),
        (b"id,text\na,x\0\n", r"is UTF-16 without its mark, or no text file"),
        (b"id,text\na,one, two\n", r"line 2: 3 fields, but the header has 2; put a cell"),
        (
            b"id,text\na\n",
            r"line 2: 1 fields, but the header has 2; write a comma for an empty cell",
        ),
        (workbook(), r"is a workbook, not text; .* save the sheet as `CSV UTF-8"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", r"is a workbook, not text"),
        (b"id;text\na;one; two\n", r"line 2: 3 fields, but the header has 2; .* a semicolon"),
        (b"id,id\na,x\n", r"has column 'id' twice"),
        (b'id,text\na,"one\nb,two\n', r"line 3: unexpected end of data; check the quotes"),
    ],
)
def test_what_would_be_misread_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(EsrError, match=message) as caught:
        read_csv_rows(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(EsrError, match=r"nowhere\.csv: cannot be read: No such file"):
        read_handwritten(tmp_path / "nowhere.csv")

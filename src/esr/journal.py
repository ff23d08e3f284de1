"""Append-only record of what was paid for, so that a killed job repeats and loses nothing.

One JSON object a line, `{"key": ..., ...}`, flushed to disk before it is used. A line cut by a kill
is dropped on opening, one cut by a full disk at once; everything before it stands.
"""

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from esr.errors import EsrError, full_disk, is_full

log = logging.getLogger(__name__)


def content_key(content: Mapping[str, Any]) -> str:
    """Hash of the content that determines a result: 32 hex digits of SHA-256 of canonical JSON."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Journal:
    """Records by key, in a file that only grows. One writer at a time."""

    def __init__(self, path: Path) -> None:
        """Open a journal, creating it if need be, and read what stands in it."""
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._records, sound = _read(path)
        # Unbuffered: what a full disk refuses must not be written later, behind other records.
        self._file = path.open("ab", buffering=0)
        if self._file.tell() != sound:
            log.warning("%s: dropping a record cut short by an earlier kill", path)
            self._file.truncate(sound)
        if self._records:
            log.info("%s: %d records stand from an earlier run", path, len(self._records))

    def __contains__(self, key: str) -> bool:
        return key in self._records

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[str]:
        """Keys, in the order in which they were written."""
        return iter(list(self._records))

    def __getitem__(self, key: str) -> dict[str, Any]:
        return self._records[key]

    def append(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Write records (each with a `key`) to disk and wait until they are there.

        A key that has a record keeps it: the first stands. Either all records are written or,
        if one cannot be (NaN is not JSON, the disk is full), none.

        Raises:
            ValueError: a number that is not finite.
            EsrError: the disk is full.
        """
        lines: dict[str, str] = {}
        for record in records:
            if record["key"] not in self._records:
                lines.setdefault(record["key"], json.dumps(record, allow_nan=False))
        self._write("".join(f"{line}\n" for line in lines.values()).encode())
        # As read from JSON (no tuples), so that a record is the same before and after a restart.
        self._records |= {key: json.loads(line) for key, line in lines.items()}

    def _write(self, content: bytes) -> None:
        """Write all of it and wait until it is on disk, or leave the file as it was."""
        before, rest = self._file.seek(0, os.SEEK_END), memoryview(content)
        try:
            while rest:  # a disk that fills up takes a part
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(before)
            if is_full(error):
                raise full_disk(error, self.path) from error
            raise

    def close(self) -> None:
        """Close the file; the records stay readable."""
        self._file.close()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _read(path: Path) -> tuple[dict[str, dict[str, Any]], int]:
    """Read the records and the number of bytes up to the end of the last whole line.

    Raises:
        EsrError: a whole line is damaged. Nothing is dropped then: it may have been paid for.
    """
    records: dict[str, dict[str, Any]] = {}
    sound = 0
    # Only "\n" ends a line: `splitlines` would take a stray "\r" for the end of a cut one.
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            records.setdefault(record["key"], record)
        except (ValueError, TypeError, KeyError):
            raise EsrError(
                f"{path}, line {number}: not a journal record ({line[:40]!r}...); "
                "mend or remove that line by hand, the rest is untouched"
            ) from None
        sound += len(line) + 1
    return records, sound

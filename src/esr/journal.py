"""Append-only journals: a killed job repeats nothing that it finished, and loses nothing.

A journal holds one JSON object a line, `{"key": ..., ...}`. A record is on disk before it is used.
Reading never changes a file: a last line that a kill cut short is left out. Writing takes a lock,
which the operating system releases when the process ends, however it ends. The writer drops the cut
line before it appends.
"""

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import socket
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
    """Records by key, in a file that only grows. It has one writer at a time.

    Nothing in it can be lost to another reader or writer: the lock is held from opening to closing.
    """

    def __init__(self, path: Path) -> None:
        """Open a journal for writing, creating it if needed, and read its records.

        Raises:
            EsrError: another process is writing it, or a line is damaged.
        """
        self.path = path
        self._records: dict[str, dict[str, Any]] = {}
        self._end = -1
        path.parent.mkdir(parents=True, exist_ok=True)
        self.reopen()
        if self._records:
            log.info("%s: %d records from an earlier run", path, len(self._records))

    def reopen(self) -> None:
        """Open a closed journal again, with the records that another job has written since.

        Raises:
            EsrError: another process is writing it, or a line is damaged.
        """
        self._lock = FileLock(self.path)
        try:
            if not self.path.exists() or self.path.stat().st_size != self._end:
                self._records, self._end = _read(self.path)
            # Unbuffered: bytes that a full disk refuses must not be written later.
            self._file = self.path.open("ab", buffering=0)
        except BaseException:
            self._lock.release()
            raise
        if self._file.tell() != self._end:
            log.warning("%s: dropping a record cut short by an earlier kill", self.path)
            self._file.truncate(self._end)

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
        """Write records (each with a `key`) and wait until they are on disk.

        The first record of a key is kept; later ones are ignored. Either all records are written
        or, if one cannot be (NaN is not JSON, the disk is full), none.

        Raises:
            ValueError: a number is not finite.
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
        before = self._file.seek(0, os.SEEK_END)
        rest = memoryview(content)
        try:
            while rest:  # a disk that fills up takes only a part
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(before)
            if is_full(error):
                raise full_disk(error, self.path) from error
            raise

    def close(self) -> None:
        """Close the file and release the lock; the records remain readable."""
        if not self._file.closed:
            self._end = self._file.seek(0, os.SEEK_END)
        self._file.close()
        self._lock.release()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # A journal that was dropped without being closed must not block the next one.
        with contextlib.suppress(AttributeError):
            self.close()


def read_journal(path: Path) -> dict[str, dict[str, Any]]:
    """Records of a journal by key; none if there is no such file.

    Another process may be writing it. The file is not changed, and needs no lock.

    Raises:
        EsrError: a line is damaged.
    """
    return _read(path)[0]


def _read(path: Path) -> tuple[dict[str, dict[str, Any]], int]:
    """Records, and the number of bytes up to the end of the last complete line."""
    content = path.read_bytes() if path.exists() else b""
    end = content.rfind(b"\n") + 1
    records: dict[str, dict[str, Any]] = {}
    for record in parse_lines(content[:end], path):
        records.setdefault(record["key"], record)
    return records, end


def parse_lines(content: bytes, path: Path, first: int = 1) -> Iterator[dict[str, Any]]:
    r"""Records in complete lines of a journal.

    Args:
        content: The lines, each ending in a line feed.
        path: The journal, for error messages.
        first: Number of the first line in the journal.

    Raises:
        EsrError: a line is damaged. It is not dropped: it may have been paid for.
    """
    # Only "\n" ends a line: `splitlines` would take a stray "\r" for the end of a cut one.
    for number, line in enumerate(content.split(b"\n")[:-1], start=first):
        try:
            record = json.loads(line)
            hash(record["key"])
            fits = isinstance(record, dict)
        except (ValueError, TypeError, KeyError, RecursionError):
            fits = False
        if not fits:
            raise EsrError(
                f"{path}, line {number}: not a journal record ({line[:40]!r}...); "
                "fix or remove that line by hand, all other lines are unchanged"
            ) from None
        yield record


class FileLock:
    """Exclusive right to write a file, by `flock` on `.<name>.lock` beside it.

    The operating system releases it when the process ends. The lock file holds the host and the
    process id of its holder, for the error message, and is removed on release.
    """

    def __init__(self, path: Path) -> None:
        """Take the lock.

        Raises:
            EsrError: another process holds it.
        """
        self.path = path.with_name(f".{path.name}.lock")
        self._owner = os.getpid()
        self._file: int | None = None
        while self._file is None:
            self._file = self._open(path)

    def _open(self, path: Path) -> int | None:
        """Descriptor of the locked file; None if it was removed in between."""
        file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(file, 200).decode(errors="replace").strip() or "another process"
            os.close(file)
            raise EsrError(
                f"{path}: {holder} is writing it. Wait until that process ends, or stop it, and "
                "run again; two writers would pay twice for the same work"
            ) from None
        except OSError as error:
            # Some network file systems have no locks. Then one writer is up to the user.
            log.warning(
                "%s: cannot be locked (%s); make sure that only one job writes it", path, error
            )
        # The holder before us may have removed the file between our opening and locking it.
        if not _is_same(file, self.path):
            os.close(file)
            return None
        os.ftruncate(file, 0)
        os.pwrite(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        return file

    def release(self) -> None:
        """Release the lock; does nothing the second time, or in a forked child."""
        if self._file is not None and self._owner == os.getpid():
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()
            os.close(self._file)
            self._file = None


def _is_same(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False

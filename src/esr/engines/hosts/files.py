"""Files of the engine processes (hosts) of a run; `esr.engines.hosts.linger` describes them.

Whoever adds, finds or removes files holds the lock of the folder. The job that uses a host holds
the lock of the host's file.
"""

import contextlib
import fcntl
import json
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from esr.orphans import Process, find_process

LONGEST = 100
"""Longest path of a socket in bytes; Linux allows 107."""


class Card(NamedTuple):
    """Content of the file of a host.

    Attributes:
        pid: Number of its process.
        started: Start of that process; see `Process`.
        devices: Devices that it uses.
        ready: Whether it has loaded its model, from files that have not changed since its start.
    """

    pid: int
    started: int
    devices: tuple[str, ...]
    ready: bool

    def is_alive(self) -> bool:
        """Whether the process runs."""
        process = find_process(self.pid)
        return process is not None and process.started == self.started


def remove(file: Path) -> None:
    """Remove the files of a host."""
    for path in (socket_of(file), file):
        path.unlink(missing_ok=True)


def socket_of(file: Path) -> Path:
    """The socket that a host accepts jobs at."""
    return file.with_suffix(".sock")


def connect(file: Path) -> socket.socket | None:
    """A connection to a host; None if it is gone."""
    connected = socket.socket(socket.AF_UNIX)
    try:
        connected.connect(str(socket_of(file)))
    except OSError:  # the host is gone, or it is on another machine
        connected.close()
        return None
    return connected


def take_lock(file: Path) -> int | None:
    """The lock of a host's file; None if a job holds it, or the file is gone."""
    try:
        found = os.open(file, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(found)
        return None
    return found


def read_card(file: Path) -> Card | None:
    """Content of the file of a host; None if it has none."""
    try:
        pid, started, devices, ready = json.loads(file.read_bytes())
        return Card(pid, started, tuple(devices), ready)
    except (OSError, ValueError, TypeError):
        return None


def write_card(file: Path, card: Card) -> None:
    """Write the file of a host."""
    # In place: the lock belongs to the file, not to its name.
    with file.open("r+", encoding="utf-8") as opened:
        opened.truncate(opened.write(json.dumps(card)))


def folder_for(snakemake: Process) -> Path | None:
    """Folder of the hosts of a run; None where a socket's path would be too long."""
    if not hasattr(os, "pidfd_open"):
        return None
    name = f"esr-{os.getuid()}-{snakemake.pid}-{snakemake.started}"
    for parent in (tempfile.gettempdir(), "/tmp"):
        folder = Path(parent) / name
        if len(os.fsencode(folder)) + len("/0123456789abcdef-99.sock") <= LONGEST:
            return folder
    return None


@contextmanager
def locked(folder: Path) -> Iterator[list[Path]]:
    """Hold the lock of a private folder, which is made if need be; the files of its hosts.

    Raises:
        OSError: the folder is not private.
    """
    file = _open_locked(folder)
    try:
        yield sorted(folder.glob("*.host"))
    finally:
        os.close(file)


def _open_locked(folder: Path) -> int:
    while True:
        folder.mkdir(mode=0o700, exist_ok=True)
        try:
            file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except FileNotFoundError:  # removed since
            continue
        fcntl.flock(file, fcntl.LOCK_EX)
        seen = os.fstat(file)
        if seen.st_uid != os.getuid() or stat.S_IMODE(seen.st_mode) & 0o077:
            os.close(file)
            raise PermissionError(f"{folder} is not private")
        with contextlib.suppress(FileNotFoundError):
            if folder.stat().st_ino == seen.st_ino:
                return file
        os.close(file)

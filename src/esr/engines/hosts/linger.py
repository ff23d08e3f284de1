"""Engine processes that stay: the next job with the same model need not load it again.

An engine process is a host. A host belongs to the Snakemake process above the job that started it,
and ends with it. A job uses a free host with its own key, or starts one. The key is a digest of all
that a host loads, and of the code. One job uses a host at a time: it holds the lock of the host's
file, and the kernel frees the lock when the job ends, however that ends.

The files are in a private folder in the temporary directory, one folder a Snakemake process:

    <key>-<n>.host   its lock is held by the job that uses the host; the text is a `Card`
    <key>-<n>.sock   the socket that the host accepts jobs at
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import esr
from esr.engines.hosts.files import (
    Card,
    connect,
    folder_for,
    locked,
    read_card,
    remove,
    socket_of,
    take_lock,
    write_card,
)
from esr.orphans import Process, find_process, find_run

log = logging.getLogger(__name__)

Launch = Callable[[socket.socket], "subprocess.Popen[bytes] | None"]
"""Starts a host with a socket: one end of a pair, or a listening one if the host is to stay."""
Stamps = tuple[tuple[str, int, int], ...]
"""Path, time of the last change (ns) and size (bytes) of files."""
CPU = "cpu"
ENDING = 60.0
"""Seconds in which a killed host has to be gone."""


@dataclass(frozen=True)
class Stay:
    """How a host stays: for whom, where, how long, and what it has to have loaded.

    Attributes:
        folder: Holds the files of the hosts.
        snakemake: The host ends with this process.
        seconds: How long a host waits for its next job.
        key: Digest of what the host loads.
        devices: Devices that it uses.
        stamps: Of the files that it loads.
    """

    folder: Path
    snakemake: Process
    seconds: float
    key: str
    devices: tuple[str, ...]
    stamps: Stamps


@dataclass(frozen=True)
class Arrival:
    """The first message of a job to a host that stays: its own file, and how it stays."""

    file: Path
    stay: Stay


class Lease(NamedTuple):
    """A host that this job uses: connected socket, file, the lock of the file, process if ours."""

    socket: socket.socket
    file: Path
    lock: int
    process: "subprocess.Popen[bytes] | None" = None

    def release(self) -> None:
        """Let another job use the host. The socket is closed by its owner."""
        os.close(self.lock)


def stay_of(
    seconds: float, devices: tuple[str, ...], files: Iterable[Path], *parts: object
) -> Stay | None:
    """How a host stays for the jobs of this Snakemake run; None if it cannot.

    It cannot without a Snakemake above this process, without `/proc`, or without a folder for
    sockets that is private.

    Args:
        seconds: How long it waits for its next job; 0 = not at all.
        devices: Devices that it uses.
        files: Files and folders that it loads. Those that do not exist are left out.
        *parts: What else it depends on; their `repr` counts.
    """
    snakemake = find_run(os.getpid()) if seconds > 0 else None
    folder = None if snakemake is None else folder_for(snakemake)
    if snakemake is None or folder is None:
        return None
    stamps = stamps_of([*files, Path(esr.__file__).parent])
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    content = repr((parts, stamps, devices, visible)).encode()
    return Stay(
        folder, snakemake, seconds, hashlib.sha256(content).hexdigest()[:16], devices, stamps
    )


def devices_of(device: str) -> tuple[str, ...]:
    """Devices behind `engine.device`."""
    if device == "auto":
        import torch

        device = "cuda" if torch.cuda.is_available() else CPU
    return (CPU,) if device == CPU else gpu_devices()


def gpu_devices(first: int = 0, number: int | None = None) -> tuple[str, ...]:
    """The GPUs that this job may use, or a `number` of them from the `first` on.

    `*` stands for all of the machine: it is not known here which ones there are.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not visible:
        return ("*",)
    return tuple(visible.split(",")[first : None if number is None else first + number])


def stamps_of(paths: Iterable[Path]) -> Stamps:
    """Stamps of files, and of all files in folders, in the order of their absolute paths."""
    found = []
    for path in (path.absolute() for path in paths):
        inside = path.rglob("*") if path.is_dir() else [path]
        for file in inside:
            if "__pycache__" in file.parts or not file.is_file():
                continue
            seen = file.stat()
            found.append((str(file), seen.st_mtime_ns, seen.st_size))
    return tuple(sorted(found))


def join(stay: Stay) -> Lease | None:
    """A free host with this key, which this job then uses; None if there is none.

    Files of hosts that are gone, or that never became ready, are removed.
    """
    with locked(stay.folder) as present:
        for file in present:
            if not file.name.startswith(stay.key):
                continue
            held = take_lock(file)
            if held is None:
                continue
            card = read_card(file)
            connected = connect(file) if card and card.ready and card.is_alive() else None
            if connected is not None:
                os.utime(file)
                return Lease(connected, file, held)
            _end(file, card)
            os.close(held)
    return None


def start(stay: Stay, launch: Launch) -> Lease:
    """Start a host that stays, after idle hosts on its devices have made room for it.

    Raises:
        OSError: there is no room for its files, or it ended at once.
    """
    with locked(stay.folder) as present:
        _make_room(present, stay.devices)
        file = next(
            path
            for n in range(len(present) + 1)
            if not (path := stay.folder / f"{stay.key}-{n}.host").exists()
        )
        held = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(held, fcntl.LOCK_EX)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(socket_of(file)))
            listening.listen()
            process = launch(listening)
            found = None if process is None else find_process(process.pid)
            if found is not None:
                write_card(file, Card(found.pid, found.started, stay.devices, ready=False))
            connected = connect(file)
        if connected is None:
            raise OSError(f"the host at {file} does not accept jobs")
        return Lease(connected, file, held, process)


def evict(devices: tuple[str, ...]) -> None:
    """End idle hosts of this run on some devices, for example before a judge loads there."""
    snakemake = find_run(os.getpid())
    folder = None if snakemake is None else folder_for(snakemake)
    if folder is None or not folder.is_dir():
        return
    with contextlib.suppress(OSError):  # not private, or not empty
        with locked(folder) as present:
            _make_room(present, devices)
        folder.rmdir()


def drop(lease: Lease) -> None:
    """End a host that this job uses, and remove its files."""
    with locked(lease.file.parent):
        _end(lease.file, read_card(lease.file))
    lease.release()


def mark_ready(arrival: Arrival) -> bool:
    """Write the card of this process, a host that has loaded its model; False: do not stay.

    It does not stay if a file has changed while it was loaded.
    """
    stay = arrival.stay
    here = find_process(os.getpid())
    paths = [Path(path) for path, _, _ in stay.stamps]
    if here is None or stamps_of(paths) != stay.stamps:
        return False
    write_card(arrival.file, Card(here.pid, here.started, stay.devices, ready=True))
    return True


def retire(arrival: Arrival) -> bool:
    """Remove the files of this process, an idle host; False if a job has just taken it."""
    with locked(arrival.stay.folder):
        held = take_lock(arrival.file)
        if held is None:
            return False
        remove(arrival.file)
        os.close(held)
    with contextlib.suppress(OSError):  # other hosts have their files there
        arrival.stay.folder.rmdir()
    return True


def wait_for_end(process: Process) -> None:
    """Wait until a process has ended."""
    with contextlib.suppress(ProcessLookupError):
        file = os.pidfd_open(process.pid)
        while find_process(process.pid) == process:
            # Also wakes up from time to time: a process number may be that of a later process.
            select.select([file], [], [], 5.0)
        os.close(file)


def _make_room(present: Iterable[Path], devices: tuple[str, ...]) -> None:
    """End idle hosts on these devices; on the CPU the oldest ones, until a core is left."""
    idle, n_hosts = [], 0
    for file in present:
        card = read_card(file)
        if card is None or not _overlap(card.devices, devices):
            continue
        n_hosts += 1
        held = take_lock(file)
        if held is not None:
            idle.append((file.stat().st_mtime, file, card, held))
    idle.sort()
    cores = len(os.sched_getaffinity(0)) if CPU in devices else 1
    n_ended = max(min(len(idle), n_hosts + 1 - cores), 0) if CPU in devices else len(idle)
    for number, (_, file, card, held) in enumerate(idle):
        if number < n_ended:
            log.info("an idle engine (process %d) ends, to make room", card.pid)
            _end(file, card)
        os.close(held)


def _overlap(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    if CPU in one or CPU in other:
        return one == other
    return "*" in one or "*" in other or bool(set(one) & set(other))


def _end(file: Path, card: Card | None) -> None:
    """Kill an idle host and its workers, wait until it has left its devices, remove its files."""
    if card is not None and card.is_alive():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            # A host that stays leads a process group of its own.
            ours = os.getpgid(card.pid) == card.pid
            (os.killpg if ours else os.kill)(card.pid, signal.SIGKILL)
        until = time.monotonic() + ENDING
        while card.is_alive() and time.monotonic() < until:
            time.sleep(0.02)
    remove(file)

"""The loop of an engine process (a host): it receives jobs, computes them, and sends the replies.

A host that has one end of a socket pair serves one client, and ends with it. A host that has a
listening socket stays (`esr.engines.hosts.linger`): it serves one client after another. It ends
with its Snakemake, after it was idle too long, and when a client leaves before its jobs are done.
"""

import logging
import os
import shutil
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

from esr.engines.hosts.linger import Arrival, mark_ready, retire, wait_for_end
from esr.engines.hosts.messages import Failed, Ready, StatusRequest
from esr.errors import EsrError
from esr.orphans import Process

log = logging.getLogger("esr.host")


class Host(Protocol):
    """An engine and its unfinished jobs."""

    @property
    def jobs(self) -> Mapping[str, Any]:
        """Unfinished jobs by id."""
        ...

    def facts(self) -> dict[str, Any]:
        """Return counters and the device."""
        ...

    def submit(self, job: Any) -> None:
        """Add a job."""
        ...

    def step(self) -> Sequence[Any]:
        """Compute a step, and return the replies to the jobs that it finished."""
        ...

    def rest(self) -> None:
        """Forget what the jobs of a client have left behind."""
        ...


class StartError(Exception):
    """The engine did not start."""


class Door:
    """Where clients come in: one end of a socket pair, or a listening socket."""

    def __init__(self, file: int) -> None:
        self._socket = socket.socket(fileno=file)
        self.stays = bool(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
        self._arrival: Arrival | None = None
        self._is_ready = False

    def clients(self) -> Iterator[Connection]:
        """Connections of clients, one at a time."""
        if not self.stays:
            yield Connection(self._socket.detach())
            return
        while (connection := self._next()) is not None:
            yield connection
            if self._arrival is not None and not self._is_ready:
                retire(self._arrival)  # if its client still holds it, the next one removes it
                return

    def mark_ready(self) -> None:
        """The host has loaded its model: further clients may come."""
        if self._arrival is not None and not self._is_ready:
            self._is_ready = mark_ready(self._arrival)

    def _next(self) -> Connection | None:
        while True:
            self._socket.settimeout(None if self._arrival is None else self._arrival.stay.seconds)
            try:
                client, _ = self._socket.accept()
            except TimeoutError:
                if self._arrival is None or retire(self._arrival):
                    return None
                continue
            client.setblocking(True)
            connection = Connection(client.detach())
            arrival: Arrival = receive(connection)
            if self._arrival is None:
                self._arrival = arrival
                snakemake, folder = arrival.stay.snakemake, arrival.stay.folder
                threading.Thread(target=_end_with, args=(snakemake, folder), daemon=True).start()
            return connection


def _end_with(process: Process, folder: Path) -> None:
    """End this host with a process, and remove the folder of the hosts."""
    wait_for_end(process)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def describe(error: Exception) -> str:
    """The message of an error, and its type unless that is of no interest."""
    known = isinstance(error, StartError | EsrError)
    return str(error) if known else f"{type(error).__name__}: {error}"


def serve(
    file: int,
    load: Callable[[Any], Host],
    version: str,
    describe: Callable[[Exception], str] = describe,
) -> None:
    """Serve the clients of a socket. An exception is sent to the client; then exit.

    Args:
        file: File descriptor of the socket.
        load: Makes the engine from the first message of a client, its setup.
        version: Version of the library that computes.
        describe: Makes the message to the client from an exception.
    """
    door = Door(file)
    host: Host | None = None
    for connection in door.clients():
        try:
            setup = receive(connection)
            host = load(setup) if host is None else host
            door.mark_ready()
            send(connection, Ready(version, host.facts()))
            _serve_client(connection, host, version)
            host.rest()
        except Exception as error:
            log.exception("the engine failed")
            send(connection, Failed(describe(error)))
            os._exit(1)
    os._exit(0)


class Inbox:
    """Messages of a client. They arrive in a thread, so that new jobs join between two steps."""

    def __init__(self, connection: Connection, host: Host) -> None:
        self._connection, self._host = connection, host
        self._messages: deque[Any] = deque()
        self._arrived = threading.Condition()
        self._has_left = False
        threading.Thread(target=self._receive, daemon=True).start()

    def take(self) -> list[Any] | None:
        """Messages since the last time; None if the client has left. Waits if there is no work."""
        with self._arrived:
            while not self._messages and not self._host.jobs and not self._has_left:
                self._arrived.wait()
            if self._has_left:
                self._leave()
                return None
            found = list(self._messages)
            self._messages.clear()
            return found

    def _receive(self) -> None:
        while True:
            try:
                message = self._connection.recv()
            except (EOFError, OSError):
                with self._arrived:
                    self._has_left = True
                    self._arrived.notify()
                self._leave()
                return
            with self._arrived:
                self._messages.append(message)
                self._arrived.notify()

    def _leave(self) -> None:
        """End at once, even within a step, if the client has left work undone."""
        if self._host.jobs or self._messages:
            os._exit(0)


def _serve_client(connection: Connection, host: Host, version: str) -> None:
    """Run the jobs of a client until it disconnects."""
    inbox = Inbox(connection, host)
    while (messages := inbox.take()) is not None:
        for message in messages:
            if isinstance(message, StatusRequest):
                send(connection, Ready(version, host.facts()))
            else:
                host.submit(message)
        replies = host.step() if host.jobs else []
        if replies:
            send(connection, list(replies))
    connection.close()


def receive(connection: Connection) -> Any:
    """Wait for a message. If the client has disconnected, exit."""
    try:
        return connection.recv()
    except (EOFError, OSError):
        os._exit(0)


def send(connection: Connection, message: Any) -> None:
    """Send a message. If the client has disconnected, exit."""
    try:
        connection.send(message)
    except OSError:
        os._exit(0)

"""The connection to a host process: starts it, sends jobs, receives replies, names its failures.

With a `Stay` the host is one that stays: the connection joins a free one, or starts one.
"""

import contextlib
import logging
import socket
import subprocess
from collections import deque
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

from esr.assets.environments import sync_command
from esr.engines.hosts.linger import Arrival, Launch, Lease, Stay, drop, join, start
from esr.engines.hosts.messages import Failed, Ready, StatusRequest
from esr.errors import EsrError

log = logging.getLogger(__name__)

BATCH = "models.<model>.batch_size"
GREETING = 120.0
"""Seconds within which an idle host has to greet a client."""


class HostConnection:
    """A host process and the socket to it. The first job starts it, or finds a free one."""

    library = "the engine"
    """What computes in the host."""

    def __init__(
        self,
        setup: Any,
        launch: Launch,
        *,
        environment: Path,
        version: str,
        keys: Mapping[str, str] | None = None,
        stay: Stay | None = None,
    ) -> None:
        """Prepare a connection. Starts no process.

        Args:
            setup: What the host loads.
            launch: Starts the host.
            environment: Folder of the host's environment.
            version: Version of the library that the host must have.
            keys: Keys of the engine, and what to call them in remedies instead.
            stay: How the host stays for later jobs; None = it ends with this connection.
        """
        self.environment = environment
        self.version = version
        self.facts: dict[str, Any] = {}
        self._loaded = setup
        self._launch = launch
        self._stay = stay
        self._lease: Lease | None = None
        self.keys = dict(keys or {})
        self._host: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._failure: EsrError | None = None
        self._replies: deque[Any] = deque()

    def open(self) -> None:
        """Start the host, or find a free one, before the first job; wait until it is ready.

        Raises:
            EsrError: it did not start.
        """
        if self._connection is None:
            self._open()

    def submit(self, job: Any) -> None:
        """Send a job to the host."""
        self.send(job)

    def next_reply(self, timeout: float | None = None) -> Any | None:
        """Wait for the next reply; None after `timeout` seconds (default: no limit).

        Raises:
            EsrError: the host failed or exited. Raised after the replies that it sent before.
        """
        while not self._replies:
            connection = self._connection
            assert connection is not None
            if timeout is not None and not self._failure and not connection.poll(timeout):
                return None
            received = self._receive()
            assert not isinstance(received, Ready)
            self._replies.extend(received)
        return self._replies.popleft()

    def status(self) -> dict[str, Any]:
        """Return the host's counters: steps, steered and ablated tokens, preemptions, ..."""
        self.send(StatusRequest())
        while True:
            received = self._receive()
            if isinstance(received, Ready):
                self.facts = received.facts
                return self.facts
            self._replies.extend(received)

    def close(self) -> None:
        """End the host, or leave one that stays to the next job."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
            self._failure = None
        if self._lease is not None:
            self._lease.release()
            self._lease = self._host = None
        if self._host is not None:
            self._host.wait(timeout=60)
            self._host = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, message: Any) -> None:
        """Send a message to the host; the first one starts it."""
        self.open()
        assert self._connection is not None
        try:
            self._connection.send(message)
        except OSError:
            # The host is gone, but its last messages may hold finished responses and the reason.
            self._drain()

    def _drain(self) -> None:
        """Receive what the host has sent before it exited. `next_reply` returns it."""
        with contextlib.suppress(EsrError):
            while True:
                received = self._receive()
                if not isinstance(received, Ready):
                    self._replies.extend(received)

    def _receive(self) -> list[Any] | Ready:
        if self._failure is not None:
            raise self._failure
        assert self._connection is not None
        try:
            received: list[Any] | Ready | Failed = self._connection.recv()
        except (EOFError, OSError):
            self._failure = self._exited()
            raise self._failure from None
        if isinstance(received, Failed):
            self._failure = EsrError(self.explain(received.message))
            raise self._failure
        return received

    def explain(self, message: str) -> str:
        """An error of the host, with its remedy if one is known."""
        return message

    def _open(self) -> None:
        ready = self._join() or self._start()
        if ready.version != self.version:
            raise EsrError(
                f"{self.environment} has {self.library} {ready.version}, esr needs {self.version}; "
                f"run `{sync_command(self.environment)}`"
            )
        self.facts = ready.facts
        log.info("%s is ready: %s", self.library, ready.facts)

    def _join(self) -> Ready | None:
        """Greet free hosts that stay, until one of them replies; None if there is none."""
        while self._stay is not None and (lease := self._find(self._stay)) is not None:
            connection = self._use(lease, self._stay)
            with contextlib.suppress(EOFError, OSError):
                connection.send(self._loaded)
                ready = connection.recv() if connection.poll(GREETING) else None
                if isinstance(ready, Ready):
                    log.info("%s runs already with %s", self.library, self._loaded.source)
                    return ready
            connection.close()
            drop(lease)
            self._connection = self._lease = None
        return None

    def _find(self, stay: Stay) -> Lease | None:
        try:
            return join(stay)
        except OSError as error:
            self._do_without(error)
            return None

    def _start(self) -> Ready:
        """Start a host, and wait until it has loaded its model."""
        log.info("starting %s %s for %s", self.library, self.version, self._loaded.source)
        try:
            if self._stay is not None:
                lease = start(self._stay, self._launch)
                self._host = lease.process
                self._use(lease, self._stay)
        except OSError as error:
            self._do_without(error)
        if self._stay is None:
            ours, theirs = socket.socketpair()
            with theirs:
                self._host = self._launch(theirs)
            self._connection = Connection(ours.detach())
        assert self._connection is not None
        with contextlib.suppress(OSError):  # a host that has exited may have sent the reason
            self._connection.send(self._loaded)
        ready = self._receive()
        assert isinstance(ready, Ready)
        return ready

    def _do_without(self, error: OSError) -> None:
        log.warning("the engine cannot stay for later jobs (%s), so it ends with this job", error)
        self._stay = None

    def _use(self, lease: Lease, stay: Stay) -> Connection:
        self._lease = lease
        self._connection = Connection(lease.socket.detach())
        with contextlib.suppress(OSError):  # if it is gone, the next message finds out
            self._connection.send(Arrival(lease.file, stay))
        return self._connection

    def _exited(self) -> EsrError:
        code = None
        if self._host is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self._host.wait(timeout=10)
        return EsrError(
            f"the {self.library} process exited without an error message (exit status {code}); "
            "finished responses are in the journal, so a rerun computes only the rest. The usual "
            f"cause is a kill for memory: request more, or lower {self.keys.get(BATCH, BATCH)}"
        )

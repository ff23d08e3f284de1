"""The connection to a host process: starts it, sends jobs, receives replies, names its failures."""

import contextlib
import logging
import socket
import subprocess
from collections import deque
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

from esr.assets.environments import sync_command
from esr.engines.vllm.messages import (
    Failed,
    Job,
    Ready,
    Reply,
    Setup,
    StatusRequest,
    WriterSetup,
)
from esr.engines.vllm.remedies import explain
from esr.errors import EsrError

log = logging.getLogger(__name__)

Launch = Callable[[socket.socket], "subprocess.Popen[bytes] | None"]
"""Starts a host at the other end of a socket."""


BATCH = "engine.batch_size"


class HostConnection:
    """A host process and the socket to it. The first job starts it."""

    def __init__(
        self,
        setup: Setup | WriterSetup,
        launch: Launch,
        *,
        environment: Path,
        version: str,
        keys: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare a connection. Starts no process.

        Args:
            setup: What the host loads.
            launch: Starts the host.
            environment: Folder of the host's environment.
            version: Version of vLLM that the host must have.
            keys: Keys of the engine, and what to call them in remedies instead.
        """
        self.environment = environment
        self.version = version
        self.facts: dict[str, Any] = {}
        self._loaded = setup
        self._launch = launch
        self._keys = dict(keys or {})
        self._host: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._failure: EsrError | None = None
        self._replies: deque[Reply] = deque()

    def submit(self, job: Job) -> None:
        """Send a job to the host."""
        self._send(job)

    def next_reply(self, timeout: float | None = None) -> Reply | None:
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
        self._send(StatusRequest())
        while True:
            received = self._receive()
            if isinstance(received, Ready):
                self.facts = received.facts
                return self.facts
            self._replies.extend(received)

    def close(self) -> None:
        """End the host."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
            self._failure = None
        if self._host is not None:
            self._host.wait(timeout=60)
            self._host = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, message: Any) -> None:
        if self._connection is None:
            self._open()
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

    def _receive(self) -> list[Reply] | Ready:
        if self._failure is not None:
            raise self._failure
        assert self._connection is not None
        try:
            received: list[Reply] | Ready | Failed = self._connection.recv()
        except (EOFError, OSError):
            self._failure = self._exited()
            raise self._failure from None
        if isinstance(received, Failed):
            self._failure = EsrError(explain(received.message, self.environment, self._keys))
            raise self._failure
        return received

    def _open(self) -> None:
        log.info("starting vLLM %s for %s", self.version, self._loaded.source)
        ours, theirs = socket.socketpair()
        with theirs:
            self._host = self._launch(theirs)
        self._connection = Connection(ours.detach())
        self._connection.send(self._loaded)
        ready = self._receive()
        assert isinstance(ready, Ready)
        if ready.version != self.version:
            raise EsrError(
                f"{self.environment} has vLLM {ready.version}, esr needs {self.version}; "
                f"run `{sync_command(self.environment)}`"
            )
        self.facts = ready.facts
        log.info("vLLM is ready: %s", ready.facts)

    def _exited(self) -> EsrError:
        code = None
        if self._host is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self._host.wait(timeout=10)
        return EsrError(
            f"the vLLM process exited without an error message (exit status {code}); finished "
            "responses are in the journal, so a rerun computes only the rest. The usual cause is a "
            f"kill for memory: request more, or lower {self._keys.get(BATCH, BATCH)}"
        )

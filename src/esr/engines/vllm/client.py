"""The vLLM engine that jobs use: checks requests, sends them to the host, collects the replies."""

import contextlib
import logging
import socket
import subprocess
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from esr.assets.environments import sync_command
from esr.engines.base import (
    EncodeRequest,
    Generation,
    Intervention,
    Pool,
    Request,
    Sampling,
    check_latents,
    new_id,
)
from esr.engines.vllm.messages import (
    Activations,
    Encode,
    Failed,
    Generate,
    Generated,
    Job,
    Ready,
    Reply,
    Setup,
    StatusRequest,
)
from esr.engines.vllm.remedies import explain
from esr.errors import EsrError

log = logging.getLogger(__name__)

Launch = Callable[[socket.socket], "subprocess.Popen[bytes] | None"]
"""Starts a host at the other end of a socket."""


@dataclass(frozen=True)
class Limits:
    """Limits that requests are checked against before they are sent."""

    d_sae: int
    max_model_len: int
    max_positions: int
    n_ablated: int


class VllmEngine:
    """Generates and encodes in one continuous batch. The first job starts the host."""

    # vLLM batches continuously and seeds each request, so neighbours change rounding only.
    independent = True

    def __init__(
        self,
        setup: Setup,
        launch: Launch,
        *,
        d_sae: int,
        max_positions: int,
        stop_tokens: tuple[int, ...],
        identity: dict[str, Any],
        environment: Path,
        version: str,
    ) -> None:
        """Prepare an engine. Starts no process.

        Args:
            setup: What the host loads.
            launch: Starts the host.
            d_sae: Latents of the SAE.
            max_positions: Positions that the model supports.
            stop_tokens: Tokens that end a response.
            identity: Identifies model, SAE and layers in journals.
            environment: Folder of the host's environment.
            version: Version of vLLM that the host must have.
        """
        self.setup = setup
        self.stop_tokens = stop_tokens
        self.environment = environment
        self.version = version
        self.limits = Limits(d_sae, setup.max_model_len, max_positions, setup.n_ablated)
        self.identity = {"engine": f"vllm {version}"} | identity
        self.facts: dict[str, Any] = {}
        self._launch = launch
        self._host: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._failure: EsrError | None = None
        self._ablated: set[int] = set()
        self._replies: deque[Reply] = deque()

    def partition(self, requests: Sequence[Request]) -> list[list[int]]:
        """Put each request in a group of its own: vLLM forms its own batches."""
        return [[i] for i in range(len(requests))]

    def stream(self, sampling: Sampling) -> "VllmStream":
        """Open a stream of requests; see `Engine.stream`."""
        return VllmStream(self, sampling)

    def encode(
        self,
        requests: Sequence[EncodeRequest],
        latents: Sequence[int] | None = None,
        pool: Pool | None = "max",
    ) -> list[Float[np.ndarray, "*positions n"]]:
        """Compute activations during prefill; see `Engine.encode`."""
        for request in requests:
            request.check(self.limits.d_sae)
            self._check_length(len(request.tokens), 1)
        check_latents(latents or (), self.limits.d_sae)
        self._check_ablated([request.intervention for request in requests])
        columns = None if latents is None else tuple(int(latent) for latent in latents)
        jobs = [Encode(new_id(), request, columns, pool) for request in requests]
        for job in jobs:
            self.submit(job)
        pending = {job.id for job in jobs}
        found: dict[str, Activations] = {}
        while len(found) < len(jobs):
            reply = self.next_reply()
            if isinstance(reply, Activations) and reply.id in pending:
                found[reply.id] = reply
        return [self._array(i, found[job.id]) for i, job in enumerate(jobs)]

    def _array(self, index: int, reply: Activations) -> Float[np.ndarray, "*positions n"]:
        acts = np.frombuffer(reply.data, np.float32).reshape(reply.shape)
        if not np.isfinite(acts).all():
            raise EsrError(
                f"encode request {index}: the residual stream leaves the range of "
                f"{self.setup.dtype}; choose a wider dtype or a smaller boost"
            )
        return acts

    def check(self, requests: Sequence[Request], sampling: Sampling) -> None:
        """Raise if a request cannot be run; before any compute.

        Raises:
            EsrError: the latent, boost or length is invalid; names it, and the remedy.
        """
        for request in requests:
            request.intervention.check(self.limits.d_sae)
            self._check_length(len(request.tokens), sampling.max_new_tokens)
        self._check_ablated([request.intervention for request in requests])

    def _check_length(self, n_prompt: int, n_new: int) -> None:
        longest = self.limits.max_model_len
        supported = self.limits.max_positions
        if n_prompt + n_new > longest:
            bound = (
                f"engine.vllm.max_model_len ({longest}); raise it"
                if longest < supported
                else f"the {supported} positions that the model supports; shorten the prompt or "
                "lower generation.max_new_tokens"
            )
            raise EsrError(f"a prompt of {n_prompt} tokens and {n_new} new tokens exceed {bound}")

    def _check_ablated(self, interventions: Sequence[Intervention]) -> None:
        self._ablated |= {latent for one in interventions for latent in one.ablated}
        if len(self._ablated) > self.limits.n_ablated:
            raise EsrError(
                f"the requests ablate {len(self._ablated)} distinct latents, more than "
                f"{self.limits.n_ablated}; raise engine.vllm.max_ablated"
            )

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

    def __enter__(self) -> "VllmEngine":
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
            self._failure = EsrError(explain(received.message, self.environment))
            raise self._failure
        return received

    def _open(self) -> None:
        log.info("starting vLLM %s for %s", self.version, self.setup.source)
        ours, theirs = socket.socketpair()
        with theirs:
            self._host = self._launch(theirs)
        self._connection = Connection(ours.detach())
        self._connection.send(self.setup)
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
            "kill for memory: request more, or lower engine.batch_size"
        )


class VllmStream:
    """Requests sent to the host; see `esr.engines.base.Stream`.

    `submit` only checks a request, `results` sends it. So all requests that are submitted together
    are checked before the first is computed.
    """

    def __init__(self, engine: VllmEngine, sampling: Sampling) -> None:
        self._engine = engine
        self._sampling = sampling
        self._unsent: dict[str, Request] = {}
        self._pending: set[str] = set()

    def submit(self, group: Mapping[str, Request]) -> None:
        """Queue requests; see `Stream.submit`."""
        self._engine.check(list(group.values()), self._sampling)
        self._unsent |= group

    def results(self, timeout: float | None = None) -> Iterator[dict[str, Generation]]:
        """Yield each response when it finishes; see `Stream.results`."""
        while self._unsent or self._pending:
            self._send()
            reply = self._engine.next_reply(timeout)
            if reply is None:
                return
            # Other ids belong to a stream that was abandoned.
            if isinstance(reply, Generated) and reply.id in self._pending:
                self._pending.remove(reply.id)
                yield {reply.id: Generation(reply.tokens, reply.finish_reason)}

    def _send(self) -> None:
        for id_, request in self._unsent.items():
            if id_ not in self._pending:
                self._pending.add(id_)
                stop_tokens = self._engine.stop_tokens
                self._engine.submit(Generate(id_, request, self._sampling, stop_tokens))
        self._unsent = {}

"""The vLLM engine as jobs see it: checks what it is asked for, hands it on, gathers the answers."""

import contextlib
import logging
import socket
import subprocess
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
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
)
from esr.engines.vllm.messages import (
    Activations,
    Encode,
    Failed,
    Generate,
    Generated,
    Order,
    Ready,
    Reply,
    Setup,
    StatusRequest,
)
from esr.errors import EsrError

log = logging.getLogger(__name__)

Launch = Callable[[socket.socket], "subprocess.Popen[bytes] | None"]
"""Starts a host that talks through a socket."""

MORE_CACHE = (
    "raise engine.vllm.memory_fraction (without a GPU, engine.vllm.cpu_cache), lower "
    "engine.vllm.max_model_len or engine.batch_size, or spread the model over more GPUs "
    "(models.<model>.tensor_parallel)"
)
REMEDIES = {
    "out of memory": (
        "spread the model over more GPUs (models.<model>.tensor_parallel), quantise it "
        "(models.<model>.quantization: fp8), or lower engine.vllm.memory_fraction (vLLM's share, "
        "which leaves too little for the SAE) or engine.batch_size"
    ),
    "kv cache": MORE_CACHE,
    "free memory on device": (
        "something else uses this GPU: end it, or lower engine.vllm.memory_fraction"
    ),
    "available memory on node": (
        "lower engine.vllm.cpu_cache (GB), or end what else uses this machine's memory"
    ),
    "cache blocks": MORE_CACHE,
    "soft cap": "set models.<model>.attention_backend to one that has it (FLASHINFER)",
    "quantization method": "choose models.<model>.quantization among those that vLLM has",
    "failed to be inspected": (
        "its parts for images need torchvision, which envs/serve has and envs/serve-cpu has not: "
        "grant the model a GPU in `jobs`"
    ),
    "stale graph": "empty vLLM's cache of compiled graphs",
}
"""What to do about what vLLM says, by a phrase of it (lower case)."""


@dataclass(frozen=True)
class Limits:
    """What requests are checked against before they leave: sizes of the SAE and of the engine."""

    d_sae: int
    max_model_len: int
    made_for: int
    n_ablated: int


class VllmEngine:
    """Steers, ablates and reads in one continuous batch. The host starts with the first order."""

    independent = True

    def __init__(
        self,
        setup: Setup,
        launch: Launch,
        *,
        d_sae: int,
        made_for: int,
        stops: tuple[int, ...],
        identity: dict[str, Any],
        environment: Path,
        version: str,
    ) -> None:
        """Prepare an engine.

        Args:
            setup: What the host is to load.
            launch: Starts the host.
            d_sae: Latents of the SAE.
            made_for: Positions that the model is made for.
            stops: Tokens that end a response.
            identity: What names model, SAE and layers in journals.
            environment: Folder of the environment that the host runs in.
            version: Version of vLLM that the host must have.
        """
        self.setup, self.stops = setup, stops
        self.environment, self.version = environment, version
        self.limits = Limits(d_sae, setup.max_model_len, made_for, setup.n_ablated)
        self.identity = {"engine": f"vllm {version}"} | identity
        self.facts: dict[str, Any] = {}
        self._launch = launch
        self._host: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._failure: EsrError | None = None
        self._ablated: set[int] = set()
        self._ready: deque[Reply] = deque()
        self._number = 0

    def partition(self, requests: Sequence[Request]) -> list[list[int]]:
        """Each request on its own: vLLM computes together what happens to run at the time."""
        return [[i] for i in range(len(requests))]

    def stream(self, sampling: Sampling) -> "Stream":
        """Open a stream of groups; see `Engine.stream`."""
        return Stream(self, sampling)

    def encode(
        self,
        readings: Sequence[EncodeRequest],
        latents: Sequence[int] | None = None,
        pool: Pool | None = "max",
    ) -> list[Float[np.ndarray, "*positions n"]]:
        """Read activations while prompts are computed; see `Engine.encode`."""
        for reading in readings:
            reading.check(self.limits.d_sae)
            self._check_length(len(reading.tokens), 1)
        check_latents(latents or (), self.limits.d_sae)
        self._check_ablated([reading.intervention for reading in readings])
        which = None if latents is None else tuple(int(latent) for latent in latents)
        numbers = [
            self.order(partial(Encode, reading=r, latents=which, pool=pool)) for r in readings
        ]
        found: dict[int, Activations] = {}
        while len(found) < len(readings):
            reply = self.reply()
            assert isinstance(reply, Activations)
            found[reply.number] = reply
        arrays = []
        for index, number in enumerate(numbers):
            reply = found[number]
            acts = np.frombuffer(reply.data, np.float32).reshape(reply.shape)
            if not np.isfinite(acts).all():
                raise EsrError(
                    f"reading {index}: the residual stream leaves the range of "
                    f"{self.setup.dtype}; choose a wider dtype or a smaller boost"
                )
            arrays.append(acts)
        return arrays

    # What a stream needs.

    def check(self, requests: Sequence[Request], sampling: Sampling) -> None:
        """Raise before any compute if a request cannot be run.

        Raises:
            EsrError: naming the request's latent, boost or length, and what to change.
        """
        for request in requests:
            request.intervention.check(self.limits.d_sae)
            self._check_length(len(request.tokens), sampling.max_new_tokens)
        self._check_ablated([request.intervention for request in requests])

    def _check_length(self, prompt: int, new: int) -> None:
        most, made_for = self.limits.max_model_len, self.limits.made_for
        if prompt + new > most:
            bound = (
                f"engine.vllm.max_model_len ({most}); raise it"
                if most < made_for
                else f"the {made_for} positions that the model is made for; shorten the prompt or "
                "lower generation.max_new_tokens"
            )
            raise EsrError(f"a prompt of {prompt} tokens and {new} new ones do not fit {bound}")

    def _check_ablated(self, interventions: Sequence[Intervention]) -> None:
        self._ablated |= {latent for what in interventions for latent in what.ablated}
        if len(self._ablated) > self.limits.n_ablated:
            raise EsrError(
                f"{len(self._ablated)} latents are to be ablated, in all requests together, and "
                f"there is room for {self.limits.n_ablated}; raise engine.vllm.max_ablated"
            )

    def order(self, make: Callable[[int], Order]) -> int:
        """Send an order with a number of its own, which is returned."""
        self._number += 1
        self._send(make(self._number))
        return self._number

    def reply(self, patience: float | None = None) -> Reply | None:
        """Wait for the next answer, so many seconds at most (None = as long as it takes).

        Raises:
            EsrError: the engine failed or is gone; once all that came before is handed over.
        """
        while not self._ready:
            connection = self._connection
            assert connection is not None
            if patience is not None and not self._failure and not connection.poll(patience):
                return None
            received = self._receive()
            assert not isinstance(received, Ready)
            self._ready.extend(received)
        return self._ready.popleft()

    def inquire(self) -> dict[str, Any]:
        """What the host has done so far: steps, steered and ablated tokens, preemptions, ..."""
        self._send(StatusRequest())
        while True:
            received = self._receive()
            if isinstance(received, Ready):
                self.facts = received.facts
                return self.facts
            self._ready.extend(received)

    def close(self) -> None:
        """End the host."""
        if self._connection is not None:
            self._connection.close()
            self._connection = self._failure = None
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
            self._hear_out()

    def _hear_out(self) -> None:
        """Take in what a host that is gone sent last: answers, then why. `reply` hands them on."""
        with contextlib.suppress(EsrError):
            while True:
                received = self._receive()
                if not isinstance(received, Ready):
                    self._ready.extend(received)

    def _receive(self) -> list[Reply] | Ready:
        if self._failure is not None:
            raise self._failure
        assert self._connection is not None
        try:
            received: list[Reply] | Ready | Failed = self._connection.recv()
        except (EOFError, OSError):
            self._failure = self._gone()
            raise self._failure from None
        if isinstance(received, Failed):
            self._failure = EsrError(self._explain(received.message))
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
                f"the environment has vLLM {ready.version}, esr is written for {self.version}; "
                f"sync it anew: {sync_command(self.environment)}"
            )
        self.facts = ready.facts
        log.info("vLLM is ready: %s", ready.facts)

    def _gone(self) -> EsrError:
        code = None
        if self._host is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self._host.wait(timeout=10)
        return EsrError(
            f"the vLLM process is gone (exit status {code}); what was finished is in the journal, "
            "so a rerun goes on from there. A kill for memory leaves no other trace: ask for more, "
            "or lower engine.batch_size"
        )

    def _explain(self, message: str) -> str:
        moved = {"vllm has moved": f"sync its environment anew: {sync_command(self.environment)}"}
        remedies = REMEDIES | moved
        found = [text for phrase, text in remedies.items() if phrase in message.lower()]
        remedy = f"; {found[0]}" if found else ""
        return f"vLLM failed: {message.rstrip('.')}{remedy}. What was finished is in the journal"


class Stream:
    """Groups of requests, handed in one by one, that come back as they are done.

    They are sent when results are asked for, so that of several handed in at once all are checked
    before the first is computed.
    """

    def __init__(self, engine: VllmEngine, sampling: Sampling) -> None:
        self._engine, self._sampling = engine, sampling
        self._unsent: list[tuple[int, int, Request]] = []
        self._group: dict[int, tuple[int, int]] = {}
        self._done: dict[int, list[Generation | None]] = {}

    def submit(self, name: int, group: Sequence[Request]) -> None:
        """Hand a group in under a name."""
        self._engine.check(group, self._sampling)
        self._done[name] = [None] * len(group)
        self._unsent += [(name, place, request) for place, request in enumerate(group)]

    def _send(self) -> None:
        sampling, stops = self._sampling, self._engine.stops
        for name, place, request in self._unsent:
            make = partial(Generate, request=request, sampling=sampling, stops=stops)
            self._group[self._engine.order(make)] = (name, place)
        self._unsent = []

    def results(self, patience: float | None = None) -> Iterator[tuple[int, list[Generation]]]:
        """Groups as they are done; see `esr.engines.base.Stream.results`."""
        while self._done:
            self._send()
            reply = self._engine.reply(patience)
            if reply is None:
                return
            assert isinstance(reply, Generated)
            name, place = self._group.pop(reply.number)
            done = self._done[name]
            done[place] = Generation(reply.tokens, reply.finish_reason)
            finished = [one for one in done if one is not None]
            if len(finished) == len(done):
                del self._done[name]
                yield name, finished

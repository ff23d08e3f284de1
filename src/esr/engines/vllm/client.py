"""The vLLM engine that jobs use: checks requests, sends them to the host, collects the replies."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float

from esr.engines.base import (
    EncodeRequest,
    Generation,
    Intervention,
    Pool,
    Reach,
    Request,
    Sampling,
    check_latents,
    new_id,
)
from esr.engines.hosts.linger import Launch, Stay
from esr.engines.readouts import LogProbs, ReadoutRequest
from esr.engines.vllm.connection import VllmConnection
from esr.engines.vllm.messages import (
    Activations,
    Encode,
    Generate,
    Generated,
    Job,
    Read,
    Readout,
    Setup,
)
from esr.errors import EsrError

R = TypeVar("R", Activations, Readout)


@dataclass(frozen=True)
class Limits:
    """Limits that requests are checked against before they are sent."""

    max_model_len: int
    max_positions: int
    n_ablated: int


class VllmEngine(VllmConnection):
    """Generates and encodes in one continuous batch. The first request starts or joins a host."""

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
        rows: Mapping[str, Collection[int]] | None = None,
        stay: Stay | None = None,
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
            rows: Row numbers of each set of directions that the host loads.
            stay: How the host stays for later jobs; None = it ends with this one.
        """
        super().__init__(setup, launch, environment=environment, version=version, stay=stay)
        self.setup = setup
        self.stop_tokens = stop_tokens
        self.reach = Reach(
            d_sae, rows or {}, setup.steer_layer, setup.ablate_layer, setup.adds, setup.encodes
        )
        self.limits = Limits(setup.max_model_len, max_positions, setup.n_ablated)
        self.identity = {"engine": f"vllm {version}"} | identity
        self._ablated: set[int] = set()

    def partition(self, requests: Sequence[Request | ReadoutRequest]) -> list[list[int]]:
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
            request.check(self.reach)
            self._check_length(len(request.tokens), 1)
        check_latents(latents or (), self.reach.d_sae)
        self._check_ablated([request.intervention for request in requests])
        columns = None if latents is None else tuple(int(latent) for latent in latents)
        jobs = [Encode(new_id(), request, columns, pool) for request in requests]
        return [self._array(i, reply) for i, reply in enumerate(self._run(jobs, Activations))]

    def log_probs(self, requests: Sequence[ReadoutRequest]) -> list[LogProbs | None]:
        """Read log-probabilities after prefill; see `Engine.log_probs`."""
        for request in requests:
            request.check(self.reach)
            self._check_length(len(request.tokens), 1)
        self._check_ablated([request.intervention for request in requests])
        jobs = [Read(new_id(), request) for request in requests]
        found = (reply.log_probs for reply in self._run(jobs, Readout))
        return [None if values is None else np.array(values, np.float32) for values in found]

    def _run(self, jobs: Sequence[Job], kind: type[R]) -> list[R]:
        """Send jobs and wait for the reply to each, in their order."""
        for job in jobs:
            self.submit(job)
        pending = {job.id for job in jobs}
        found: dict[str, R] = {}
        while len(found) < len(jobs):
            reply = self.next_reply()
            if isinstance(reply, kind) and reply.id in pending:
                found[reply.id] = reply
        return [found[job.id] for job in jobs]

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
            request.intervention.check(self.reach)
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
        self._ablated |= {
            operation.target
            for one in interventions
            for operation in one.all_operations()
            if operation.kind != "add"
        }
        if len(self._ablated) > self.limits.n_ablated:
            raise EsrError(
                f"the requests ablate {len(self._ablated)} distinct latents, more than "
                f"{self.limits.n_ablated}; raise engine.vllm.max_ablated"
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

"""The transformers engine in a process that stays (`esr.engines.hosts.linger`), and its messages.

The client forms the batches, so that their members do not depend on what the host computed before.
`esr.engines.host` is the other end.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from esr.engines.base import (
    EncodeRequest,
    Generation,
    GroupStream,
    Pool,
    Reach,
    Request,
    Sampling,
    batches,
    check_latents,
    new_id,
)
from esr.engines.hosts.connection import HostConnection
from esr.engines.hosts.launch import host_launcher
from esr.engines.hosts.linger import Stay
from esr.engines.loading import Load
from esr.engines.readouts import LogProbs, ReadoutRequest

VERSION = version("transformers")


@dataclass(frozen=True)
class Batch:
    """Job: generate responses to requests, by id, as one batch."""

    id: str
    requests: dict[str, Request]
    sampling: Sampling


@dataclass(frozen=True)
class Sequences:
    """Job: encode sequences; see `Engine.encode`."""

    id: str
    requests: tuple[EncodeRequest, ...]
    latents: tuple[int, ...] | None
    pool: Pool | None


@dataclass(frozen=True)
class Readouts:
    """Job: read log-probabilities; see `Engine.log_probs`."""

    id: str
    requests: tuple[ReadoutRequest, ...]


Work = Batch | Sequences | Readouts


@dataclass(frozen=True)
class Done:
    """The result of a job: responses by id, or what the engine's method returned."""

    id: str
    result: Any


class RemoteEngine(HostConnection):
    """The transformers engine in another process. The first request starts or joins it."""

    independent = False
    library = "transformers"

    def __init__(
        self,
        load: Load,
        stay: Stay,
        reach: Reach,
        identity: dict[str, Any],
    ) -> None:
        """Prepare an engine. Starts no process.

        Args:
            load: What the host loads.
            stay: How the host stays for later jobs.
            reach: What requests may use.
            identity: Identifies model, SAE and layers in journals.
        """
        super().__init__(
            load,
            host_launcher([sys.executable, "-m", "esr.engines.host"], {}),
            environment=Path(),
            version=VERSION,
            stay=stay,
        )
        self.batch_size = load.batch_size
        self.reach = reach
        self.identity = {"engine": "transformers"} | identity

    def partition(self, requests: Sequence[Request | ReadoutRequest]) -> list[list[int]]:
        """Form batches; see `esr.engines.base.batches`."""
        return batches(requests, self.batch_size)

    def stream(self, sampling: Sampling) -> GroupStream:
        """Open a stream that computes one group at a time; see `Engine.stream`."""

        def compute(group: Mapping[str, Request]) -> dict[str, Generation]:
            found: dict[str, Generation] = self.run(Batch(new_id(), dict(group), sampling))
            return found

        return GroupStream(self.reach, compute)

    def encode(
        self,
        requests: Sequence[EncodeRequest],
        latents: Sequence[int] | None = None,
        pool: Pool | None = "max",
    ) -> list[Float[np.ndarray, "*positions n"]]:
        """Compute activations; see `Engine.encode`."""
        for request in requests:
            request.check(self.reach)
        check_latents(latents or (), self.reach.d_sae)
        columns = None if latents is None else tuple(int(latent) for latent in latents)
        found: list[Float[np.ndarray, "*positions n"]] = self.run(
            Sequences(new_id(), tuple(requests), columns, pool)
        )
        return found

    def log_probs(self, requests: Sequence[ReadoutRequest]) -> list[LogProbs | None]:
        """Compute log-probabilities; see `Engine.log_probs`."""
        for request in requests:
            request.check(self.reach)
        found: list[LogProbs | None] = self.run(Readouts(new_id(), tuple(requests)))
        return found

    def run(self, job: Work) -> Any:
        """Compute a job.

        Raises:
            EsrError: the host failed, or the engine refuses the job.
        """
        self.send(job)
        while not isinstance(reply := self.next_reply(), Done) or reply.id != job.id:
            pass  # of a job that was given up
        return reply.result

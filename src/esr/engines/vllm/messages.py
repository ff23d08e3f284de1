"""What client and host of the vLLM engine say to each other: plain data, pickled."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esr.engines.base import EncodeRequest, FinishReason, Pool, Request, Sampling

SOURCES = ("interventions.py", "patches.py", "worker.py", "encoding.py")
"""Files of this package whose code ends up in a compiled graph, or fills its buffers."""


@dataclass(frozen=True)
class Setup:
    """What the host is to load, and how.

    `n_requests` are computed together at most; `n_ablated` latents may be ablated at a time, all
    running requests counted together. `options` go to vLLM as they are. In the folder `notes`,
    which the host makes, a worker that cannot start leaves why.
    """

    source: str
    revision: str | None
    adapter: str | None
    dtype: str
    sae_file: str
    steer_layer: int
    ablate_layer: int
    read_layer: int
    n_requests: int
    n_ablated: int
    max_model_len: int
    prefix_caching: bool
    options: dict[str, Any]
    notes: str = ""

    def compute_hash(self) -> str:
        """Part of the key of vLLM's cache of compiled graphs: what the graph depends on.

        Not the SAE, which lives in buffers: a graph serves every SAE of the same layers.
        """
        here = Path(__file__).parent
        code = b"".join((here / name).read_bytes() for name in SOURCES)
        layers = (self.steer_layer, self.ablate_layer, self.read_layer)
        return hashlib.sha256(code + repr(layers).encode()).hexdigest()


@dataclass(frozen=True)
class Generate:
    """Order: one response."""

    number: int
    request: Request
    sampling: Sampling
    stops: tuple[int, ...]
    logprobs: bool = False


@dataclass(frozen=True)
class Encode:
    """Order: the activations of one sequence."""

    number: int
    reading: EncodeRequest
    latents: tuple[int, ...] | None
    pool: Pool | None


@dataclass(frozen=True)
class StatusRequest:
    """Order: what the host knows of itself, right away."""


@dataclass(frozen=True)
class Ready:
    """The host is there: version of vLLM, and what it found out about itself."""

    version: str
    facts: dict[str, Any]


@dataclass(frozen=True)
class Generated:
    """A response; `logprobs` are those of its tokens, if asked for."""

    number: int
    tokens: tuple[int, ...]
    finish_reason: FinishReason
    logprobs: tuple[float, ...] = ()


@dataclass(frozen=True)
class Activations:
    """Activations of a sequence: bytes of float32, and their shape."""

    number: int
    data: bytes
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Failed:
    """The engine is gone, and why."""

    message: str


Order = Generate | Encode
Reply = Generated | Activations

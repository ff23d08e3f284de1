"""Messages between the client and the host of the vLLM engine: plain data, pickled.

`id` identifies a job and its reply, and is the id that vLLM gets.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esr.engines.base import EncodeRequest, FinishReason, Pool, Request, Sampling
from esr.engines.readouts import ReadoutRequest

SOURCES = (
    "interventions.py",
    "latents.py",
    "slots.py",
    "patches.py",
    "worker.py",
    "encoding.py",
)
"""Files of this package whose code ends up in a compiled graph or fills its buffers."""


@dataclass(frozen=True)
class Setup:
    """What the host loads, and how.

    At most `n_requests` run at a time. At most `n_ablated` latents are ablated or clamped at a
    time, counted over all running requests. `add_layers` and `encode_layers` are further layers at
    which directions are added, and at which latents are ablated and clamped. `options` are
    arguments of vLLM, `directions` files of sets of directions. The host creates the folder
    `error_dir`; a worker that fails to start writes its error there.
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
    directions: tuple[str, ...] = ()
    add_layers: tuple[int, ...] = ()
    encode_layers: tuple[int, ...] = ()
    error_dir: str = ""

    @property
    def adds(self) -> tuple[int, ...]:
        """Every layer at which directions are added, `steer_layer` first."""
        return tuple(dict.fromkeys((self.steer_layer, *self.add_layers)))

    @property
    def encodes(self) -> tuple[int, ...]:
        """Every layer at which latents are ablated and clamped, `ablate_layer` first."""
        return tuple(dict.fromkeys((self.ablate_layer, *self.encode_layers)))

    def named_layers(self) -> dict[str, int]:
        """Every layer with a site, by a name that an error can give."""
        named = {n: getattr(self, n) for n in ("steer_layer", "ablate_layer", "read_layer")}
        return named | {f"layer {n}": n for n in (*self.add_layers, *self.encode_layers)}

    def compute_hash(self) -> str:
        """Return our part of the key of vLLM's cache of compiled graphs. vLLM calls this.

        The SAE is not part of it: its weights are in buffers, so one graph serves every SAE.
        """
        here = Path(__file__).parent
        code = b"".join((here / name).read_bytes() for name in SOURCES)
        layers = (self.adds, self.encodes, self.read_layer)
        return hashlib.sha256(code + repr(layers).encode()).hexdigest()


@dataclass(frozen=True)
class WriterSetup:
    """A plain language model to load: no SAE, no steering. `options` are arguments of vLLM."""

    source: str
    revision: str | None
    dtype: str
    n_requests: int
    max_model_len: int
    options: dict[str, Any]


@dataclass(frozen=True)
class Generate:
    """Job: generate one response."""

    id: str
    request: Request
    sampling: Sampling
    stop_tokens: tuple[int, ...]


@dataclass(frozen=True)
class Encode:
    """Job: compute the activations of one sequence."""

    id: str
    request: EncodeRequest
    latents: tuple[int, ...] | None
    pool: Pool | None


@dataclass(frozen=True)
class Read:
    """Job: read log-probabilities of the token after one sequence."""

    id: str
    request: ReadoutRequest


@dataclass(frozen=True)
class Write:
    """Job of a plain model: write text after `tokens`, by a JSON Schema if there is one."""

    id: str
    tokens: tuple[int, ...]
    schema: dict[str, Any] | None
    temperature: float
    max_tokens: int
    seed: int


@dataclass(frozen=True)
class Generated:
    """The response to a `Generate` job."""

    id: str
    tokens: tuple[int, ...]
    finish_reason: FinishReason


@dataclass(frozen=True)
class Activations:
    """The result of an `Encode` job: float32 values as bytes, and their shape."""

    id: str
    data: bytes
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Readout:
    """The result of a `Read` job: nats, in the order of its targets; None if not finite."""

    id: str
    log_probs: tuple[float, ...] | None


@dataclass(frozen=True)
class Written:
    """The text of a `Write` job, why it ended, and how many tokens it has.

    `passes` counts steps of vLLM since the last text that ended, once for each row of the batch.
    Summed over all texts, tokens over passes are the tokens that a step writes of a row. Steps
    that write none, such as those that read a call, are counted, too.
    """

    id: str
    text: str
    finish_reason: str
    tokens: int
    passes: int = 0


SteeredJob = Generate | Encode | Read
Job = SteeredJob | Write
Reply = Generated | Activations | Readout | Written

"""What an engine does: generates text, encodes residual streams, reads log-probabilities.

Every request has an intervention, and every engine applies the same one. In its usual form, at the
output h of decoder layer `steer_layer`, at position t of prompt and response:

    h'[t] = h[t] - strength * sum over k in ablated of a_k(h[t]) * W_dec[k]
                 + boost * W_dec[latent]      if t lies in the window

a is the SAE's encoder on the unchanged h (paper 2.1 and 2.3). Without a window the boost is added
at every position. With a set of directions, its row `latent` takes the place of W_dec[latent].
Latents can be ablated at a layer of their own (`ablate_layer`), always at every position. Further
operations clamp latents, and act at other layers (`esr.engines.intervention`). Encoding returns
a(h) of the residual stream after `read_layer`, interventions included. A readout is the
log-probability of named tokens after the last token of a sequence (`esr.engines.readouts`).
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol
from uuid import uuid4

import numpy as np
from jaxtyping import Float

from esr.engines.intervention import UNCHANGED
from esr.engines.intervention import Intervention as Intervention
from esr.engines.intervention import Operation as Operation
from esr.engines.intervention import Reach as Reach
from esr.engines.intervention import Window as Window
from esr.engines.intervention import check_latents as check_latents
from esr.errors import EsrError

if TYPE_CHECKING:
    from esr.engines.readouts import LogProbs, ReadoutRequest

FinishReason = Literal["stop", "length", "error"]
Pool = Literal["max", "mean", "activity"]


def check_layers(layers: Iterable[tuple[str, int]], n_layers: int) -> None:
    """Raise unless the model has these layers, each with its name in the configuration."""
    for name, layer in layers:
        if not 0 <= layer < n_layers:
            raise EsrError(f"{name} {layer}: the model has layers 0 to {n_layers - 1}")


def check_shape(layers: Mapping[str, int], n_layers: int, d_sae_in: int, d_model: int) -> None:
    """Raise unless the model has these layers and the SAE has the width of its residual stream."""
    check_layers(layers.items(), n_layers)
    if d_sae_in != d_model:
        raise EsrError(
            f"the SAE has input width {d_sae_in}, the residual stream has width {d_model}; "
            "choose an SAE that was trained on this model"
        )


@dataclass(frozen=True)
class Request:
    """One response to generate: prompt tokens (prefill included), seed, intervention."""

    tokens: tuple[int, ...]
    seed: int
    intervention: Intervention = UNCHANGED

    def content(self) -> dict[str, Any]:
        """Return what determines the response, besides model, SAE, layers and sampling.

        Raises:
            EsrError: the boost is not finite, so it has no key; or another value is invalid.
        """
        self.intervention.check_values()
        return vars(self) | {"intervention": self.intervention.content()}


@dataclass(frozen=True)
class EncodeRequest:
    """One sequence to encode: its tokens, the first position to pool, its intervention."""

    tokens: tuple[int, ...]
    start: int = 0
    intervention: Intervention = UNCHANGED

    def check(self, reach: Reach) -> None:
        """Raise if no position is left to encode or the intervention is invalid."""
        if not 0 <= self.start < len(self.tokens):
            raise EsrError(
                f"a sequence of {len(self.tokens)} tokens cannot be encoded from position "
                f"{self.start}; leave out sequences without tokens to encode"
            )
        self.intervention.check(reach)


@dataclass(frozen=True)
class Sampling:
    """Sampling settings, common to all requests of a stream."""

    temperature: float
    max_new_tokens: int
    repetition_penalty: float = 1.0


@dataclass(frozen=True)
class Generation:
    """Sampled tokens (the end-of-turn token included) and the reason why sampling stopped.

    `error` means that the logits were not finite, for example because a boost exceeds the range of
    the dtype. Such a generation has no tokens.
    """

    tokens: tuple[int, ...]
    finish_reason: FinishReason


class Stream(Protocol):
    """A queue of groups of requests. New groups may be submitted while others are computed.

    Each request has an id, which the engine returns with its response. A request keeps one id from
    the journal to the GPU. Two requests may share an id only if they have the same content.
    """

    def submit(self, group: Mapping[str, Request]) -> None:
        """Queue requests, by id, that are computed together.

        Raises:
            EsrError: an intervention is invalid. Raised at once, before the group is computed.
        """
        ...

    def results(self, timeout: float | None = None) -> Iterator[dict[str, Generation]]:
        """Yield responses by id as they finish, until none is left.

        An engine that runs in another process also stops when nothing has finished for `timeout`
        seconds. The others ignore it.
        """
        ...


class Engine(Protocol):
    """Generates and encodes under interventions, as defined at the top of this module."""

    independent: bool
    """Whether a response is independent of the rest of its batch, up to rounding.

    If so, submit each request as soon as it is known. If not, submit the groups of a partition.
    """

    @property
    def identity(self) -> dict[str, Any]:
        """What determines a response besides request and sampling: model, SAE, layers, dtype."""
        ...

    def partition(self, requests: Sequence["Request | ReadoutRequest"]) -> list[list[int]]:
        """Divide requests into groups of indices that are computed together.

        The results of a group depend only on its members. A resumed run that repeats entire groups
        therefore yields the bytes of an uninterrupted one. Where `independent`, each group has one
        member and the bytes are those of the first run to compute it.
        """
        ...

    def stream(self, sampling: Sampling) -> Stream:
        """Open a stream of groups. Use one stream at a time."""
        ...

    def encode(
        self,
        requests: Sequence[EncodeRequest],
        latents: Sequence[int] | None = None,
        pool: Pool | None = "max",
    ) -> list[Float[np.ndarray, "*positions n"]]:
        """Compute SAE activations, one array for each sequence.

        Args:
            requests: Sequences to encode.
            latents: Latents to return; None = all of them.
            pool: How to pool over positions from `start`: the maximum, the mean, or both the share
                of positions at which the latent is active and the mean (2 n). None keeps every
                position.

        Raises:
            EsrError: a latent, start or intervention is invalid (raised before any compute), or
                activations are not finite.
        """
        ...

    def log_probs(self, requests: Sequence["ReadoutRequest"]) -> "list[LogProbs | None]":
        """Compute log-probabilities of the token after each sequence, of its targets alone.

        Returns:
            One array a sequence; None where the logits are not finite.

        Raises:
            EsrError: a sequence, target or intervention is invalid. Raised before any compute.
        """
        ...


class GroupStream:
    """Groups that wait until each is computed as one batch, in the order of submission."""

    def __init__(
        self, reach: Reach, compute: Callable[[Mapping[str, Request]], dict[str, Generation]]
    ) -> None:
        """Open a stream of an engine; see `Stream`.

        Args:
            reach: What interventions may name.
            compute: Generates the responses of a group, by id.
        """
        self._reach, self._compute = reach, compute
        self._waiting: deque[Mapping[str, Request]] = deque()

    def submit(self, group: Mapping[str, Request]) -> None:
        """Queue a group; see `Stream.submit`."""
        for request in group.values():
            request.intervention.check(self._reach)
        self._waiting.append(group)

    def results(self, timeout: float | None = None) -> Iterator[dict[str, Generation]]:
        """Compute group by group. Never times out."""
        while self._waiting:
            yield self._compute(self._waiting.popleft())


def batches(requests: Sequence["Request | ReadoutRequest"], batch_size: int) -> list[list[int]]:
    """Form batches of similar prompt length. The sort is stable: same input, same batches."""
    order = sorted(range(len(requests)), key=lambda i: len(requests[i].tokens))
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def new_id() -> str:
    """Return an id for a request that has no journal key."""
    return uuid4().hex


def generate(
    engine: Engine, groups: Iterable[Sequence[Request]], sampling: Sampling
) -> Iterator[list[Generation]]:
    """Return an iterator over the responses of each group, in the order of the groups.

    Raises:
        EsrError: an intervention is invalid. Raised at once, before the first group is computed.
    """
    stream = engine.stream(sampling)
    submitted = []
    for group in groups:
        requests = {new_id(): request for request in group}
        stream.submit(requests)
        submitted.append(list(requests))
    return _in_order(stream.results(), submitted)


def generate_all(
    engine: Engine, requests: Sequence[Request], sampling: Sampling
) -> list[Generation]:
    """Return the responses to requests, in their order. Groups are those of the engine.

    Raises:
        EsrError: an intervention is invalid. Raised before anything is computed.
    """
    groups = engine.partition(requests)
    done = generate(engine, [[requests[i] for i in group] for group in groups], sampling)
    found: dict[int, Generation] = {}
    for group, generations in zip(groups, done, strict=True):
        found |= zip(group, generations, strict=True)
    return [found[i] for i in range(len(requests))]


def _in_order(
    results: Iterator[dict[str, Generation]], groups: Sequence[Sequence[str]]
) -> Iterator[list[Generation]]:
    found: dict[str, Generation] = {}
    for ids in groups:
        while not found.keys() >= set(ids):
            found |= next(results)
        yield [found.pop(id_) for id_ in ids]

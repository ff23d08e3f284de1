"""What an engine is: something that generates and reads under per-request interventions.

Semantics, the same for every engine, at the output h of decoder layer `steer_layer`, at every
position of a request, prompt included (latents may be ablated at a layer of their own instead):

    h' = h - sum over k in ablated of a_k(h) * W_dec[k]  +  boost * W_dec[latent]

with a = the SAE's encoder on the h that is not yet changed (paper 2.1 and 2.3). Reading returns
a(h) of the true residual stream after decoder layer `read_layer`, interventions included.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import numpy as np
from jaxtyping import Float

from esr.errors import EsrError

FinishReason = Literal["stop", "length", "error"]
Pool = Literal["max", "mean", "share"]


@dataclass(frozen=True)
class Intervention:
    """What is done to the residual stream of one request."""

    latent: int | None = None
    boost: float = 0.0
    ablated: tuple[int, ...] = ()

    def check(self, d_sae: int) -> None:
        """Raise before any compute if a latent is not in the SAE or a boost is not a number."""
        check_latents((*self.ablated, *(() if self.latent is None else (self.latent,))), d_sae)
        self.check_boost()

    def check_boost(self) -> None:
        """Raise if the boost is not a number, or of no latent; whatever the SAE."""
        if not np.isfinite(self.boost):
            raise EsrError(f"boost {self.boost} of latent {self.latent} is not a finite number")
        if self.latent is None and self.boost != 0:
            raise EsrError(f"boost {self.boost} without a latent to boost")


def check_latents(latents: Iterable[int], d_sae: int) -> None:
    """Raise unless all latents are in the SAE; negative ones would count from its end."""
    for latent in latents:
        if not 0 <= latent < d_sae:
            raise EsrError(f"latent {latent} is not in the SAE (latents 0 to {d_sae - 1})")


def check_shape(layers: Mapping[str, int], n_layers: int, d_sae_in: int, d_model: int) -> None:
    """Raise unless a model has the layers named, and a residual stream of the SAE's width."""
    for name, layer in layers.items():
        if not 0 <= layer < n_layers:
            raise EsrError(f"{name} {layer}: the model has layers 0 to {n_layers - 1}")
    if d_sae_in != d_model:
        raise EsrError(f"the SAE reads width {d_sae_in}, the residual stream is {d_model} wide")


@dataclass(frozen=True)
class Request:
    """One response to generate: prompt tokens (prefill included), seed, intervention."""

    tokens: tuple[int, ...]
    seed: int
    intervention: Intervention = Intervention()

    def content(self) -> dict[str, Any]:
        """Return what determines the response, besides model, SAE, layer and sampling.

        Raises:
            EsrError: the boost is not a number, so that no key can be made of it.
        """
        self.intervention.check_boost()
        return asdict(self)


@dataclass(frozen=True)
class EncodeRequest:
    """One sequence to read: tokens, the position from which to pool, intervention."""

    tokens: tuple[int, ...]
    start: int = 0
    intervention: Intervention = Intervention()

    def check(self, d_sae: int) -> None:
        """Raise before any compute if there is nothing to read or the intervention is invalid."""
        if not 0 <= self.start < len(self.tokens):
            raise EsrError(
                f"reading of {len(self.tokens)} tokens cannot start at position {self.start}; "
                "leave out sequences without tokens to read"
            )
        self.intervention.check(d_sae)


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn; the same for all requests of a call."""

    temperature: float
    max_new_tokens: int
    repetition_penalty: float = 1.0


@dataclass(frozen=True)
class Generation:
    """Sampled tokens (end-of-turn included) and why sampling ended.

    `error` means that the logits were not finite (a boost beyond the range of the dtype, say);
    there are no tokens then.
    """

    tokens: tuple[int, ...]
    finish_reason: FinishReason


class Stream(Protocol):
    """Groups of requests, handed in one by one, that come back as they are done."""

    def submit(self, name: int, group: Sequence[Request]) -> None:
        """Hand in a group under a name.

        Raises:
            EsrError: an intervention is invalid; at once, before the group is computed.
        """
        ...

    def results(self, patience: float | None = None) -> Iterator[tuple[int, list[Generation]]]:
        """Yield name and responses of each group as it is done, until none is left.

        More may be handed in meanwhile. An engine that works on its own ends earlier, too, if
        none was done for `patience` seconds.
        """
        ...


class Engine(Protocol):
    """Generates and reads; see the module for what interventions mean."""

    independent: bool
    """Whether a response owes nothing to when and with what others it is handed in, save rounding.

    Then requests are best handed in as soon as they are known; else whole groups of a partition.
    """

    @property
    def identity(self) -> dict[str, Any]:
        """What, besides request and sampling, determines a response: model, SAE, layers, dtype."""
        ...

    def partition(self, requests: Sequence[Request]) -> list[list[int]]:
        """Divide requests into groups (of indices) that are computed together.

        A group's results depend on the group's members alone, so that a resumed run that repeats
        whole groups gives the bytes of an uninterrupted one; where `independent`, a group has one
        member, and bytes are those of the first run to compute it.
        """
        ...

    def stream(self, sampling: Sampling) -> Stream:
        """Open a stream of groups to generate; one at a time."""
        ...

    def encode(
        self,
        readings: Sequence[EncodeRequest],
        latents: Sequence[int] | None = None,
        pool: Pool | None = "max",
    ) -> list[Float[np.ndarray, "*positions n"]]:
        """Read SAE activations, one array a sequence.

        Args:
            readings: What to read.
            latents: Which latents; None = all of them.
            pool: Over positions from `start`: their maximum, their mean, or the share of them at
                which the latent is active; None keeps each position.

        Raises:
            EsrError: a latent, start or intervention is invalid (before anything is computed), or
                activations are not finite.
        """
        ...


def generate(
    engine: Engine, groups: Iterable[Sequence[Request]], sampling: Sampling
) -> Iterator[list[Generation]]:
    """Responses of each group, in the order of the groups.

    Raises:
        EsrError: an intervention is invalid; at once, before the first group is computed.
    """
    stream, waiting = engine.stream(sampling), 0
    for group in groups:
        stream.submit(waiting, group)
        waiting += 1
    return _in_order(stream.results(), waiting)


def _in_order(
    results: Iterator[tuple[int, list[Generation]]], number: int
) -> Iterator[list[Generation]]:
    done: dict[int, list[Generation]] = {}
    for name in range(number):
        while name not in done:
            other, generations = next(results)
            done[other] = generations
        yield done.pop(name)

"""What an engine is: something that generates and reads under per-request interventions.

Semantics, the same for every engine, at the output h of decoder layer `steer_layer`, at every
position of a request, prompt included (latents may be ablated at a layer of their own instead):

    h' = h - sum over k in ablated of a_k(h) * W_dec[k]  +  boost * W_dec[latent]

with a = the SAE's encoder on the h that is not yet changed (paper 2.1 and 2.3). Reading returns
a(h) of the true residual stream after decoder layer `read_layer`, interventions included.
"""

from collections.abc import Iterable, Iterator, Sequence
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
        if not np.isfinite(self.boost):
            raise EsrError(f"boost {self.boost} of latent {self.latent} is not a finite number")
        if self.latent is None and self.boost != 0:
            raise EsrError(f"boost {self.boost} without a latent to boost")


def check_latents(latents: Iterable[int], d_sae: int) -> None:
    """Raise unless all latents are in the SAE; negative ones would count from its end."""
    for latent in latents:
        if not 0 <= latent < d_sae:
            raise EsrError(f"latent {latent} is not in the SAE (latents 0 to {d_sae - 1})")


@dataclass(frozen=True)
class Request:
    """One response to generate: prompt tokens (prefill included), seed, intervention."""

    tokens: tuple[int, ...]
    seed: int
    intervention: Intervention = Intervention()

    def content(self) -> dict[str, Any]:
        """Return what determines the response, besides model, SAE, layer and sampling."""
        return asdict(self)


@dataclass(frozen=True)
class Reading:
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


class Engine(Protocol):
    """Generates and reads; see the module for what interventions mean."""

    @property
    def identity(self) -> dict[str, Any]:
        """What, besides request and sampling, determines a response: model, SAE, layers, dtype."""
        ...

    def partition(self, requests: Sequence[Request]) -> list[list[int]]:
        """Divide requests into groups (of indices) that are computed together.

        A group's results depend on the group's members alone, so that a resumed run that repeats
        whole groups gives the bytes of an uninterrupted one.
        """
        ...

    def generate(
        self, groups: Iterable[Sequence[Request]], sampling: Sampling
    ) -> Iterator[list[Generation]]:
        """Generate group by group, yielding each group's responses as they are done.

        Raises:
            EsrError: an intervention is invalid; at once, before the first group is computed.
        """
        ...

    def encode(
        self,
        readings: Sequence[Reading],
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

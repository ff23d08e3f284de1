"""Work that `benchmarks/engines.py` gives to every engine: prompts, texts and interventions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from esr.engines.base import Intervention, Request
from esr.engines.intervention import Operation, Window

PROMPT, NEW = 32, 64
"""Tokens of a prompt, and of what is generated after it."""
ABLATED, BOOST = 26, 3.0
"""Latents that are ablated together; the least boost (decoder units)."""


@dataclass(frozen=True)
class Work:
    """Input of every engine: prompts of one length to continue, and texts to encode."""

    prompts: list[tuple[int, ...]]
    texts: list[tuple[int, ...]]
    vocabulary: int

    @classmethod
    def draw(cls, batch: int, vocabulary: int) -> "Work":
        """Random tokens, a batch of each."""
        rng = np.random.default_rng(0)
        prompts, texts = (
            [tuple(rng.integers(3, vocabulary, length).tolist()) for _ in range(batch)]
            for length in (PROMPT, PROMPT + NEW)
        )
        return cls(prompts, texts, vocabulary)

    def requests(self, make: Callable[[int], Intervention], times: int = 1) -> list[Request]:
        """The prompts, repeated `times` times, each with its own seed and intervention."""
        prompts = self.prompts * times
        return [Request(prompt, i, make(i)) for i, prompt in enumerate(prompts)]


def idle(_: int) -> Intervention:
    """Nothing is changed."""
    return Intervention()


def steered(i: int) -> Intervention:
    """Of 256 requests each has a direction and a boost of its own."""
    return Intervention(ABLATED + i % 256, BOOST + i % 256 / 256)


def ablated(i: int) -> Intervention:
    """Steered, and the same latents are ablated in all."""
    return replace(steered(i), ablated=tuple(range(ABLATED)))


def windowed(i: int) -> Intervention:
    """Steered in half of the new tokens, from a position of its own."""
    start = PROMPT + i % (NEW // 2)
    return replace(steered(i), window=Window(start, start + NEW // 2))


def layered(layers: Sequence[int]) -> Callable[[int], Intervention]:
    """Steered, with the same direction added at further layers, and latents ablated."""

    def make(i: int) -> Intervention:
        short = ablated(i)
        assert short.latent is not None
        further = [Operation("add", short.latent, short.boost, layer) for layer in layers]
        return replace(short, operations=tuple(further))

    return make

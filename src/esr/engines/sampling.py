"""Sampling of the transformers engine: random numbers, repetition penalty, draw."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def uniforms(seeds: Sequence[int], steps: int) -> Float[Tensor, "batch steps"]:
    """Random numbers of each row, from its own seed. Drawn on the CPU: the same on every device."""
    rows = [
        torch.rand(steps, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        for seed in seeds
    ]
    return torch.stack(rows)


def tokens_seen(tokens: Tensor, mask: Tensor, vocabulary: int) -> Bool[Tensor, "batch vocabulary"]:
    """Tokens that occur in each row, without padding."""
    counts = torch.zeros(len(tokens), vocabulary, dtype=torch.long, device=tokens.device)
    return counts.scatter_add_(1, tokens, mask) > 0


def penalise_repetitions(
    logits: Float[Tensor, "batch vocabulary"], seen: Tensor, penalty: float
) -> Float[Tensor, "batch vocabulary"]:
    """Apply the repetition penalty of Keskar et al. 2019 (arXiv 1909.05858).

    transformers and vLLM define it in the same way.
    """
    if penalty == 1:
        return logits
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def draw(
    logits: Float[Tensor, "batch vocabulary"], uniform: Float[Tensor, " batch"], temperature: float
) -> Int[Tensor, " batch"]:
    """Sample each row by inverting its cumulative distribution at its random number."""
    if temperature == 0:
        return logits.argmax(dim=-1)
    cumulative = (logits.nan_to_num().double() / temperature).softmax(dim=-1).cumsum(dim=-1)
    # Rounding leaves the total slightly off 1. Scale by it, so that every draw falls inside.
    drawn = torch.searchsorted(cumulative, (uniform[:, None] * cumulative[:, -1:]), right=True)
    return drawn[:, 0].clamp(max=logits.shape[-1] - 1)

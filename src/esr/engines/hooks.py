"""Forward hooks on decoder layers: where the layers are, and how changes are added."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from esr.errors import EsrError

Change = tuple[Bool[Tensor, "batch 1 1"], Callable[[Tensor], Tensor]]
"""Rows to change, and the delta to add to them as a function of the unchanged residual stream."""


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """Find the decoder layers of a Llama-, Gemma- or Qwen-like model, text part only.

    Raises:
        EsrError: the model has no decoder layers at a known place.
    """
    inner = getattr(model, "model", None)
    for holder in (getattr(inner, "language_model", None), inner):
        layers = getattr(holder, "layers", None)
        if isinstance(layers, nn.ModuleList):
            return layers
    raise EsrError(
        f"{type(model).__name__}: no decoder layers at model.layers; "
        "supported are Llama, Gemma-2, Gemma-3, Qwen-2 and Qwen-3"
    )


def adding(changes: list[Change]) -> Callable[..., Any]:
    """Make a forward hook that adds the deltas of all changes, each computed on the original h."""
    touched = torch.stack([rows for rows, _ in changes]).any(dim=0)

    def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        h = hidden(output)
        delta = sum(change(h) for _, change in changes)
        # Summed in float32 and rounded once. Adding 0 would turn -0.0 into 0.0, hence `where`.
        changed = torch.where(touched, (h.float() + delta).to(h.dtype), h)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    return hook


def hidden(output: Any) -> Tensor:
    """Residual stream in the output of a decoder layer, which may be a tuple."""
    return output[0] if isinstance(output, tuple) else output

"""Forward hooks on decoder layers: where the layers are, and how changes are added."""

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from esr.engines.base import Window
from esr.errors import EsrError


class Change(NamedTuple):
    """A delta to add to the residual stream.

    Attributes:
        where: Tokens to change in the current forward pass.
        delta: What to add, as a function of the unchanged residual stream; 0 at other tokens.
    """

    where: Callable[[], Bool[Tensor, "rows #positions 1"]]  # noqa: F821
    delta: Callable[[Tensor], Tensor]


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

    def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        h = hidden(output)
        delta = sum(change.delta(h) for change in changes)
        touched = reduce(torch.logical_or, (change.where() for change in changes))
        # Summed in float32 and rounded once. `where`, since adding 0 would turn -0.0 into 0.0.
        changed = torch.where(touched, (h.float() + delta).to(h.dtype), h)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    return hook


class Positions:
    """Position of every token of the current forward pass, as the model gets it."""

    def __init__(self) -> None:
        self.current: Int[Tensor, "batch positions"] | None = None

    def record(self, _module: nn.Module, _inputs: Any, arguments: Mapping[str, Any]) -> None:
        """Forward pre-hook of the model."""
        self.current = arguments["position_ids"]

    def inside(
        self, windows: Sequence[Window | None], device: torch.device
    ) -> Bool[Tensor, "batch positions 1"]:
        """Which tokens lie in the window of their row. A row without one is inside everywhere."""
        assert self.current is not None
        last = torch.iinfo(torch.int64).max
        bounds = torch.tensor(
            [
                (0, last) if w is None else (w.start, last if w.stop is None else w.stop)
                for w in windows
            ],
            device=device,
        )
        start, stop = bounds[:, :1], bounds[:, 1:]
        return ((self.current >= start) & (self.current < stop))[..., None]


def hidden(output: Any) -> Tensor:
    """Residual stream in the output of a decoder layer, which may be a tuple."""
    return output[0] if isinstance(output, tuple) else output

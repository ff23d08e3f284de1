"""What our worker holds on to in vLLM: checked by name and signature before it is changed.

Knows nothing of vLLM itself, so that it can be tested without.
"""

import inspect
import types
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

LAYERS = {
    "LlamaDecoderLayer",
    "Gemma2DecoderLayer",
    "Gemma3DecoderLayer",
    "Qwen2DecoderLayer",
    "Qwen3DecoderLayer",
}
"""Decoder layers whose output (hidden, residual) adds up to the residual stream; tested, each."""


def check_supported(config: Any) -> None:
    """Refuse a configuration of vLLM that would leave tokens unsteered, or was never tried.

    Attributes are read without a default: one that is gone must not pass for one that is off.

    Raises:
        RuntimeError: what is refused, or which attribute is not there any more.
    """
    try:
        parallel = config.parallel_config
        refused = {
            "speculative decoding": config.speculative_config is not None,
            "computing in microbatches (dual-batch overlap)": parallel.use_ubatching,
            "pipeline parallelism": parallel.pipeline_parallel_size > 1,
            "context parallelism": parallel.prefill_context_parallel_size > 1
            or parallel.decode_context_parallel_size > 1,
            "data parallelism": parallel.data_parallel_size > 1,
            "sequence parallelism": parallel.use_sequence_parallel_moe or parallel.enable_hc_sp,
            "batch-sharded sampling": bool(parallel.enable_batch_sharded_sampling),
        }
    except AttributeError as error:
        raise RuntimeError(f"esr: {error}: vLLM has moved") from None
    for what, asked in refused.items():
        if asked:
            raise RuntimeError(f"esr: {what} is not supported under steering; switch it off")


def decoder_layers(model: Any) -> Any:
    """Find the decoder layers of the text part of a model.

    Raises:
        RuntimeError: the model is laid out otherwise.
    """
    for holder in (getattr(model, "language_model", None), model):
        layers = getattr(getattr(holder, "model", None), "layers", None)
        if layers is not None:
            return layers
    raise RuntimeError(f"esr: {type(model).__name__} has no decoder layers at model.layers")


def install_site(site: int, layer: nn.Module) -> None:
    """Make a decoder layer call the operation of a site on its output.

    Raises:
        RuntimeError: a layer of another kind than those tested, or of another signature.
    """
    kind = type(layer)
    if kind.__name__ not in LAYERS:
        raise RuntimeError(
            f"esr: decoder layer {kind.__name__} is not among those tested ({sorted(LAYERS)})"
        )
    got = list(inspect.signature(kind.forward).parameters)[1:4]
    if got != ["positions", "hidden_states", "residual"]:
        raise RuntimeError(f"esr: {kind.__name__}.forward takes {got}: vLLM has moved")

    def forward(self: Any, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        hidden, residual = kind.forward(self, *args, **kwargs)
        torch.ops.esr.intervene_(hidden, residual, site)
        return hidden, residual

    layer.__class__ = type(f"Steered{kind.__name__}", (kind,), {"forward": forward})


def method(owner: Any, name: str, parameters: list[str]) -> Callable[..., Any]:
    """Get a method of vLLM that is to be wrapped, if it still is what it was.

    Raises:
        RuntimeError: it is not there, or takes other parameters.
    """
    found = getattr(owner, name, None)
    where = f"{type(owner).__module__}.{type(owner).__name__}"
    if found is None:
        raise RuntimeError(f"esr: {where} has no {name}() any more: vLLM has moved")
    got = list(inspect.signature(found).parameters)
    if got[: len(parameters)] != parameters:
        raise RuntimeError(f"esr: {where}.{name} takes {got}, not {parameters}: vLLM has moved")
    return found


def intervention_of(request: Any) -> dict[str, Any]:
    """What the client says is to be done to a request that vLLM schedules.

    Raises:
        RuntimeError: nothing, so that it would run unsteered.
    """
    extra = (request.sampling_params.extra_args or {}) if request.sampling_params else {}
    if "esr" not in extra:
        raise RuntimeError(f"esr: request {request.req_id} does not say what is done to it")
    return extra["esr"]


def not_finite(
    logits: Float[Tensor, "requests vocabulary"], n_requests: int
) -> Bool[Tensor, " requests"]:
    """Of each request of a step, whether its logits are not finite.

    Raises:
        RuntimeError: they are not one row a request.
    """
    if len(logits) != n_requests:
        raise RuntimeError(
            f"esr: logits of {len(logits)} rows for {n_requests} requests: vLLM has moved"
        )
    # A sum is finite if all of its terms are, up to an overflow that means as much.
    return ~logits.sum(dim=-1, dtype=torch.float32).isfinite()


def wrap(owner: Any, name: str, replacement: Callable[..., Any]) -> None:
    """Replace a method on one object alone."""
    setattr(owner, name, types.MethodType(replacement, owner))

"""The vLLM internals that the worker patches, checked by name and signature before any change.

This module does not import vLLM, so its tests need no vLLM either.
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
"""Tested decoder layers. Each returns (hidden, residual), whose sum is the residual stream."""


def check_supported(config: Any) -> None:
    """Raise if vLLM is configured in a way that leaves tokens unsteered or is untested.

    Attributes are read without a default: a missing attribute must not count as a disabled feature.

    Raises:
        RuntimeError: names the feature to disable, or the missing attribute.
    """
    try:
        parallel = config.parallel_config
        unsupported = {
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
        raise RuntimeError(f"esr: {error}: vLLM's internals changed") from None
    for feature, enabled in unsupported.items():
        if enabled:
            raise RuntimeError(f"esr: {feature} is not supported under steering; disable it")


def decoder_layers(model: Any) -> Any:
    """Find the decoder layers of the text part of a model.

    Raises:
        RuntimeError: the model has no decoder layers at a known place.
    """
    for holder in (getattr(model, "language_model", None), model):
        layers = getattr(getattr(holder, "model", None), "layers", None)
        if layers is not None:
            return layers
    raise RuntimeError(f"esr: {type(model).__name__} has no decoder layers at model.layers")


def install_site(site: int, layer: nn.Module) -> None:
    """Make a decoder layer apply the operation of a site to its output.

    Replaces the class of this one layer by a subclass. A forward hook would not do: vLLM compiles
    the model, and hooks are not reliable under `torch.compile`.

    Raises:
        RuntimeError: the class of the layer is untested or has another signature.
    """
    kind = type(layer)
    if kind.__name__ not in LAYERS:
        raise RuntimeError(
            f"esr: decoder layer {kind.__name__} is not among those tested ({sorted(LAYERS)})"
        )
    got = list(inspect.signature(kind.forward).parameters)[1:4]
    if got != ["positions", "hidden_states", "residual"]:
        raise RuntimeError(f"esr: {kind.__name__}.forward takes {got}: vLLM's internals changed")

    def forward(self: Any, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        hidden, residual = kind.forward(self, *args, **kwargs)
        torch.ops.esr.intervene_(hidden, residual, site)
        return hidden, residual

    layer.__class__ = type(f"Steered{kind.__name__}", (kind,), {"forward": forward})


def method(owner: Any, name: str, parameters: list[str]) -> Callable[..., Any]:
    """Return a method of vLLM that is to be wrapped, after a check of its signature.

    Raises:
        RuntimeError: it does not exist, or its first parameters are others.
    """
    found = getattr(owner, name, None)
    where = f"{type(owner).__module__}.{type(owner).__name__}"
    if found is None:
        raise RuntimeError(f"esr: {where} has no method {name}(): vLLM's internals changed")
    got = list(inspect.signature(found).parameters)
    if got[: len(parameters)] != parameters:
        raise RuntimeError(
            f"esr: {where}.{name} takes {got}, not {parameters}: vLLM's internals changed"
        )
    return found


def wrap(owner: Any, name: str, replacement: Callable[..., Any]) -> None:
    """Replace a method of one object. Its class stays as it is."""
    setattr(owner, name, types.MethodType(replacement, owner))


def job_id(vllm_id: str) -> str:
    """Return the id of a job from vLLM's id of its request, which adds `-` and random digits."""
    return vllm_id.rsplit("-", 1)[0]


def job_arguments(request: Any) -> dict[str, Any]:
    """Return what the host has attached to a request: id, intervention, what to encode.

    Raises:
        RuntimeError: nothing is attached, so that the request would run unsteered, or its id is
            another one.
    """
    extra = (request.sampling_params.extra_args or {}) if request.sampling_params else {}
    if "esr" not in extra:
        raise RuntimeError(f"esr: request {request.req_id} has no intervention attached")
    arguments = extra["esr"]
    if job_id(request.req_id) != arguments["id"]:
        raise RuntimeError(
            f"esr: request {request.req_id} belongs to job {arguments['id']}: "
            "vLLM's internals changed"
        )
    return arguments


def not_finite(
    logits: Float[Tensor, "requests vocabulary"], n_requests: int
) -> Bool[Tensor, " requests"]:
    """Return for each request of a step whether its logits are not finite.

    Raises:
        RuntimeError: there is not one row a request.
    """
    if len(logits) != n_requests:
        raise RuntimeError(
            f"esr: {len(logits)} rows of logits for {n_requests} requests: vLLM's internals changed"
        )
    # A sum reads the logits once, without a mask of their size. It is finite only if all terms
    # are; if finite terms overflow in float32, the logits are unusable, too.
    return ~logits.sum(dim=-1, dtype=torch.float32).isfinite()

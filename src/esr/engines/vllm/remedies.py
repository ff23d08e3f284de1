"""Remedies for errors of vLLM, which name keys of the configuration."""

from collections.abc import Mapping
from pathlib import Path

from esr.assets.environments import sync_command

MORE_CACHE = (
    "raise engine.vllm.memory_fraction (without a GPU, engine.vllm.cpu_cache), lower "
    "engine.vllm.max_model_len or models.<model>.batch_size, or spread the model over more GPUs "
    "(models.<model>.tensor_parallel)"
)
IN_DTYPE = (
    "set judging.judges.<judge>.kv_cache: null, so that the cache of keys and values is in `dtype` "
    "(replies then have other keys)"
)
REMEDIES = {
    "out of memory": (
        "spread the model over more GPUs (models.<model>.tensor_parallel), quantise it "
        "(models.<model>.quantization: fp8), or lower engine.vllm.memory_fraction (vLLM's share, "
        "which leaves too little for the SAE) or models.<model>.batch_size"
    ),
    "fp8 kv cache": IN_DTYPE,
    "kv_cache_dtype not supported": IN_DTYPE,
    "kv cache": MORE_CACHE,
    "free memory on device": (
        "another process uses this GPU: end it, or lower engine.vllm.memory_fraction"
    ),
    "available memory on node": (
        "lower engine.vllm.cpu_cache (GB), or end other processes on this machine"
    ),
    "cache blocks": MORE_CACHE,
    "soft cap": "set models.<model>.attention_backend to one that supports it (FLASHINFER)",
    "quantization method": "set models.<model>.quantization to one of those that vLLM supports",
    "failed to be inspected": (
        "its image part needs torchvision, which envs/serve has and envs/serve-cpu lacks: grant "
        "the model a GPU in `jobs`"
    ),
    "stale graph": "empty vLLM's cache of compiled graphs",
}
"""Remedy for an error of vLLM, by a phrase of its message (lower case)."""
CHANGED = "vllm's internals changed"
"""Phrase (lower case) of the errors of `esr.engines.vllm.patches`."""


def explain(message: str, environment: Path, keys: Mapping[str, str]) -> str:
    """An error of vLLM with its remedy, if one is known.

    Args:
        message: What vLLM raised.
        environment: Folder of the environment that vLLM runs in.
        keys: Keys in the remedies, and what to call them instead.
    """
    remedies = REMEDIES | {CHANGED: f"run `{sync_command(environment)}`"}
    found = [text for phrase, text in remedies.items() if phrase in message.lower()]
    remedy = f"; {found[0]}" if found else ""
    for key, name in keys.items():
        remedy = remedy.replace(key, name)
    return f"vLLM failed: {message.rstrip('.')}{remedy}. Finished responses are in the journal"

"""Opening the vLLM engine for a model of a study: what its host loads, and where."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from esr.arms.chat import read_stop_tokens
from esr.assets.sae import SaeHeader
from esr.config import Config, ModelConfig
from esr.directions.vectors import check_width, load_directions, rows_of
from esr.engines.base import check_shape
from esr.engines.hosts.linger import CPU, gpu_devices, stay_of
from esr.engines.vllm.client import VllmEngine
from esr.engines.vllm.environment import host_variables, launcher, pinned_version
from esr.engines.vllm.messages import Setup

LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Values that vLLM accepts as `max_lora_rank`."""


def open_vllm(
    config: Config,
    name: str,
    manifest: dict[str, Any],
    sae_file: Path,
    sae: SaeHeader,
    identity: dict[str, Any],
    directions: Sequence[Path] = (),
    layers: Sequence[int] = (),
) -> VllmEngine:
    """Prepare the engine of a model of the study; see `esr.engines.open_engine`."""
    from transformers import AutoConfig

    model = config.models[name]
    environment = Path("envs") / str(config.environment(name))
    check_shape(_sites(model), manifest["n_layers"], sae.d_model, manifest["d_model"])
    sets = {found.name: found for found in map(load_directions, directions)}
    for found in sets.values():
        check_width(found, manifest["d_model"])
    where = {"revision": manifest["revision"], "local_files_only": True}
    text = AutoConfig.from_pretrained(manifest["source"], **where).get_text_config()
    longest = text.max_position_embeddings
    setup = _setup(config, name, manifest, longest, sae_file, directions, layers)
    eager = config.engine.vllm.eager
    variables = host_variables(config, on_cpu=config.on_cpu(name), eager=eager)
    if model.quantization is not None:
        identity = identity | {"quantization": model.quantization}
    version = pinned_version(environment)
    # It has the first GPUs of its job: others are for a judge, which may stay there.
    devices = (CPU,) if config.on_cpu(name) else gpu_devices(number=config.gpus(name))
    files = [sae_file, *directions, Path(setup.source), Path(setup.adapter or setup.source)]
    parts = (setup, identity, variables, str(environment.absolute()), version)
    return VllmEngine(
        setup,
        launcher(environment, variables),
        d_sae=sae.d_sae,
        max_positions=longest,
        stop_tokens=read_stop_tokens(manifest["source"], **where),
        identity=identity,
        environment=environment,
        version=version,
        rows=rows_of(sets),
        stay=stay_of(config.linger(on_cpu=config.on_cpu(name)), devices, files, *parts),
    )


def _sites(model: ModelConfig) -> dict[str, int]:
    """Layers of a model at which the engine adds, reads and ablates."""
    ablated = model.steer_layer if model.ablate_layer is None else model.ablate_layer
    return {
        "steer_layer": model.steer_layer,
        "read_layer": model.read_layer,
        "ablate_layer": ablated,
    }


def _setup(
    config: Config,
    name: str,
    manifest: dict[str, Any],
    longest: int,
    sae_file: Path,
    directions: Sequence[Path],
    layers: Sequence[int],
) -> Setup:
    """What the host loads; `longest` is the number of positions that the model supports."""
    sites = _sites(config.models[name])
    return Setup(
        source=manifest["source"],
        revision=manifest["revision"],
        adapter=manifest.get("adapter"),
        dtype=config.models[name].dtype,
        sae_file=str(sae_file.absolute()),
        directions=tuple(str(path.absolute()) for path in directions),
        n_requests=config.batch_size(name),
        n_ablated=config.engine.vllm.max_ablated,
        max_model_len=min(config.engine.vllm.max_model_len, longest),
        prefix_caching=config.engine.vllm.prefix_caching,
        options=vllm_options(config, name, manifest.get("adapter")),
        add_layers=tuple(layers),
        steer_layer=sites["steer_layer"],
        ablate_layer=sites["ablate_layer"],
        read_layer=sites["read_layer"],
    )


def vllm_options(config: Config, name: str, adapter: str | None) -> dict[str, Any]:
    """Return the arguments of vLLM that depend only on the configuration and the adapter."""
    model = config.models[name]
    settings = config.engine.vllm
    options: dict[str, Any] = {
        "enforce_eager": settings.eager,
        "gpu_memory_utilization": settings.memory_fraction,
        "tensor_parallel_size": max(config.gpus(name), 1),
        "quantization": model.quantization,
        "attention_backend": model.attention_backend,
    }
    if config.on_cpu(name):
        options["kv_cache_memory_bytes"] = round(settings.cpu_cache * 2**30)
        del options["gpu_memory_utilization"]
    if adapter is not None:
        rank = json.loads((Path(adapter) / "adapter_config.json").read_text(encoding="utf-8"))["r"]
        options["max_lora_rank"] = next(size for size in LORA_RANKS if size >= rank)
    return {key: value for key, value in options.items() if value is not None}

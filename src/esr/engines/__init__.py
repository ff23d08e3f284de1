"""Engines, opened by name; see `esr.engines.base` for what one does."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from esr.engines.base import Engine, Sampling

if TYPE_CHECKING:
    from esr.config import Config


def open_engine(config: "Config", model: str, manifest: dict[str, Any], sae_file: Path) -> Engine:
    """Load a model of the study with its SAE into the study's engine.

    Args:
        config: The study.
        model: Name of the model in it.
        manifest: The model's `assets/model.json`.
        sae_file: The model's `assets/sae.safetensors`.

    Raises:
        EsrError: the engine cannot be had, or the model and its SAE do not fit it.
    """
    from esr.assets.sae import load_sae

    settings, sae = config.models[model], load_sae(sae_file)
    identity = {
        "model": manifest["files"],
        "sae": sae.digest,
        "steer_layer": settings.steer_layer,
        "ablate_layer": settings.ablate_layer,
        "dtype": settings.dtype,
    }
    if config.engine.name == "vllm":
        from esr.engines.vllm.launch import open_vllm

        return open_vllm(config, model, manifest, sae_file, sae, identity)
    from esr.engines.transformers import load_engine

    return load_engine(
        manifest["source"],
        sae,
        revision=manifest["revision"],
        dtype=settings.dtype,
        device=config.engine.device,
        steer_layer=settings.steer_layer,
        read_layer=settings.read_layer,
        batch_size=config.engine.batch_size,
        threads=config.engine.threads,
        identity=identity,
        ablate_layer=settings.ablate_layer,
    )


def open_tokenizer(manifest: dict[str, Any]) -> Any:
    """Load the tokenizer that belongs to a model manifest, from disk or the local hub cache."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(
        manifest["source"], revision=manifest["revision"], local_files_only=True
    )


def sampling_of(config: "Config", model: str) -> Sampling:
    """Sampling settings of a model."""
    return Sampling(**config.sampling(model))  # type: ignore[arg-type]

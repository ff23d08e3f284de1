"""Opening an engine by its name. `esr.engines.base` defines what an engine does."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esr.arms.template import set_template

if TYPE_CHECKING:
    from esr.config import Config
    from esr.engines.base import Engine, Sampling


def open_engine(
    config: "Config",
    model: str,
    manifest: dict[str, Any],
    sae_file: Path,
    directions: Sequence[Path] = (),
    layers: Sequence[int] = (),
) -> "Engine":
    """Open the study's engine for a model and its SAE.

    Of the SAE file this reads the header only. The transformers engine then loads the weights. An
    engine in a process of its own leaves that to the process: vLLM, and one that stays for the
    jobs that follow (`esr.engines.hosts.linger`).

    Args:
        config: The study.
        model: Name of the model in it.
        manifest: The model's `assets/model.json`.
        sae_file: The model's `assets/sae.safetensors`.
        directions: Files of the sets of directions that requests name.
        layers: Layers beside `steer_layer` at which requests add directions.

    Raises:
        EsrError: the engine is not installed, or layers, SAE or directions do not match the model.
    """
    from esr.assets.sae import read_header
    from esr.directions.vectors import load_directions
    from esr.engines.base import check_layers, check_shape

    settings = config.models[model]
    header = read_header(sae_file)
    check_layers((("layer", layer) for layer in layers), manifest["n_layers"])
    check_shape({}, manifest["n_layers"], header.d_model, manifest["d_model"])
    identity = {
        "model": manifest["files"],
        "sae": header.digest,
        "steer_layer": settings.steer_layer,
        "ablate_layer": settings.ablate_layer,
        "dtype": settings.dtype,
    }
    sets = [load_directions(path) for path in directions]
    if sets:  # absent otherwise, so that journals of plain arms stay valid
        identity["directions"] = {found.name: found.digest for found in sets}
    if config.engine.name == "vllm":
        from esr.engines.vllm.launch import open_vllm

        return open_vllm(config, model, manifest, sae_file, header, identity, directions, layers)
    from esr.engines.loading import open_transformers

    return open_transformers(config, model, manifest, sae_file, header, identity, directions)


def open_tokenizer(manifest: dict[str, Any], template: Mapping[str, Any] | None = None) -> Any:
    """Load the tokenizer of a model manifest, from disk or the local hub cache.

    Args:
        manifest: The model's `assets/model.json`.
        template: Arguments of its chat template (`models.<model>.template`).

    Raises:
        EsrError: the chat template does not use an argument.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(
        manifest["source"], revision=manifest["revision"], local_files_only=True
    )
    set_template(tokenizer, template or {})
    return tokenizer


def sampling_of(config: "Config", model: str, arm: str | None = None) -> "Sampling":
    """Return the sampling settings of a model, or of one of its arms."""
    from esr.engines.base import Sampling

    return Sampling(**config.sampling(model, arm))  # pyrefly: ignore[bad-argument-type]

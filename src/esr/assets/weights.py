"""Weights of checkpoints: whole, and those that the configuration beside them describes.

Transformers fills a weight that a checkpoint lacks with random numbers and leaves out what it does
not expect; both are a warning there. Here they are errors.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esr.assets.checkpoints import INDEX, WEIGHTS, weight_map
from esr.assets.json_files import LFS, refuse_pointer
from esr.errors import EsrError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TEXT = r"(?:model\.)?(?:language_model\.)?(?:model\.)?"
"""What may stand before the parts of a language model, alone or in a checkpoint for images."""
LAYER = re.compile(rf"{TEXT}layers\.(\d+)\.")
EMBEDDING = re.compile(rf"{TEXT}embed_tokens\.weight")


def check_weights(folder: Path, shape: Mapping[str, Any]) -> None:
    """Check that the weights of a local checkpoint are whole and of the model in `config.json`.

    Reads headers only.

    Args:
        folder: The checkpoint; its files exist.
        shape: As `esr.assets.checkpoints.model_shape` returns it.

    Raises:
        EsrError: a file is a git-lfs pointer, was cut, or lacks weights; the weights have another
            number of layers, or an embedding of another shape.
    """
    index = folder / INDEX
    named = weight_map(index) if index.is_file() else {}
    found: dict[str, tuple[int, ...]] = {}
    for file in sorted(set(named.values())) or [WEIGHTS]:
        found |= _shapes(folder / file)
    if missing := sorted(named.keys() - found.keys()):
        raise EsrError(f"{index} names {missing[0]}, which no file holds; download it again")
    layers = {int(match[1]) for name in found if (match := LAYER.match(name))}
    if layers and layers != set(range(shape["n_layers"])):
        raise EsrError(
            f"{folder}: the weights have layers {min(layers)} to {max(layers)}, but by config.json "
            f"the model has layers 0 to {shape['n_layers'] - 1}; take both from one checkpoint"
        )
    size = (shape["vocab_size"], shape["d_model"])
    for name in filter(EMBEDDING.fullmatch, found):
        if found[name] != size:
            raise EsrError(
                f"{folder}: {name} has shape {found[name]}, but by config.json it is {size}; take "
                "both from one checkpoint"
            )


def load_causal_lm(source: str | Path, *, partial: bool = False, **options: Any) -> Any:
    """Load a causal language model of transformers, with every weight from the checkpoint.

    Args:
        source: A folder, or the hub id of a model in the local cache.
        partial: Whether the checkpoint may have more layers than are loaded.
        options: Of `from_pretrained`.

    Raises:
        EsrError: the checkpoint lacks a weight, or has layers that its configuration leaves out.
    """
    from transformers import AutoModelForCausalLM

    model: PreTrainedModel
    model, report = AutoModelForCausalLM.from_pretrained(
        source, output_loading_info=True, **options
    )
    n_layers = model.config.get_text_config().num_hidden_layers
    refuse_differences(str(source), report, None if partial else n_layers)
    return model


def refuse_differences(
    source: str, report: Mapping[str, Iterable[Any]], n_layers: int | None
) -> None:
    """Refuse a checkpoint whose weights are not those of the model that was loaded.

    Args:
        source: Name of the checkpoint.
        report: Loading information of transformers.
        n_layers: Layers of the model; None if the checkpoint may have more.

    Raises:
        EsrError: naming a weight that is missing, or too many.
    """
    if missing := sorted(report["missing_keys"]):
        raise EsrError(
            f"{source}: the checkpoint lacks {len(missing)} weights of its model, e.g. "
            f"{missing[0]}, which would be random; config.json and weights belong to different "
            "models, or a file is missing"
        )
    if n_layers is None:
        return
    beyond = [
        name
        for name in sorted(report["unexpected_keys"])
        if (match := LAYER.match(name)) and int(match[1]) >= n_layers
    ]
    if beyond:
        raise EsrError(
            f"{source}: the checkpoint has {beyond[0]}, but by config.json the model has layers 0 "
            f"to {n_layers - 1}; take config.json and weights from one checkpoint"
        )


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes in a file of weights by name, from its header.

    Raises:
        EsrError: it is a git-lfs pointer, or was cut.
    """
    from safetensors import safe_open

    with path.open("rb") as file:
        refuse_pointer(path, file.read(len(LFS)))
    try:
        with safe_open(path, framework="numpy") as weights:
            return {
                name: tuple(weights.get_slice(name).get_shape())
                for name in weights.keys()  # noqa: SIM118
            }
    except Exception as error:  # the class is not public
        raise EsrError(f"{path} was cut or changed ({error}); download it again") from None

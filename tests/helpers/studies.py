"""The configuration of a shipped study, with changes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from esr.assets.checkpoints import folder_model_shape
from esr.config import Config, load, merge
from esr.plain_yaml import load_yaml
from helpers.checkout import REPO

ONE_DEVICE: dict[str, Any] = {
    "engine": {"name": "transformers"},
    "models": {"llama-3.3-70b": {"quantization": None, "tensor_parallel": None}},
}
"""The paper study with the engine that holds a model on one device."""


def load_study(*changes: Any, name: str = "organism") -> Config:
    """Protocol, study file and changes, merged and validated as a run does it."""
    files = [REPO / "config.yaml", REPO / f"studies/{name}.yaml"]
    return load(merge(*(load_yaml(file.read_text()) for file in files), *changes))


def save_vectors(
    path: Path, names: Sequence[str], layer: int | None = None, width: int | None = None
) -> None:
    """A file of vectors for the organism: its steered layer and width, unless others are given."""
    shape = folder_model_shape(REPO / "resources/organisms/planted/model")
    assert shape is not None
    steered = load_study().models["planted"].steer_layer if layer is None else layer
    drawn = np.random.default_rng(3).normal(size=(len(names), width or shape["d_model"]))
    vectors = dict(zip(names, drawn.astype(np.float32), strict=True))
    save_file(vectors, path, {"layer": str(steered), "origin": "a test"})

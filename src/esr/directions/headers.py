"""Files of vectors: names, layer, origin, values. Planning checks them without PyTorch."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError, safe_open

from esr.directions.names import Names
from esr.errors import EsrError

SAME = 1 - 1e-6
"""Cosine above which two vectors have the same direction, up to rounding."""
BLOCK = 512
"""Vectors that are compared with all others at a time, which bounds the memory."""


class Header(NamedTuple):
    """Names of the vectors, in their order, and what they were made from."""

    names: list[str]
    origin: str


def read_vector_header(path: Path, layer: int, d_model: int | None = None) -> Header:
    """Read and check the header of a file of vectors.

    Args:
        path: A safetensors file, one tensor of shape [d_model] a direction, with the metadata
            `layer` and `origin`.
        layer: The layer that is steered (0-based).
        d_model: Width of its residual stream; None = not known.

    Raises:
        EsrError: the file cannot be read, names another layer or no origin, a vector has another
            shape, or its name is blank or that of another one.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            facts = file.metadata() or {}
            shapes = {name: file.get_slice(name).get_shape() for name in sorted(file.keys())}
    except (OSError, SafetensorError) as error:
        raise EsrError(f"{path}: no safetensors file with vectors: {error}") from None
    missing = [fact for fact in ("layer", "origin") if not facts.get(fact)]
    if missing:
        raise EsrError(
            f"{path}: no {' and '.join(missing)} in its metadata; save it with "
            f'metadata={{"layer": "{layer}", "origin": "..."}}'
        )
    if facts["layer"] != str(layer):
        raise EsrError(
            f"{path}: its vectors belong to the output of layer {facts['layer']}, but steer_layer "
            f"is {layer}; a direction of one layer means nothing at another"
        )
    if not shapes:
        raise EsrError(f"{path}: holds no vector")
    names = Names()
    for name, shape in shapes.items():
        names.add(name, f"{path}")
        if len(shape) != 1 or (d_model is not None and shape != [d_model]):
            needed = "d_model" if d_model is None else d_model
            raise EsrError(
                f"{path}: tensor {name!r} has shape {shape}, but the residual stream needs "
                f"[{needed}]"
            )
    return Header(list(shapes), facts["origin"])


def check_vector_values(path: Path) -> None:
    """Check the vectors of a file whose header is right.

    Raises:
        EsrError: a vector is zero or not finite, or has the direction of another one.
    """
    found: dict[str, np.ndarray] = {}
    with safe_open(path, framework="numpy") as file:
        for name in sorted(file.keys()):
            try:
                vector = file.get_tensor(name)
            except (SafetensorError, TypeError, AttributeError):
                continue  # a type that NumPy lacks, such as float8: `scaled` checks it
            if not np.isfinite(vector).all() or not vector.any():
                raise EsrError(
                    f"{path}: tensor {name!r} is zero or not finite, so that it has no direction; "
                    "remove it, or check what it was made from"
                )
            found[name] = vector
    refuse_same(f"{path}", found)


def refuse_same(where: str, vectors: Mapping[str, Float[np.ndarray, " d_model"]]) -> None:
    """Raise if two vectors have one direction: it would count twice, as if it were independent.

    Args:
        where: The set, for the message.
        vectors: Vectors by name, none of them zero.
    """
    names = list(vectors)
    if len(names) < 2:
        return
    rows = np.array([vectors[name] for name in names], dtype=float)
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    for start in range(0, len(units), BLOCK):
        cosines = np.triu(units[start : start + BLOCK] @ units.T, start + 1)
        first, second = (int(i) for i in np.unravel_index(cosines.argmax(), cosines.shape))
        if cosines[first, second] > SAME:
            raise EsrError(
                f"{where}: {names[start + first]!r} and {names[second]!r} have the same direction, "
                "which would count twice; remove one"
            )

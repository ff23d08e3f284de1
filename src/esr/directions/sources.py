"""Where the vectors of a set come from: chance, a file, or contrasts of texts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from safetensors import safe_open
from torch import Tensor

from esr.directions.headers import read_vector_header, refuse_same
from esr.directions.vectors import Directions
from esr.errors import EsrError


class Vectors(NamedTuple):
    """Vectors by label, as they were made, and what they were made from."""

    labels: list[str]
    vectors: Float[Tensor, "n d_model"]
    origin: str


def random_directions(
    name: str, latents: Sequence[int], norms: Float[Tensor, " n"], d_model: int, seed: int
) -> Directions:
    """Draw an isotropic random direction for each latent, of the norm of its decoder row.

    Each is drawn from a stream of its own, so that adding a latent changes no other direction.
    """
    drawn = np.stack(
        [np.random.default_rng([seed, latent]).standard_normal(d_model) for latent in latents]
    )
    units = torch.tensor(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))
    return Directions(name, torch.tensor(latents), (units * norms[:, None].double()).float())


def read_vectors(path: Path, layer: int, d_model: int) -> Vectors:
    """Read the vectors of a file.

    Args:
        path: A safetensors file, one tensor of shape [d_model] a direction, with the metadata
            `layer` and `origin`.
        layer: The layer that is steered (0-based).
        d_model: Width of its residual stream.

    Raises:
        EsrError: the file cannot be read, names another layer or no origin, or a vector has
            another shape.
    """
    header = read_vector_header(path, layer, d_model)
    with safe_open(path, framework="pt") as file:
        vectors = torch.stack([file.get_tensor(name).float() for name in header.names])
    return Vectors(header.names, vectors, header.origin)


def contrast(
    differences: Float[Tensor, "pairs d_model"], method: Literal["mean", "component"]
) -> Float[Tensor, " d_model"]:
    """The direction of pairs of texts, from the differences of their residual streams.

    `mean` is their mean. `component` is the first right singular vector of the uncentred
    differences, times its root mean square projection, with the sign of the mean.
    """
    mean = differences.mean(dim=0)
    if method == "mean":
        return mean
    _, values, axes = torch.linalg.svd(differences, full_matrices=False)
    axis = axes[0] if axes[0] @ mean >= 0 else -axes[0]
    return axis * values[0] / len(differences) ** 0.5


def scaled(name: str, found: Vectors, norm: float) -> Directions:
    """Number vectors from 0 and scale each to a norm.

    Raises:
        EsrError: a vector is zero or not finite, or has the direction of another one.
    """
    own = found.vectors.norm(dim=1)
    for label, length in zip(found.labels, own.tolist(), strict=True):
        if not np.isfinite(length) or length == 0:
            raise EsrError(
                f"directions {name!r}: {label!r} is zero or not finite, so that it has no "
                "direction; remove it, or check what it was made from"
            )
    named = zip(found.labels, found.vectors.double().numpy(), strict=True)
    refuse_same(f"directions {name!r}", dict(named))
    vectors = found.vectors * (norm / own)[:, None]
    return Directions(name, torch.arange(len(vectors)), vectors)


def scaled_set(
    name: str, found: Vectors, rows: Float[Tensor, "latents d_model"], prompts: Sequence[str]
) -> tuple[Directions, pd.DataFrame]:
    """A set scaled to the median norm of decoder rows, and its table; all prompts are admissible.

    Args:
        name: The set.
        found: Its vectors, as they were made.
        rows: Decoder rows of the selected latents.
        prompts: Ids of the study's prompts.
    """
    made = scaled(name, found, float(rows.norm(dim=1).median()))
    own = found.vectors.norm(dim=1)
    each = [prompts] * len(found.labels)
    return made, directions_table(made, rows, each, found.origin, found.labels, own)


def directions_table(
    found: Directions,
    rows: Float[Tensor, "latents d_model"],
    prompts: Sequence[Sequence[str]],
    origin: str,
    labels: Sequence[str | None],
    own_norms: Float[Tensor, " n"] | None = None,
) -> pd.DataFrame:
    """The table `directions` of a set.

    Args:
        found: The set.
        rows: Decoder rows of the selected latents.
        prompts: Prompts that each direction may be steered on.
        origin: What the set was made from.
        labels: Names of the directions.
        own_norms: Their norms before scaling.
    """
    norms = found.vectors.norm(dim=1)
    units = found.vectors / norms[:, None]
    cosines = (units @ (rows / rows.norm(dim=1, keepdim=True)).T).abs().amax(dim=1)
    return pd.DataFrame(
        {
            "latent": found.rows.tolist(),
            "order": range(len(norms)),
            "label": list(labels),
            "prompts": [list(each) for each in prompts],
            "selected": True,
            "norm": norms.tolist(),
            "own_norm": [None] * len(norms) if own_norms is None else own_norms.tolist(),
            "largest_cosine": cosines.tolist(),
            "origin": origin,
        }
    )

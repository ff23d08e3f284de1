"""A set of steering directions in one file: row number -> vector.

Every vector has the norm of a decoder row, so that boosts are in decoder units for all directions.
A random direction has the number of the latent that it stands in for; other rows count from 0.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float, Int
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from esr.errors import EsrError


@dataclass(frozen=True)
class Directions:
    """Vectors of a set, one a row number."""

    name: str
    rows: Int[Tensor, " n"]
    vectors: Float[Tensor, "n d_model"]

    def __post_init__(self) -> None:
        """Raise unless every row is finite and not zero, and no row number occurs twice."""
        numbers = self.rows.tolist()
        if len(set(numbers)) < len(numbers):
            raise EsrError(f"directions {self.name!r}: a row number occurs twice")
        for row, vector in zip(numbers, self.vectors, strict=True):
            if not vector.isfinite().all() or not vector.any():
                raise EsrError(
                    f"directions {self.name!r}: row {row} is zero or not finite, so that it steers "
                    "nowhere; remove it"
                )

    @property
    def digest(self) -> str:
        """SHA-256 of row numbers and vectors: the first 32 hex digits."""
        digest = hashlib.sha256(json.dumps(self.rows.tolist()).encode())
        digest.update(self.vectors.contiguous().numpy().tobytes())
        return digest.hexdigest()[:32]

    def by_row(self) -> dict[int, Float[Tensor, " d_model"]]:
        """Vectors by row number."""
        return dict(zip(self.rows.tolist(), self.vectors, strict=True))

    def save(self, path: Path) -> None:
        """Write the set. Equal contents give equal bytes."""
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {"rows": self.rows, "vectors": self.vectors.contiguous()}
        save_file(tensors, path, metadata={"directions": self.name})


def load_directions(path: Path) -> Directions:
    """Read a set.

    Raises:
        EsrError: `Directions.save` did not write this file.
    """
    with safe_open(path, framework="pt") as file:
        name = (file.metadata() or {}).get("directions")
        if name is None:
            raise EsrError(
                f"{path} is no set of directions of esr; remove it and run the rule "
                "prepare_directions again"
            )
        return Directions(name, file.get_tensor("rows"), file.get_tensor("vectors"))


def rows_of(sets: Mapping[str, Directions]) -> dict[str, Collection[int]]:
    """Row numbers of each set, as `Intervention.check` takes them."""
    return {name: frozenset(found.rows.tolist()) for name, found in sets.items()}


def check_width(found: Directions, d_model: int) -> None:
    """Raise unless the vectors have the width of the residual stream."""
    if found.vectors.shape[1] != d_model:
        raise EsrError(
            f"directions {found.name!r} have width {found.vectors.shape[1]}, the residual stream "
            f"has width {d_model}; make them from this model"
        )

"""Boosts in a unit that models and layers share: medians of the norm of the residual stream.

A boost is in decoder units, which differ between SAEs, layers and kinds of direction. The dose of a
boost is the length of what is added, relative to the stream that it is added to:

    dose = boost * |direction| / median norm of the residual stream at `steer_layer`

The median leaves out BOS, sinks and massive dimensions (`usual_norm`, `esr.assets.sae_fit`).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors import safe_open


def norms_of(rows: Sequence[int], path: Path, directions: str | None) -> list[float]:
    """Norms of decoder rows, or of rows of a set of directions.

    Args:
        rows: Latents, or rows of the set.
        path: The SAE's file, or that of the set.
        directions: Name of the set; None = decoder rows.
    """
    with safe_open(path, framework="numpy") as file:
        if directions is None:
            found = file.get_slice("W_dec")
            return [float(np.linalg.norm(found[row])) for row in rows]
        norms = np.linalg.norm(file.get_tensor("vectors"), axis=1).tolist()
        known = dict(zip(file.get_tensor("rows").tolist(), norms, strict=True))
    return [known[row] for row in rows]


def with_dose(table: pd.DataFrame, usual_norm: float) -> pd.DataFrame:
    """Thresholds with the column dose, which is missing without a threshold.

    Args:
        table: Table `thresholds`.
        usual_norm: Median norm of the stream; missing if it was not measured.
    """
    return table.assign(dose=table["threshold"].astype(float) * table["norm"] / usual_norm)


def usual_norm_of(fit: pd.DataFrame, layer: int) -> float:
    """`usual_norm` at a layer; NaN if it was not measured.

    Args:
        fit: Table `sae_fit`.
        layer: The steered layer.
    """
    found = fit.loc[fit["layer"].eq(layer), "usual_norm"].astype(float)
    return float(found.iloc[0]) if len(found) else float("nan")

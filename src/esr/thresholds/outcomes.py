"""Thresholds of a study: one row a model, latent and target, and how the searches ended."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from esr.thresholds.finder import Status

COLUMNS = ["model", "latent", "label", "target", "threshold", "low", "high", "achieved"]
COLUMNS += ["n_samples", "n_missing", "lower", "upper", "n_widened", "status"]
STATUSES = [str(status) for status in Status]
"""How a search ends, best first."""


def threshold_table(found: Iterable[tuple[str, pd.DataFrame]]) -> pd.DataFrame:
    """Thresholds of every model and target: boosts in decoder units, scores in points.

    Args:
        found: Model and table `thresholds`; a model has one table a target.
    """
    parts = [table.assign(model=model) for model, table in found]
    filled = [part for part in parts if len(part)]
    table = pd.concat(filled, ignore_index=True) if filled else pd.DataFrame()
    return table.reindex(columns=COLUMNS)


def count_statuses(table: pd.DataFrame) -> pd.DataFrame:
    """Latents by status of the search, for every model and target, with a mean of `achieved`.

    Columns: model, target, latents, one a status in `STATUSES`, achieved (mean, points).
    """
    rows = []
    for (model, target), cell in table.groupby(["model", "target"], sort=False):
        counts = cell["status"].value_counts()
        row: dict[str, Any] = {"model": model, "target": target, "latents": len(cell)}
        row |= {status: int(counts.get(status, 0)) for status in STATUSES}
        rows.append(row | {"achieved": cell["achieved"].astype(float).mean()})
    return pd.DataFrame(rows, columns=["model", "target", "latents", *STATUSES, "achieved"])


def in_words(counts: Mapping[str, Any]) -> str:
    """`34 of 36 latents converged, 2 not_converged`, from a row of `count_statuses`."""
    first, *others = STATUSES
    text = f"{counts[first]} of {counts['latents']} latents {first}"
    rest = [f"{counts[status]} {status}" for status in others if counts[status]]
    return ", ".join([text, *rest])

"""Thresholds of a study: one row a model, direction and target, and how the searches ended."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from esr.thresholds.finder import Status

COLUMNS = [
    "model",
    "directions",
    "latent",
    "label",
    "target",
    "threshold",
    "low",
    "high",
    "achieved",
]
COLUMNS += ["n_samples", "n_missing", "lower", "upper", "n_widened", "status", "norm", "dose", "kl"]
SEARCH = ["model", "directions", "target"]
MEDIANS = ["dose", "kl"]
STATUSES = [str(status) for status in Status]
"""How a search ends, best first."""


def threshold_table(found: Iterable[tuple[str, str | None, pd.DataFrame]]) -> pd.DataFrame:
    """Thresholds of every model and target: boosts in decoder units, scores in points.

    Args:
        found: Model, set of directions (None: latents) and table `thresholds` with its dose
            (`esr.thresholds.dose`), one a target.
    """
    parts = [
        table.assign(model=model, directions=name or "latents") for model, name, table in found
    ]
    filled = [part for part in parts if len(part)]
    table = pd.concat(filled, ignore_index=True) if filled else pd.DataFrame()
    return table.reindex(columns=COLUMNS)


def count_statuses(table: pd.DataFrame) -> pd.DataFrame:
    """Directions by status of the search, for every model, set and target.

    Columns: model, directions, target, latents (their number), one a status in `STATUSES`, achieved
    (mean, points), dose (median, residual norms), kl (median, nats).
    """
    rows = []
    for values, cell in table.reindex(columns=COLUMNS).groupby(SEARCH, sort=False):
        counts = cell["status"].value_counts()
        row: dict[str, Any] = dict(zip(SEARCH, values, strict=True)) | {"latents": len(cell)}
        row |= {status: int(counts.get(status, 0)) for status in STATUSES}
        row["achieved"] = cell["achieved"].astype(float).mean()
        rows.append(row | {name: cell[name].astype(float).median() for name in MEDIANS})
    return pd.DataFrame(rows, columns=[*SEARCH, "latents", *STATUSES, "achieved", *MEDIANS])


def in_words(counts: Mapping[str, Any]) -> str:
    """`34 of 36 latents converged, 2 inert; median dose 0.81, KL at the first token 0.4 nats`.

    Args:
        counts: A row of `count_statuses`.
    """
    first, *others = STATUSES
    kind = "latents" if counts["directions"] == "latents" else f"{counts['directions']} directions"
    text = f"{counts[first]} of {counts['latents']} {kind} {first}"
    rest = [f"{counts[status]} {status}" for status in others if counts[status]]
    sizes = {"dose": "dose {:.2f}", "kl": "KL at the first token {:.2g} nats"}
    known = [form.format(counts[name]) for name, form in sizes.items() if pd.notna(counts[name])]
    return ", ".join([text, *rest]) + (f"; median {', '.join(known)}" if known else "")

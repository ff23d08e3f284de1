"""Make tables/activation_{regions,contrasts,latents,lead}.{csv,tex}: activations in episodes.

`regions`: mean of the summed activation in each region; `contrasts`: the confirmatory family
(Holm); `latents`: every latent by itself (Benjamini-Hochberg); `lead`: how many tokens before the
correction the detectors rise. SAE units; intervals clustered by steered latent.
"""

from collections.abc import Callable
from typing import Any

import pandas as pd

from esr.analysis.summaries import write_tables
from esr.arms.scores import select
from esr.config import Config
from esr.episodes.contrasts import (
    KINDS,
    labels_of,
    latent_contrasts,
    model_contrasts,
    region_means,
    region_values,
)
from esr.episodes.traces import Traces, lead_summary, lead_times, read_traces
from esr.job import config_of, output, start
from esr.tables import read_tables

EFFECT = ["effect", "effect_low", "effect_high"]


def regions(traces: Traces, config: Config) -> pd.DataFrame:
    """Means of both kinds of latents."""
    parts = [
        region_means(region_values(traces.tokens(kind)), config.statistics).assign(kind=kind)
        for kind in KINDS
    ]
    return pd.concat(parts)[["kind", *(c for c in parts[0] if c != "kind")]]


def contrasts(traces: Traces, config: Config) -> pd.DataFrame:
    """The confirmatory family."""
    return model_contrasts(traces, config.statistics)


def latents(traces: Traces, config: Config) -> pd.DataFrame:
    """Every latent by itself, detectors by effect."""
    table = latent_contrasts(traces, config.statistics)
    by = ["kind", "first", "second", "effect"]
    return table.sort_values(by, ascending=[False, True, True, False], kind="stable")


def lead(traces: Traces, config: Config) -> pd.DataFrame:
    """How many tokens before the correction the detectors rise, and how often."""
    table = lead_summary(lead_times(traces.tokens("detector"), config.episodes), config.statistics)
    note = traces.note("detector")
    return table.assign(status=note.replace(" ", "_")) if note else table


PARTS: dict[str, Callable[[Traces, Config], pd.DataFrame]] = {
    "regions": regions,
    "contrasts": contrasts,
    "latents": latents,
    "lead": lead,
}


def interval(table: pd.DataFrame, value: str, low: str, high: str) -> list[str]:
    """`0.42 [0.31, 0.55]`, or `n/a`."""
    rows = zip(table[value], table[low], table[high], strict=True)
    return [
        "n/a" if pd.isna(v) else f"{v:.2f}" if pd.isna(a) else f"{v:.2f} [{a:.2f}, {b:.2f}]"
        for v, a, b in rows
    ]


def printed(name: str, table: pd.DataFrame) -> pd.DataFrame:
    """The printed form of a table."""
    p = {"contrasts": "p_holm", "latents": "p_bh"}.get(name)
    if name in ("regions", "lead"):
        keys = [c for c in ("model", "kind", "cell", "quantity", "unit") if c in table]
        shown = table[keys].assign(value=interval(table, "value", "low", "high"), n=table["n"])
        return shown.map(lambda value: str(value).replace("_", " "))
    keys = [c for c in ("model", "kind", "latent", "label", "first", "second") if c in table]
    shown = table[[*keys, "n_first", "n_second"]].assign(
        difference=interval(table, "difference", "low", "high"), d=interval(table, *EFFECT)
    )
    shown[f"p ({'Holm' if p == 'p_holm' else 'BH'})"] = [
        "n/a" if pd.isna(value) else f"{value:.3g}" for value in table[p]
    ]
    return shown.map(lambda value: str(value).replace("_", " "))


def main(job: Any) -> None:
    """Write the four tables."""
    config = config_of(job)
    traces = read_traces(config.base_models, job.input.episodes, job.input.activations)
    all_labels = read_tables(job.input.labels, "labels")
    names = {name: model.label for name, model in config.base_models.items()}
    for name, make in PARTS.items():
        parts = []
        for model, found in traces.items():
            part = make(found, config)
            if "latent" in part:
                labels = labels_of(select(all_labels, model=model))
                part.insert(2, "label", [labels.get(latent, "") for latent in part["latent"]])
            part.insert(0, "model", model)
            parts.append(part)
        table = pd.concat(parts, ignore_index=True)
        shown = printed(name, table.assign(model=table["model"].map(names)))
        write_tables(output(job, f"{name}_csv"), output(job, f"{name}_tex"), table, shown)


if __name__ == "__main__":
    main(start(snakemake))

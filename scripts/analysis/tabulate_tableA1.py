"""Make tables/tableA1.{csv,tex}: statistics of every off-topic detector.

One row a detector: label, whether found and given, mean and frequency on matched and mismatched
pairs, AUROC and standardised mean difference d with its interval (bootstrap over prompts), on
held-out pairs if there are any (column `pairs`). Activations are in units of the SAE.
"""

from collections.abc import Container
from typing import Any

import pandas as pd

from esr.analysis.rows import large_to_small
from esr.analysis.summaries import write_tables
from esr.arms.scores import select
from esr.config import StatisticsConfig
from esr.detectors.search import check_table
from esr.figures.numbers import with_interval
from esr.job import config_of, output, start
from esr.tables import read_tables

COLUMNS = ["model", "latent", "label", "found", "given", "mean_matched", "mean_mismatched"]
COLUMNS += ["frequency_matched", "frequency_mismatched", "auroc", "margin", "d", "low", "high"]
COLUMNS += ["status", "pairs", "n_pairs", "n_prompts"]


def detector_statistics(
    detectors: pd.DataFrame, pairs: pd.DataFrame, settings: StatisticsConfig
) -> pd.DataFrame:
    """Statistics of the latents found or given, in the order of the table `detectors`."""
    known = detectors.loc[detectors["found"] | detectors["given"]]
    known = known[["latent", "label", "found", "given"]]
    return known.merge(check_table(pairs, settings), on="latent", how="left")


def printed(
    table: pd.DataFrame, models: dict[str, dict[str, Any]], searched: Container[str]
) -> pd.DataFrame:
    """The printed table; a model without detectors has one row with the reason.

    Args:
        table: Statistics of the detectors.
        models: Models and their labels.
        searched: Models of which detectors were searched.
    """
    none = pd.DataFrame(
        [
            {"Model": m["label"], "Latent": "none found" if name in searched else "not searched"}
            for name, m in models.items()
            if name not in set(table["model"])
        ],
        columns=["Model", "Latent"],
    )
    if table.empty:
        return none
    shown = table.assign(
        model=table["model"].map(lambda name: models[name]["label"]),
        label=table["label"].fillna("(no label)"),
        effect=[with_interval(r.d, r.low, r.high) for r in table.itertuples()],
    )
    for name in ("matched", "mismatched"):
        shown[name] = shown[f"mean_{name}"].map("{:.2f}".format, na_action="ignore")
        active = (100 * shown[f"frequency_{name}"]).map("{:.0f}".format, na_action="ignore")
        shown[f"{name}_active"] = active
    shown["auroc"] = shown["auroc"].map("{:.3f}".format, na_action="ignore")
    names = {
        "model": "Model",
        "latent": "Latent",
        "label": "Label",
        "matched": "Mean, matched",
        "mismatched": "Mean, mismatched",
        "matched_active": "Active %, matched",
        "mismatched_active": "Active %, mismatched",
        "auroc": "AUROC",
        "effect": "d",
    }
    return pd.concat([shown[list(names)].rename(columns=names), none]).fillna("-")


def main(job: Any) -> None:
    """Write the table."""
    config = config_of(job)
    models = dict(job.params.models)
    detectors = read_tables(job.input.detectors, "detectors")
    pairs = read_tables(job.input.pairs, "detector_pairs")
    parts = []
    for name in large_to_small(models):
        table = detector_statistics(
            select(detectors, model=name),
            select(pairs, model=name),
            config.statistics,
        )
        parts.append(table.assign(model=name))
    searched = set(detectors["model"])
    both = pd.concat(parts, ignore_index=True).reindex(columns=COLUMNS)
    write_tables(output(job, "csv"), output(job, "tex"), both, printed(both, models, searched))


if __name__ == "__main__":
    main(start(snakemake))

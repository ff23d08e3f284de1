"""Make tables/controls.{csv,tex}: how far the random sets are as active as the detectors.

CSV, one row a model and set: matching (how sets are drawn), detectors and latents (numbers), mean
and detector_mean (mean activation on steered text in units of the SAE, summed over the set and over
the detectors), mean_share (the first in percent of the second), frequency, detector_frequency
(share of tokens on which a latent is active, summed) and frequency_share.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from esr.analysis.rows import large_to_small
from esr.analysis.summaries import write_tables
from esr.arms.scores import select
from esr.detectors.controls import SUMMARY, summarise_sets
from esr.job import config_of, output, start
from esr.tables import read_tables

NAMES = {
    "model": "Model",
    "set": "Set",
    "detectors": "Detectors",
    "latents": "Latents",
    "mean_share": "Activation, % of the detectors'",
    "frequency_share": "Frequency, % of the detectors'",
}


def tabulate(controls: pd.DataFrame, models: Mapping[str, Any], matching: str) -> pd.DataFrame:
    """Sums over every set of every model, large models first."""
    parts = [
        summarise_sets(select(controls, model=name)).assign(model=name, matching=matching)
        for name in large_to_small(models)
    ]
    return pd.concat(parts, ignore_index=True)[["model", "matching", *SUMMARY]]


def printed(table: pd.DataFrame, models: Mapping[str, Any]) -> pd.DataFrame:
    """The printed table, with the models' labels."""
    shown = table.assign(model=table["model"].map(lambda name: models[name]["label"]))
    for name in ("mean_share", "frequency_share"):
        shown[name] = shown[name].map("{:.0f}".format, na_action="ignore").fillna("n/a")
    return shown[list(NAMES)].rename(columns=NAMES)


def main(job: Any) -> None:
    """Write the table."""
    models = dict(job.params.models)
    controls = read_tables(job.input.controls, "controls")
    table = tabulate(controls, models, config_of(job).detectors.matching)
    write_tables(output(job, "csv"), output(job, "tex"), table, printed(table, models))


if __name__ == "__main__":
    main(start(snakemake))

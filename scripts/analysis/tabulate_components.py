"""Make tables/variance_components.{csv,tex}: latents and prompts as sources of restarts.

CSV, one row a model, arm, event (`multi_attempt`, `esr`) and quantity: value, low, high, null (the
value if latents were all alike), unit, n (scored trials), n_events, status. Quantities: intra-class
correlation of latents and of prompts, share of the events in the top tenth of latents, latents with
half of the events, effective number of latents (`esr.analysis.components`).
"""

from typing import Any

import pandas as pd

from esr.analysis.components import component_table
from esr.analysis.summaries import write_tables
from esr.config import StatisticsConfig
from esr.job import config_of, output, start
from esr.tables import read_tables


def tabulate(scores: pd.DataFrame, settings: StatisticsConfig) -> pd.DataFrame:
    """Components of every model and arm in the scores."""
    parts = [
        component_table(cell, settings.level, settings.seed).assign(model=model, arm=arm)
        for (model, arm), cell in scores.groupby(["model", "arm"], sort=False)
    ]
    table = pd.concat(parts, ignore_index=True)
    return table[["model", "arm", *[name for name in table if name not in ("model", "arm")]]]


def printed(table: pd.DataFrame) -> pd.DataFrame:
    """The value with its interval in one column, two decimals."""
    values = [
        "n/a"
        if pd.isna(row.value)
        else f"{row.value:.2f}"
        if pd.isna(row.low)
        else f"{row.value:.2f} [{row.low:.2f}, {row.high:.2f}]"
        for row in table.itertuples()
    ]
    shown = table[["model", "arm", "event", "quantity", "n_events"]].assign(value=values)
    nulls = table["null"].map("{:.2f}".format, na_action="ignore").fillna("n/a")
    return shown.assign(null=nulls, event=table["event"].str.replace("_", " "))


def main(job: Any) -> None:
    """Write the table."""
    scores = read_tables(job.input.scores, "scores")
    table = tabulate(scores, config_of(job).statistics)
    write_tables(output(job, "csv"), output(job, "tex"), table, printed(table))


if __name__ == "__main__":
    main(start(snakemake))

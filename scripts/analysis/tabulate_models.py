"""Make tables/models.{csv,tex}: models against each other, slopes over size and over boost.

Rows: kind `pair` (arm `steered`, model minus against; independent latents), `trend` (slope of a
meta-prompt's paired effect per tenfold parameters) or `sweep` (slope of a measure per sd of
thresholds). Columns as in `esr.analysis.trends`; rates in percent, scores in points.
"""

from typing import Any

import pandas as pd

from esr.analysis.summaries import with_interval, write_tables
from esr.analysis.trends import pairs, size_trends, sweep_slopes
from esr.arms.scores import select
from esr.job import config_of, output, start
from esr.tables import read_tables

SHOWN = ["first_score", "multi_attempt_rate", "esr_rate", "msi"]


def printed(table: pd.DataFrame) -> pd.DataFrame:
    """One row a contrast, for the measures of the main figures."""
    table = table[table["measure"].isin(SHOWN)]
    shown = table[["kind", "model", "against", "arm", "measure"]].fillna("-")
    return shown.assign(
        difference=[with_interval(row, "difference") for row in table.to_dict("records")],
        n=table["n"],
    )


def main(job: Any) -> None:
    """Write the table."""
    config = config_of(job)
    scores = read_tables(job.input.scores, "scores")
    steered = select(scores, arm="steered")
    sizes = {name: model.parameters for name, model in config.base_models.items()}
    parts = [pairs(steered, config.statistics).assign(arm="steered")]
    for arm in config.meta_arms:
        trend = size_trends(steered, select(scores, arm=arm), sizes, config.statistics)
        parts.append(trend.assign(arm=arm))
    sweep = select(scores, arm="boost-sweep")
    parts.append(sweep_slopes(sweep, config.statistics).assign(arm="boost-sweep"))
    table = pd.concat([part for part in parts if len(part)], ignore_index=True)
    write_tables(output(job, "csv"), output(job, "tex"), table, printed(table))


if __name__ == "__main__":
    main(start(snakemake))

"""Make tables/models.{csv,tex}: models against each other, slopes over size and over boost.

Rows: kind `pair` (arm `steered`, model minus against; independent latents), `trend` (slope of a
meta-prompt's paired effect per tenfold parameters) or `sweep` (slope of a measure per sd of
thresholds), each in every way of grading (`way`, `esr.analysis.ways`). Columns as in
`esr.analysis.trends`; rates in percent, scores in points. Without rows if the study has one model
and no sweep.
"""

from typing import Any

import pandas as pd

from esr.analysis.summaries import with_interval, write_tables
from esr.analysis.trends import COLUMNS, PAIRED, pairs, size_trends, sweep_slopes
from esr.analysis.ways import View, by_way, of_way, read_second, views
from esr.arms.scores import select
from esr.config import Config
from esr.job import config_of, output, start
from esr.tables import read_tables

SHOWN = ["first_score", "multi_attempt_rate", "esr_rate", "msi"]


def printed(table: pd.DataFrame) -> pd.DataFrame:
    """One row a contrast, for the measures of the main figures."""
    table = table[table["measure"].isin(SHOWN)]
    shown = table[["kind", "model", "against", "arm", "measure"]].astype(object).fillna("-")
    return shown.assign(
        difference=[with_interval(row, "difference") for row in table.to_dict("records")],
        n=table["n"],
    )


def tabulate(way: View, config: Config) -> pd.DataFrame:
    """All contrasts across models, as one way grades the trials."""
    settings = config.statistics
    measures = way.shown(PAIRED)
    steered = select(way.scores, arm="steered")
    sizes = {name: model.parameters for name, model in config.base_models.items()}
    parts = [pairs(steered, settings, measures).assign(arm="steered")]
    for arm in config.meta_arms:
        treated = select(way.scores, arm=arm)
        if len(treated):
            trend = size_trends(steered, treated, sizes, settings, measures)
            parts.append(trend.assign(arm=arm))
    sweep = select(way.scores, arm="boost-sweep")
    if len(sweep):
        parts.append(sweep_slopes(sweep, settings, measures).assign(arm="boost-sweep"))
    filled = [part for part in parts if len(part)]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(columns=COLUMNS)


def main(job: Any) -> None:
    """Write the table."""
    config = config_of(job)
    ways = views(read_tables(job.input.scores, "scores"), read_second(job.input.second))
    table = by_way(ways, lambda way: tabulate(way, config))
    write_tables(output(job, "csv"), output(job, "tex"), table, printed(of_way(table)))


if __name__ == "__main__":
    main(start(snakemake))

"""Make tables/recovery.{csv,tex}: recovery against its redraw null.

CSV, one row a way of grading (`way`, `esr.analysis.ways`; without scores there is none), model,
arm and measure (`success_rate`, `esr_rate` in percent, `msi` in points):
observed, null (the last attempt's score replaced by the first score of another trial of the same
latent at the same boost), excess (observed - null) with low, high and level (interval over latents
and prompts), p_value, p_method, status, n (trials), n_latents, n_dropped.
"""

from typing import Any

import pandas as pd

from esr.analysis.measures import MEASURES
from esr.analysis.recovery import recovery
from esr.analysis.summaries import with_interval, write_tables
from esr.analysis.ways import View, by_way, of_way, read_second, views
from esr.config import StatisticsConfig
from esr.job import config_of, output, start
from esr.tables import read_tables


def of_view(view: View, settings: StatisticsConfig) -> pd.DataFrame:
    """Recovery of every model and arm as one way grades them; no rows without scores."""
    if "msi" not in view.measures:
        return pd.DataFrame()
    parts = [
        recovery(cell, level=settings.level, seed=settings.seed).assign(model=model, arm=arm)
        for (model, arm), cell in view.scores.groupby(["model", "arm"], sort=False)
    ]
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    return table[["model", "arm", *[name for name in table if name not in ("model", "arm")]]]


def tabulate(
    scores: pd.DataFrame, settings: StatisticsConfig, second: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Recovery in every way, of the arms in the primary judge's scores."""
    if second is not None:
        second = second[second["arm"].isin(scores["arm"].unique())]
        second = None if second.empty else second
    return by_way(views(scores, second), lambda view: of_view(view, settings))


def printed(table: pd.DataFrame) -> pd.DataFrame:
    """Labels of the measures, and the excess with its interval in one column."""
    shown = table[["model", "arm", "measure", "observed", "null", "n"]].round(1)
    labels = [MEASURES[name].label for name in table["measure"]]
    excess = [with_interval(row, "excess") for row in table.to_dict("records")]
    return shown.assign(measure=labels, excess=excess)


def main(job: Any) -> None:
    """Write the table."""
    scores = read_tables(job.input.scores, "scores")
    table = tabulate(scores, config_of(job).statistics, read_second(job.input.second))
    write_tables(output(job, "csv"), output(job, "tex"), table, printed(of_way(table)))


if __name__ == "__main__":
    main(start(snakemake))

"""Make tables/summary.{csv,tex}: every measure of every model and arm, with its interval.

Rates in percent, scores in points; the CSV has one row a way of grading (`way`,
`esr.analysis.ways`) and measure, the LaTeX one row an arm, by the primary judge. Steered arms have
null, excess, excess_low and excess_high of success rate, ESR rate and MSI: over a redraw
(`tables/recovery.csv`).
"""

from typing import Any

import pandas as pd

from esr.analysis.measures import MEASURES
from esr.analysis.recovery import with_excess
from esr.analysis.summaries import (
    arms_by_model,
    empty_cells,
    summary_table,
    with_interval,
    write_tables,
)
from esr.analysis.ways import by_way, of_way, read_second, views
from esr.job import config_of, output, start
from esr.tables import read_tables

SHOWN = ["first_score", "multi_attempt_rate", "esr_rate", "success_rate", "msi"]
SHOWN += ["degraded_rate", "restart_rate"]

EXCESS = {"success_rate": "Success over redraw, points", "msi": "MSI over redraw"}
KEY = ["way", "model", "arm", "measure"]


def excess(row: pd.Series) -> str:
    """Excess over the redraw null with its interval; `-` for arms that have none."""
    ends = {"excess": row["excess"], "low": row["excess_low"], "high": row["excess_high"]}
    return "-" if pd.isna(row["excess"]) else with_interval(ends, "excess")


def title(name: str) -> str:
    """Heading of a measure's column: its label, and `%` if it is a rate."""
    measure = MEASURES[name]
    return f"{measure.label}, %" if measure.is_rate else measure.label


def printed(table: pd.DataFrame) -> pd.DataFrame:
    """One row a model and arm, estimates with intervals side by side."""
    rows = []
    for (model, arm), cell in table.groupby(["model", "arm"], sort=False):
        by = cell.set_index("measure")
        row = {"Model": model, "Arm": arm, "n": int(by.loc["first_score", "n"])}
        row |= {title(name): with_interval(by.loc[name]) for name in SHOWN}
        rows.append(row | {head: excess(by.loc[name]) for name, head in EXCESS.items()})
    return pd.DataFrame(rows)


def main(job: Any) -> None:
    """Write the table."""
    config = config_of(job)
    scores = read_tables(job.input.scores, "scores")
    ways = views(scores, read_second(job.input.second))
    empty = empty_cells(scores, arms_by_model(config))
    table = by_way(
        ways,
        lambda way: summary_table(way.scores, config.statistics, list(way.measures), empty),
    )
    table = with_excess(table, pd.read_csv(job.input.recovery), KEY)
    write_tables(output(job, "csv"), output(job, "tex"), table, printed(of_way(table)))


if __name__ == "__main__":
    main(start(snakemake))

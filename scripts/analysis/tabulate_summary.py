"""Make tables/summary.{csv,tex}: every measure of every model and arm, with its interval.

Rates in percent, scores in points; the CSV has one row a measure, the LaTeX one row an arm.
"""

from typing import Any

import pandas as pd

from esr.analysis.measures import MEASURES
from esr.analysis.summaries import summary_table, with_interval, write_tables
from esr.job import config_of, output, start
from esr.tables import read_tables

SHOWN = ["first_score", "multi_attempt_rate", "esr_rate", "success_rate", "msi"]
SHOWN += ["degraded_rate", "restart_rate"]


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
        rows.append(row | {title(name): with_interval(by.loc[name]) for name in SHOWN})
    return pd.DataFrame(rows)


def main(job: Any) -> None:
    """Write the table."""
    scores = read_tables(job.input.scores, "scores")
    table = summary_table(scores, config_of(job).statistics)
    write_tables(output(job, "csv"), output(job, "tex"), table, printed(table))


if __name__ == "__main__":
    main(start(snakemake))

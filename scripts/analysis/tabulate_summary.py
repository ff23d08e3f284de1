"""Make tables/summary.{csv,tex}: every measure of every model and arm, with its interval.

Rates in percent, scores in points; the CSV has one row a measure, the LaTeX one row an arm.
"""

from typing import Any

import pandas as pd

from esr.analysis.summaries import read_arms, summary_table, with_interval, write_tables
from esr.job import config_of, output, start

SHOWN = {
    "first_score": "First score",
    "multi_attempt_rate": "Multi-attempt %",
    "esr_rate": "ESR %",
    "success_rate": "Improved %",
    "msi": "MSI",
    "degraded_rate": "Degraded %",
    "restart_rate": "Restarts %",
}


def printed(table: pd.DataFrame) -> pd.DataFrame:
    """One row a model and arm, estimates with intervals side by side."""
    rows = []
    for (model, arm), cell in table.groupby(["model", "arm"], sort=False):
        by = cell.set_index("measure")
        row = {"Model": model, "Arm": arm, "n": int(by.loc["first_score", "n"])}
        rows.append(row | {title: with_interval(by.loc[m]) for m, title in SHOWN.items()})
    return pd.DataFrame(rows)


def main(job: Any) -> None:
    """Write the table."""
    scores = read_arms(job.input.scores, job.params.cells)
    table = summary_table(scores, config_of(job).statistics)
    write_tables(output(job, "csv"), output(job, "tex"), table, printed(table))


if __name__ == "__main__":
    main(start(snakemake))

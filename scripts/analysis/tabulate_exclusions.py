"""Make tables/exclusions.{csv,tex}: trials by status, for every model and arm."""

from typing import Any

import pandas as pd

from esr.analysis.summaries import arms_by_model, empty_cells, exclusion_table, write_tables
from esr.job import config_of, output, start
from esr.tables import read_tables


def printed(table: pd.DataFrame) -> pd.DataFrame:
    """One row a model and arm, one column a status."""
    wide = table.pivot_table(
        index=["model", "arm"], columns="status", values="n", fill_value=0, sort=False
    )
    return wide.astype(int).reset_index()


def main(job: Any) -> None:
    """Write the table."""
    scores = read_tables(job.input.scores, "scores")
    table = exclusion_table(scores, empty_cells(scores, arms_by_model(config_of(job))))
    write_tables(output(job, "csv"), output(job, "tex"), table, printed(table))


if __name__ == "__main__":
    main(start(snakemake))

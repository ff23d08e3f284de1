"""Make tables/agreement.{csv,tex}: how far judges agree, of all trials, arm by arm.

CSV: the rows of the table `agreement` in population weights: arm (`all`: all sampled arms),
quantity, judge_a, judge_b, statistic, estimate, low, high (fractions, coefficients or points), n,
n_clusters, status.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from esr.analysis.summaries import write_tables
from esr.job import output, start
from esr.tables import read_table

PRINTED = ["rate", "agreement", "kappa", "positive_agreement", "icc"]


def population(agreement: pd.DataFrame) -> pd.DataFrame:
    """Rows that are weighted to all trials."""
    table = agreement[agreement["weighting"].eq("population")]
    return table.drop(columns="weighting").reset_index(drop=True)


def printed(table: pd.DataFrame) -> pd.DataFrame:
    """The main statistics, each with its interval in one column."""
    shown = table[table["statistic"].isin(PRINTED)]
    values = [
        "n/a" if pd.isna(e) else f"{e:.2f}" if pd.isna(low) else f"{e:.2f} [{low:.2f}, {high:.2f}]"
        for e, low, high in zip(shown["estimate"], shown["low"], shown["high"], strict=True)
    ]
    names = ["arm", "quantity", "judge_a", "judge_b", "statistic", "n", "status"]
    return shown[names].fillna("").assign(estimate=values)


def main(job: Any) -> None:
    """Write the table."""
    table = population(read_table(Path(job.input[0]), "agreement"))
    write_tables(output(job, "csv"), output(job, "tex"), table, printed(table))


if __name__ == "__main__":
    main(start(snakemake))

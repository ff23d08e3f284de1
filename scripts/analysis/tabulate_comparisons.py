"""Make tables/comparisons.{csv,tex}: every replaying arm against the arm it replays, paired.

Differences are in percentage points (rates) or points (scores); p by permutation within latents.
"""

from typing import Any

import pandas as pd

from esr.analysis.summaries import (
    comparison_table,
    replays_of,
    with_interval,
    write_tables,
)
from esr.job import config_of, output, start
from esr.tables import read_tables

SHOWN = ["first_score", "multi_attempt_rate", "esr_rate", "msi"]


def printed(table: pd.DataFrame) -> pd.DataFrame:
    """One row a comparison, for the measures of the main figures."""
    table = table[table["measure"].isin(SHOWN)]
    return pd.DataFrame(
        {
            "Model": table["model"],
            "Arm": table["arm"],
            "Against": table["against"],
            "Measure": table["measure"],
            "Pairs": table["n_pairs"],
            "Difference": [with_interval(r, "difference") for r in table.to_dict("records")],
            "p": table["p_value"].map("{:.3g}".format, na_action="ignore").fillna("n/a"),
            "p (Holm)": table["p_holm"].map("{:.3g}".format, na_action="ignore").fillna("-"),
        }
    )


def main(job: Any) -> None:
    """Write the table."""
    config = config_of(job)
    scores = read_tables(job.input.scores, "scores")
    table = comparison_table(scores, replays_of(config), config.statistics)
    write_tables(output(job, "csv"), output(job, "tex"), table, printed(table))


if __name__ == "__main__":
    main(start(snakemake))

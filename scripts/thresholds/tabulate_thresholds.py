"""Make tables/thresholds.{csv,tex}: thresholds of every latent, and how their searches ended.

CSV, one row a model, direction and target: model, directions (`latents`, or a set), latent, label,
target (points), threshold, low, high (its 90 % interval), lower, upper (bounds at the end; all five
in decoder units), achieved (points, re-estimated from all data), n_samples, n_missing (responses
with and without a score), n_widened, status. The LaTeX counts directions by status.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from esr.analysis.summaries import write_tables
from esr.job import output, start
from esr.tables import read_table
from esr.thresholds.outcomes import count_statuses, threshold_table


def printed(table: pd.DataFrame) -> pd.DataFrame:
    """One row a model, set and target; a mean without a value is `n/a`."""
    counts = count_statuses(table)
    shown = counts["achieved"].map("{:.1f}".format, na_action="ignore").fillna("n/a")
    return counts.assign(achieved=shown, target=counts["target"].map("{:g}".format))


def main(job: Any) -> None:
    """Write the table."""
    tables = [read_table(Path(path), "thresholds") for path in job.input]
    searches = zip(job.params.searches, tables, strict=True)
    table = threshold_table((model, name, found) for (model, name), found in searches)
    write_tables(output(job, "csv"), output(job, "tex"), table, printed(table))


if __name__ == "__main__":
    main(start(snakemake))

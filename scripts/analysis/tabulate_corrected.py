"""Make tables/corrected.{csv,tex}: rates corrected for the primary judge's errors.

CSV, one row a model, arm, measure and kind (`rate`, `difference`, `relative_change`), columns as in
`esr.analysis.graded.COLUMNS`: raw, Rogan-Gladen and prediction-powered values, sensitivity and
specificity, each with the ends of its interval (percent, percentage points), and the reference that
counts as the truth.
"""

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from esr.agreement.sample import by_judge
from esr.analysis.engines import engines_of, mask_other_engines
from esr.analysis.graded import ESTIMATED, choose_reference, corrected_table, second_phase
from esr.analysis.summaries import replays_of, with_interval, write_tables
from esr.job import config_of, output, start
from esr.tables import read_table, read_tables

log = logging.getLogger(__name__)

SHOWN = {
    "raw": "Raw",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "rogan_gladen": "Rogan-Gladen",
    "ppi": "Prediction-powered",
}


def printed(table: pd.DataFrame) -> pd.DataFrame:
    """Values with intervals in one column each."""
    names = ["model", "arm", "against", "kind", "measure", "reference", "status"]
    shown = table[names].fillna("")
    for column, title in SHOWN.items():
        rows = table.rename(columns={f"{column}_low": "low", f"{column}_high": "high"})
        shown[title] = [with_interval(row, column) for row in rows.to_dict("records")]
    return shown


def main(job: Any) -> None:
    """Write the table."""
    config = config_of(job)
    primary = read_tables(job.input.scores, "scores")
    sample = read_table(Path(job.input.sample), "sample")
    judged = by_judge(read_tables(job.input.judged, "scores"))
    reference = choose_reference(judged, config.judging)
    second = None if isinstance(reference, str) else second_phase(sample, judged, reference)
    level = config.statistics.level
    table = corrected_table(primary, second, reference, replays_of(config), level)
    table, lines = mask_other_engines(table, engines_of(job.input.scores), ESTIMATED)
    for line in lines:
        log.warning("%s", line)
    write_tables(output(job, "csv"), output(job, "tex"), table, printed(table))


if __name__ == "__main__":
    main(start(snakemake))

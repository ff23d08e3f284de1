"""Make tables/drift.csv: shifts of the anchors' scores within and between the jobs of a judge.

One row a judge, job and comparison, columns as in `esr.agreement.drift.COLUMNS` (shift, bound and
error in points). Only kept replies are read.
"""

import logging
from typing import Any

from esr.agreement.drift import drift_note, drift_table, read_anchor_grades
from esr.job import config_of, output, start

log = logging.getLogger(__name__)


def main(job: Any) -> None:
    """Write the table; a shift is a warning."""
    config = config_of(job)
    settings = config.statistics
    table = drift_table(read_anchor_grades(config), settings.level, settings.seed)
    note = drift_note(table)
    if note:
        log.warning("%s", note)
    table.to_csv(output(job), index=False)


if __name__ == "__main__":
    main(start(snakemake))

"""Make tables/judge_failures.csv: responses that a language model failed to judge, by reason.

One row a judge, set of trials and reason, columns as in `esr.agreement.failures.COLUMNS` (percent
of responses, with intervals). The primary judge grades the arms, the others the sample.
"""

import logging
from pathlib import Path
from typing import Any

from esr.agreement.failures import ARMS, SAMPLE, failure_note, failure_table
from esr.analysis.ways import weighted
from esr.job import config_of, output, start
from esr.tables import read_table, read_tables

log = logging.getLogger(__name__)


def main(job: Any) -> None:
    """Write the table; a large share is a warning."""
    config = config_of(job)
    primary = config.judging.primary
    graded = {(primary, ARMS): read_tables(job.input.scores, "scores")} if job.input.scores else {}
    sample = read_table(Path(job.input.sample), "sample")
    for judge, path in zip(job.params.judges, job.input.graded, strict=True):
        graded[judge, SAMPLE] = weighted(sample, read_table(Path(path), "scores"))
    table = failure_table(graded, config.statistics.level)
    note = failure_note(table)
    if note:
        log.warning("%s", note)
    table.to_csv(output(job), index=False)


if __name__ == "__main__":
    main(start(snakemake))

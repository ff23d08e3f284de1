"""Make agreement/label_sheet.csv: responses for people to judge, without their origin.

One row a response: row (its name), prompt, response, and empty columns to fill in (docs/judges.md).
"""

import logging
from pathlib import Path
from typing import Any

from esr.agreement.sample import by_judge
from esr.job import config_of, output, start
from esr.judges.human import draw_sheet
from esr.tables import read_table, read_tables

log = logging.getLogger(__name__)


def main(job: Any) -> None:
    """Write the sheet."""
    sample = read_table(Path(job.input.sample), "sample")
    scores = by_judge(read_tables(job.input.scores, "scores"))
    settings = config_of(job).agreement
    sheet = draw_sheet(sample, scores, settings.seed, settings.sheet)
    sheet.to_csv(output(job), index=False)
    log.info("%d of %d responses of the sample to label", len(sheet), len(sample))


if __name__ == "__main__":
    main(start(snakemake))

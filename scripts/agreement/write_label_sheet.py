"""Make agreement/label_sheet.csv: responses for people to judge, without a word on their origin.

One row a response: row (its name), prompt, response, and empty columns to fill in (docs/judges.md).
"""

import logging
from pathlib import Path
from typing import Any

from esr.job import config_of, output, start
from esr.judges.human import draw_sheet
from esr.tables import read_table

log = logging.getLogger(__name__)


def main(job: Any) -> None:
    """Write the sheet."""
    sample = read_table(Path(job.input.sample), "sample")
    scores = {path: read_table(Path(path), "scores") for path in job.input.scores}
    sheet = draw_sheet(sample, scores, config_of(job).agreement.seed)
    sheet.to_csv(output(job), index=False)
    log.info("%d of %d responses of the sample to label", len(sheet), len(sample))


if __name__ == "__main__":
    main(start(snakemake))

"""Make agreement/label_sheet.csv and .html: responses for people to judge, without their origin.

One row a response: row (its name), prompt, response, and empty columns to fill in (docs/judges.md).
The page shows one of them at a time, and saves the same table filled in.
"""

import logging
from pathlib import Path
from typing import Any

from esr.agreement.label_page import label_page
from esr.agreement.sample import by_judge
from esr.job import config_of, output, start
from esr.judges.base import judged_from
from esr.judges.human import draw_sheet
from esr.tables import read_table, read_tables

log = logging.getLogger(__name__)


def main(job: Any) -> None:
    """Write the sheet, as a table and as a page."""
    sample = read_table(Path(job.input.sample), "sample")
    scores = by_judge(read_tables(job.input.scores, "scores"))
    config = config_of(job)
    settings = config.agreement
    begins = judged_from(sample, sample, config.judged_alone)
    seen = [text[at:] for text, at in zip(sample["response"], begins, strict=True)]
    sample = sample.assign(response=seen)
    sheet = draw_sheet(sample, scores, settings.seed, settings.sheet)
    sheet.to_csv(output(job, "sheet"), index=False)
    template, script, *styles = (Path(path).read_text(encoding="utf-8") for path in job.input.page)
    page = label_page(sheet, template, "\n".join(styles), script)
    output(job, "page").write_text(page, encoding="utf-8")
    log.info("%d of %d responses of the sample to label", len(sheet), len(sample))


if __name__ == "__main__":
    main(start(snakemake))

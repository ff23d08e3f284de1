"""Make agreement/agreement.parquet: statistics of every judge, every pair and all judges.

With `agreement.retest`, also of the primary judge with itself.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from esr.agreement.compare import compare_judges
from esr.agreement.retest import compare_retest, draw_retest
from esr.agreement.sample import by_judge
from esr.job import config_of, origin, output, start
from esr.tables import read_table, read_tables, write_table


def main(job: Any) -> None:
    """Write the table."""
    config = config_of(job)
    sample = read_table(Path(job.input.sample), "sample")
    scores = by_judge(read_tables(job.input.scores, "scores"))
    table = compare_judges(sample, scores, config.statistics)
    again = [path for path in job.input if Path(path).parent.name == "retest"]
    if again:
        judge = config.judging.primary
        retest = draw_retest(sample, config.agreement.retest, config.agreement.seed)
        second = read_tables(again, "scores")
        found = compare_retest(retest, scores[judge], second, judge, config.statistics)
        table = pd.concat([table, found], ignore_index=True)
    write_table(table, output(job), "agreement", origin(job))


if __name__ == "__main__":
    main(start(snakemake))

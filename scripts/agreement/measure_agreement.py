"""Make agreement/agreement.parquet: statistics of every judge, every pair and all judges."""

from pathlib import Path
from typing import Any

from esr.agreement.compare import compare_judges
from esr.agreement.sample import by_judge
from esr.job import config_of, origin, output, start
from esr.tables import read_table, read_tables, write_table


def main(job: Any) -> None:
    """Write the table."""
    config = config_of(job)
    sample = read_table(Path(job.input.sample), "sample")
    scores = by_judge(read_tables(job.input.scores, "scores"))
    table = compare_judges(sample, scores, config.statistics)
    write_table(table, output(job), "agreement", origin(job))


if __name__ == "__main__":
    main(start(snakemake))

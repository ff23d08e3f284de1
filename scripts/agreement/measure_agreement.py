"""Make agreement/agreement.parquet: statistics of every judge, of every pair, and of all."""

from pathlib import Path
from typing import Any

from esr.agreement.compare import compare_judges
from esr.job import config_of, origin, output, start
from esr.tables import read_table, write_table


def main(job: Any) -> None:
    """Write the table."""
    config = config_of(job)
    sample = read_table(Path(job.input.sample), "sample")
    scores = {
        judge: read_table(Path(path), "scores")
        for judge, path in zip(config.judging.judges, job.input.scores, strict=True)
    }
    table = compare_judges(sample, scores, config.statistics)
    write_table(table, output(job), "agreement", origin(job))


if __name__ == "__main__":
    main(start(snakemake))

"""Make latents/candidates.parquet: latents drawn at random, in the order of the draw."""

import logging
from pathlib import Path
from typing import Any

from esr.job import config_of, origin, output, start
from esr.latents.selection import draw_candidates
from esr.tables import read_table, write_table

log = logging.getLogger(__name__)


def main(job: Any) -> None:
    """Write the table."""
    config = config_of(job)
    labels = read_table(Path(job.input[0]), "labels")
    number = config.latents.candidates * config.latents.count
    if number > len(labels):
        log.warning(
            "%d candidates requested, but the SAE has %d latents: all are drawn",
            number,
            len(labels),
        )
    table = draw_candidates(labels, number, config.seeds.latents)
    write_table(table, output(job), "candidates", origin(job))


if __name__ == "__main__":
    main(start(snakemake))

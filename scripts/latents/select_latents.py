"""Make latents/latents.parquet: every candidate, whether it is selected, and the reason."""

from pathlib import Path
from typing import Any

from esr.job import config_of, origin, output, start
from esr.latents.selection import select_latents
from esr.tables import read_table, write_table


def main(job: Any) -> None:
    """Write the table."""
    config = config_of(job)
    table = select_latents(
        read_table(Path(job.input.candidates), "candidates"),
        read_table(Path(job.input.concreteness), "concreteness"),
        read_table(Path(job.input.relevance), "relevance"),
        count=config.latents.count,
        trials=config.trials_per_latent,
        criteria=config.latents.concreteness,
        scope=config.latents.relevance.scope,
    )
    write_table(table, output(job), "latents", origin(job))


if __name__ == "__main__":
    main(start(snakemake))

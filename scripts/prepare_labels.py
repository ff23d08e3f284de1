"""Make labels.parquet: one row a latent of the SAE, with its label if it has one."""

from pathlib import Path
from typing import Any

from esr.assets import read_labels
from esr.job import config_of, origin, output, start
from esr.sae import load_sae
from esr.tables import write_table


def main(job: Any) -> None:
    """Write the table."""
    labels = config_of(job).models[job.wildcards.model].labels
    table = read_labels(labels, load_sae(Path(job.input.sae)).d_sae)
    write_table(table, output(job), "labels", origin(job))


if __name__ == "__main__":
    main(start(snakemake))

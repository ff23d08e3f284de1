"""Make labels.parquet: one row a latent of the SAE, with its label if it has one."""

from pathlib import Path
from typing import Any

from esr.assets.saelens import sae_size
from esr.job import config_of, origin, output, start
from esr.latents.selection import read_labels
from esr.tables import write_table


def main(job: Any) -> None:
    """Write the table."""
    name = job.wildcards.model
    labels = config_of(job).models[name].labels_file
    table = read_labels(labels, sae_size(Path(job.input.sae)))
    write_table(table.assign(model=name), output(job), "labels", origin(job))


if __name__ == "__main__":
    main(start(snakemake))

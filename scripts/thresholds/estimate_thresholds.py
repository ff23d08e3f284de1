"""Make thresholds-<target>.parquet: thresholds of every latent for another target (points)."""

from pathlib import Path
from typing import Any

from esr.job import config_of, origin, output, start
from esr.tables import read_table, write_table
from esr.thresholds.prior import read_prior
from esr.thresholds.search import estimate_for_target


def main(job: Any) -> None:
    """Write the table."""
    config = config_of(job)
    first = read_table(Path(job.input.thresholds), "thresholds")
    table = estimate_for_target(
        first,
        read_table(Path(job.input.trials), "threshold_trials"),
        config.thresholds,
        read_prior(config.models[job.wildcards.model], job.input),
        float(job.wildcards.target),
    )
    norms = first.set_index("latent")["norm"]
    table = table.assign(norm=table["latent"].map(norms))
    write_table(table, output(job), "thresholds", origin(job))


if __name__ == "__main__":
    main(start(snakemake))

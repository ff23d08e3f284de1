"""Make thresholds-<target>.parquet: thresholds of every latent for another target (points)."""

from pathlib import Path
from typing import Any

import pandas as pd

from esr.job import config_of, origin, output, start
from esr.tables import read_table, write_table
from esr.thresholds.finder import Status
from esr.thresholds.liveness import with_liveness
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
    found = first.set_index("latent")
    inert = pd.DataFrame({"kl": None, "inert": found["status"].eq(str(Status.INERT))})
    table = with_liveness(table.assign(norm=table["latent"].map(found["norm"])), inert)
    write_table(table, output(job), "thresholds", origin(job))


if __name__ == "__main__":
    main(start(snakemake))

"""Make latents/concreteness.parquet: a rating (0-100 points) of every candidate's label."""

import logging
from pathlib import Path
from typing import Any

from esr.job import config_of, origin, output, start
from esr.judges import open_rater
from esr.latents.ratings import rate_labels
from esr.tables import read_table, write_table

log = logging.getLogger(__name__)


def main(job: Any) -> None:
    """Write the table."""
    candidates = read_table(Path(job.input.candidates), "candidates")
    labelled = candidates["label"].notna().any()
    if not labelled:
        log.warning("%s has no labels: concreteness is skipped", job.wildcards.model)
    # Without labels a study needs no rater, so it may name no lexicon and no language model.
    rater = open_rater(config_of(job), Path(job.params.replies)) if labelled else None
    write_table(rate_labels(candidates, rater), output(job), "concreteness", origin(job))


if __name__ == "__main__":
    main(start(snakemake))

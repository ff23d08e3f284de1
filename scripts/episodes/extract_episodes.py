"""Make episodes/episodes.parquet: self-corrections and the responses to compare them with."""

import logging
from pathlib import Path
from typing import Any

from esr.arms.restarts import read_phrases
from esr.episodes.extract import extract_episodes
from esr.job import config_of, origin, output, start
from esr.tables import read_table, write_table

log = logging.getLogger(__name__)


def main(job: Any) -> None:
    """Write the table."""
    config = config_of(job)
    name = job.wildcards.model
    annotated = job.input.boundaries
    table = extract_episodes(
        scores=read_table(Path(job.input.scores), "scores"),
        judgments=read_table(Path(job.input.judgments), "judgments"),
        responses=read_table(Path(job.input.responses), "responses"),
        phrases=read_phrases(Path(job.input.phrases)),
        settings=config.episodes,
        choose=not config.models[name].backtracking,
        boundaries=read_table(Path(annotated), "boundaries") if annotated else None,
    )
    for (group, status), rows in table.groupby(["group", "status"]):
        log.info("%s, %s: %d responses", group, status, len(rows))
    write_table(table.assign(model=name), output(job), "episodes", origin(job))


if __name__ == "__main__":
    main(start(snakemake))

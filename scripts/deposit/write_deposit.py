"""Make deposit/: an RO-Crate, a dataset folder, model cards and a logbook, from the bundle."""

import logging
from pathlib import Path
from typing import Any

from esr.deposit.build import Sources, write_deposit
from esr.job import config_of, output, start
from esr.paths import results_of

log = logging.getLogger(__name__)


def main(job: Any) -> None:
    """Write the deposit."""
    config, given = config_of(job), job.input
    sources = Sources(
        bundle=Path(given.bundle),
        scorecard=Path(given.scorecard),
        results=[Path(path) for path in given.results],
        inputs=[Path(path) for path in given.inputs],
        workflow=[Path(path) for path in given.workflow],
        citation=Path(given.citation),
        licences=Path(given.licences),
    )
    facts = write_deposit(output(job), config, sources, results_of(config.study))
    log.info("%s: study %s at revision %s", output(job), facts.study, facts.git)
    log.info("nothing was uploaded; `uv run esr upload --help` does that")


if __name__ == "__main__":
    main(start(snakemake))

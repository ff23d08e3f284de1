"""Validate a study as far as that goes without a GPU: configuration, prompts, tokenizers, labels.

Writes no file; what was checked is in the log, and a problem ends the job with its name.
"""

import logging
from typing import Any

from esr.job import config_of, start
from esr.planning.check import check_study

log = logging.getLogger(__name__)


def main(job: Any) -> None:
    """Run every check, then write the stamp file."""
    for line in check_study(config_of(job)):
        log.info("%s", line)


if __name__ == "__main__":
    main(start(snakemake))

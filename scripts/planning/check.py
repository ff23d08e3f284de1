"""Check a study without a GPU: configuration, prompts, tokenizers, labels, judges.

Writes no file. The log lists what was checked; a problem ends the job with its key and remedy.
"""

import logging
from typing import Any

from esr.job import config_of, start
from esr.planning.check import check_study

log = logging.getLogger(__name__)


def main(job: Any) -> None:
    """Run every check."""
    for line in check_study(config_of(job)):
        log.info("%s", line)


if __name__ == "__main__":
    main(start(snakemake))

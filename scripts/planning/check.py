"""Check a study without a GPU: configuration, prompts, tokenizers, labels, judges.

Writes no file. The log lists what was checked; a problem ends the job with its key and remedy.
"""

import logging
from typing import Any

from esr.assets.hub import go_offline_without_network
from esr.job import config_of, start
from esr.planning.check import check_study

log = logging.getLogger(__name__)


def main(job: Any) -> None:
    """Run every check."""
    config = config_of(job)
    sources = [*config.base_models.values(), *config.judging.local.values()]
    if not all(source.is_local for source in sources):
        go_offline_without_network()
    for line in check_study(config):
        log.info("%s", line)


if __name__ == "__main__":
    main(start(snakemake))

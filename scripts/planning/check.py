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
    here = [model.is_local for model in config.base_models.values()]
    here += [judge.is_local for judge in config.judging.local.values()]
    if not all(here):
        go_offline_without_network()
    for line in check_study(config):
        log.info("%s", line)


if __name__ == "__main__":
    main(start(snakemake))

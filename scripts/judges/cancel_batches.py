"""Cancel the batches that earlier runs left open at an API, and keep the replies that they have.

A batch goes on, and is billed, when the job that sent it ends. Calls that were cancelled are sent
again by the next run of the workflow.
"""

import logging
from typing import Any

from esr.config import AnthropicJudgeConfig
from esr.job import config_of, start
from esr.judges.llm import CachedLlm
from esr.judges.replies import reply_journals

log = logging.getLogger(__name__)


def main(job: Any) -> None:
    """Cancel them."""
    config = config_of(job)
    cancelled = 0
    for rule, name, path in reply_journals(config):
        settings = config.judging.llms[name]
        if not isinstance(settings, AnthropicJudgeConfig):
            continue
        count = CachedLlm(settings, path).cancel_batches()
        if count:
            log.info("%s by %s: %d batches were open", rule, name, count)
        cancelled += count
    log.info("%d batches cancelled or collected", cancelled)


if __name__ == "__main__":
    main(start(snakemake))

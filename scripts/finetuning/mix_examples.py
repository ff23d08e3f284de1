"""Make finetuning/dataset.jsonl of a fine-tuned model: its mixture, one chat a line.

A response is a list of parts, each with `text` and `train` (whether its tokens enter the loss).
"""

import logging
from pathlib import Path
from typing import Any

from esr.finetuning.mixtures import draw_mixture, to_chat, write_chats
from esr.job import config_of, output, start
from esr.tables import read_table

log = logging.getLogger(__name__)


def main(job: Any) -> None:
    """Write the dataset."""
    config = config_of(job)
    share = config.finetuned[job.wildcards.model].share
    mixture = draw_mixture(read_table(Path(job.input.examples), "examples"), config.finetune, share)
    for kind, count in mixture["kind"].value_counts().items():
        log.info("%d of kind %s (%d %% self-corrections)", count, kind, share)
    write_chats(map(to_chat, mixture.to_dict("records")), output(job))


if __name__ == "__main__":
    main(start(snakemake))

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
    made = config.finetuned[job.wildcards.model]
    examples = read_table(Path(job.input.examples), "examples")
    mixture = draw_mixture(examples, config.finetune, made.share, made.training)
    for kind, count in mixture["kind"].value_counts().items():
        log.info("%d of kind %s (%d %% self-corrections)", count, kind, made.share)
    write_chats(map(to_chat, mixture.to_dict("records")), output(job))


if __name__ == "__main__":
    main(start(snakemake))

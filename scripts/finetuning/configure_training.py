"""Make finetuning/axolotl.yaml of a fine-tuned model: axolotl's configuration.

A dataset that cannot be labelled or does not fit is an error here, before a GPU is requested.
"""

import json
from pathlib import Path
from typing import Any

import yaml

from esr.engines import open_tokenizer
from esr.finetuning.axolotl import axolotl_config
from esr.finetuning.masks import check_chats
from esr.finetuning.mixtures import read_chats
from esr.job import config_of, output, start


def main(job: Any) -> None:
    """Write the configuration; check the dataset against it."""
    manifest = json.loads(Path(job.input.base).read_text(encoding="utf-8"))
    config = config_of(job)
    number = config.finetuned[job.wildcards.model].training
    settings = config.finetune.training_of(number)
    dataset = Path(job.input.dataset)
    tokenizer = open_tokenizer(manifest)
    found = axolotl_config(settings, manifest, tokenizer, dataset, output(job).parent)
    check_chats(read_chats(dataset), tokenizer, found["sequence_len"])
    output(job).write_text(yaml.safe_dump(found, sort_keys=False), encoding="utf-8")


if __name__ == "__main__":
    main(start(snakemake))

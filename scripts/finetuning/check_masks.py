"""Make finetuning/masks.json: prepared rows are the dataset, with the right tokens trained on.

`rows` (number), tokens by part (`prompt`, `off_topic`, `trained`, `end`, `after`), the checksum of
the dataset, and a `sample` of rows for people: stretches with `trained` and `text`.
"""

import json
import logging
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from esr.engines import open_tokenizer
from esr.finetuning.masks import check_rows, shown
from esr.finetuning.mixtures import read_chats
from esr.job import origin, output, start
from esr.provenance import file_digest

log = logging.getLogger(__name__)

SAMPLE = 3
"""Rows shown of those that have an off-topic part, and of the others."""


def sample(
    rows: list[tuple[list[int], list[int]]], tokenizer: Any
) -> list[list[dict[str, bool | str]]]:
    """The first rows of either kind, decoded: those with self-correction are masked longer."""
    texts = [shown(ids, labels, tokenizer) for ids, labels in rows]
    masked = sorted(texts, key=lambda stretches: -len(stretches[0][1]))
    chosen = [*masked[:SAMPLE], *masked[-SAMPLE:]]
    return [[{"trained": trained, "text": text} for trained, text in row] for row in chosen]


def main(job: Any) -> None:
    """Check, and write what was checked."""
    tokenizer = open_tokenizer(json.loads(Path(job.input.base).read_text()))
    table = pq.read_table(job.input.rows).to_pydict()
    rows = list(zip(table["input_ids"], table["labels"], strict=True))
    counts = check_rows(rows, read_chats(Path(job.input.dataset)), tokenizer)
    log.info("%s", ", ".join(f"{count} {name}" for name, count in counts.items()))
    facts = {"dataset": file_digest(Path(job.input.dataset)), "esr": origin(job)}
    found = {**counts, **facts, "sample": sample(rows, tokenizer)}
    output(job).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(start(snakemake))

"""Make finetuning/masks.json: the prepared rows are the dataset, with the right labels.

Keys: `rows` (number of rows); `prompt`, `off_topic`, `trained`, `end` and `after` (number of tokens
of each part); `dataset` (its SHA-256); `sample` (rows as spans with `trained` and `text`); `esr`.
"""

import json
import logging
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from esr.engines import open_tokenizer
from esr.finetuning.masks import check_rows, training_spans
from esr.finetuning.mixtures import read_chats
from esr.job import origin, output, start
from esr.provenance import file_digest

log = logging.getLogger(__name__)

SAMPLE = 3
"""Number of rows in the sample, of those with an off-topic part and of the others each."""


def sample(
    rows: list[tuple[list[int], list[int]]], tokenizer: Any
) -> list[list[dict[str, bool | str]]]:
    """A few rows as spans; those with a self-correction have the longest untrained first span."""
    texts = [training_spans(ids, labels, tokenizer) for ids, labels in rows]
    masked = sorted(texts, key=lambda spans: -len(spans[0][1]))
    chosen = [*masked[:SAMPLE], *masked[-SAMPLE:]]
    return [[{"trained": trained, "text": text} for trained, text in row] for row in chosen]


def main(job: Any) -> None:
    """Check the rows and write the counts."""
    tokenizer = open_tokenizer(json.loads(Path(job.input.base).read_text(encoding="utf-8")))
    table = pq.read_table(job.input.rows).to_pydict()
    rows = list(zip(table["input_ids"], table["labels"], strict=True))
    counts = check_rows(rows, read_chats(Path(job.input.dataset)), tokenizer)
    log.info("%s", ", ".join(f"{count} {name}" for name, count in counts.items()))
    facts = {"dataset": file_digest(Path(job.input.dataset)), "esr": origin(job)}
    found = {**counts, **facts, "sample": sample(rows, tokenizer)}
    output(job).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(start(snakemake))

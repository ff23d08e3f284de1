"""Make plan.parquet and responses.parquet of an arm whose responses come from a file.

Columns are those of the tables `plan` and `responses`; there are no tokens. The file's checksum is
in the provenance of both.
"""

import hashlib
import logging
from pathlib import Path
from typing import Any

from esr.arms.prompts import read_prompts
from esr.arms.transcripts import transcript_tables
from esr.job import origin, output, start
from esr.tables import write_table

log = logging.getLogger(__name__)


def main(job: Any) -> None:
    """Write both tables."""
    path = Path(job.input.responses)
    prompts = read_prompts(Path(job.input.prompts))
    plan, responses = transcript_tables(path, prompts, job.wildcards.model, job.wildcards.arm)
    log.info("%d responses to %d prompts", len(plan), plan["prompt_id"].nunique())
    for status, number in responses["status"].value_counts().items():
        log.info("%d with status %s", number, status)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    facts = origin(job, engine={"engine": "imported", "file": path.as_posix(), "sha256": digest})
    write_table(plan, output(job, "plan"), "plan", facts)
    write_table(responses, output(job, "responses"), "responses", facts)


if __name__ == "__main__":
    main(start(snakemake))

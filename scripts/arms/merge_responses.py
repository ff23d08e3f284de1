"""Make responses.parquet of an arm: its shards, concatenated in the order of the plan."""

from pathlib import Path
from typing import Any

import pandas as pd

from esr.errors import EsrError
from esr.job import output, start
from esr.tables import read_provenance, read_table, write_table


def merge_shards(plan: pd.DataFrame, shards: list[pd.DataFrame]) -> pd.DataFrame:
    """Concatenate shards; they must hold exactly the planned trials, in order."""
    responses = pd.concat(shards, ignore_index=True)
    if responses["trial_id"].tolist() != plan["trial_id"].tolist():
        raise EsrError(
            f"{len(responses)} responses do not match the {len(plan)} planned trials; "
            "delete the arm's shards and run again (the journal keeps what was generated)"
        )
    return responses


def main(job: Any) -> None:
    """Write the merged table, with the provenance of the first shard."""
    plan = read_table(Path(job.input.plan), "plan")
    shards = [read_table(Path(path), "responses") for path in job.input.shards]
    facts = read_provenance(Path(job.input.shards[0]))
    write_table(merge_shards(plan, shards), output(job), "responses", facts)


if __name__ == "__main__":
    main(start(snakemake))

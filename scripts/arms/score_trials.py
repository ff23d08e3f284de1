"""Make scores/<judge>.parquet of an arm: one row a trial; scores in points, failures as status.

Attempts and scores are given twice: of all located attempts, and gated (`esr.arms.attempts`).
"""

from pathlib import Path
from typing import Any

from esr.arms.restarts import read_phrases
from esr.arms.scores import score_trials, without_degraded
from esr.job import origin, output, start
from esr.tables import read_provenance, read_table, write_table


def main(job: Any) -> None:
    """Write the table."""
    responses = Path(job.input.responses)
    judgments = Path(job.input.judgments)
    table = score_trials(
        read_table(Path(job.input.plan), "plan"),
        read_table(responses, "responses"),
        read_table(judgments, "judgments"),
        read_phrases(Path(job.input.phrases)),
        job.wildcards.judge,
    )
    if job.params.settings["judging.degraded"] == "excluded":
        table = without_degraded(table)
    facts = origin(
        job,
        engine=read_provenance(responses).get("engine"),
        judge=read_provenance(judgments).get("judge"),
    )
    write_table(table, output(job), "scores", facts)


if __name__ == "__main__":
    main(start(snakemake))

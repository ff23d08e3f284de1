"""Make judgments/<judge>.parquet of an arm: one row an attempt, with span and score (points)."""

from pathlib import Path
from typing import Any

from esr.arms.restarts import read_phrases
from esr.job import config_of, origin, output, start
from esr.judges import finish_judging, open_judge
from esr.judges.base import judge_responses
from esr.tables import read_table, write_table


def main(job: Any) -> None:
    """Write the table."""
    config = config_of(job)
    settings = config.judging.judges[job.wildcards.judge]
    judge = open_judge(settings, Path(job.params.replies), config=config)
    plan = read_table(Path(job.input.plan), "plan")
    responses = read_table(Path(job.input.responses), "responses")
    phrases = read_phrases(Path(job.input.phrases))
    table = judge_responses(plan, responses, judge, phrases, config.judged_alone)
    finish_judging(judge)
    write_table(table, output(job), "judgments", origin(job, judge=judge.served_as))


if __name__ == "__main__":
    main(start(snakemake))

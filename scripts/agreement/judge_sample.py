"""Make agreement/{judgments,scores}/<judge>.parquet: one judge on the cross-judge sample."""

from pathlib import Path
from typing import Any

from esr.arms.restarts import read_phrases
from esr.arms.scores import score_trials
from esr.job import config_of, origin, output, start
from esr.judges import open_judge
from esr.judges.base import judge_responses
from esr.tables import read_table, write_table


def main(job: Any) -> None:
    """Write judgments and scores."""
    config = config_of(job)
    phrases = read_phrases(Path(job.input.phrases))
    name = job.wildcards.judge
    judge = open_judge(
        config.judging.judges[name],
        Path(job.params.replies),
        config=config,
        others=[Path(path) for path in job.params.others],
    )
    sample = read_table(Path(job.input.sample), "sample")
    responses = sample[["trial_id", "response"]].assign(status="ok")
    judgments = judge_responses(sample, responses, judge, phrases)
    scores = score_trials(sample, responses, judgments, phrases, name)
    facts = origin(job, judge=judge.served_as)
    write_table(judgments, output(job, "judgments"), "judgments", facts)
    write_table(scores, output(job, "scores"), "scores", facts)


if __name__ == "__main__":
    main(start(snakemake))

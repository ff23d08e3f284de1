"""Make agreement/{judgments,scores}/<judge>.parquet: one judge on the cross-judge sample.

Scores are given plain and gated, as in an arm.
"""

from pathlib import Path
from typing import Any

from esr.agreement.grading import grade_sample
from esr.job import config_of, origin, output, start
from esr.judges import finish_judging, open_judge
from esr.tables import read_table, write_table


def main(job: Any) -> None:
    """Write judgments and scores."""
    config = config_of(job)
    name = job.wildcards.judge
    judge = open_judge(
        config.judging.judges[name],
        Path(job.params.replies),
        config=config,
        others=[Path(path) for path in job.params.others],
    )
    sample = read_table(Path(job.input.sample), "sample")
    judgments, scores = grade_sample(config, name, judge, sample)
    finish_judging(judge)
    facts = origin(job, judge=judge.served_as)
    write_table(judgments, output(job, "judgments"), "judgments", facts)
    write_table(scores, output(job, "scores"), "scores", facts)


if __name__ == "__main__":
    main(start(snakemake))

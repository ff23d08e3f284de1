"""Make agreement/retest/{judgments,scores}.parquet: the primary judge grades a part again.

A language model is called again, under another key; other judges grade the same text again. Scores
are given plain and gated, as in an arm.
"""

from pathlib import Path
from typing import Any

from esr.agreement.grading import grade_sample
from esr.agreement.retest import SECOND_CALL, draw_retest
from esr.job import config_of, origin, output, start
from esr.judges import finish_judging, open_judge
from esr.tables import read_table, write_table


def main(job: Any) -> None:
    """Write judgments and scores."""
    config = config_of(job)
    name = config.judging.primary
    judge = open_judge(
        config.judging.judges[name],
        Path(job.params.replies),
        config=config,
        repetition=SECOND_CALL,
    )
    sample = read_table(Path(job.input.sample), "sample")
    retest = draw_retest(sample, config.agreement.retest, config.agreement.seed)
    judgments, scores = grade_sample(config, name, judge, retest)
    finish_judging(judge)
    facts = origin(job, judge=judge.served_as)
    write_table(judgments, output(job, "judgments"), "judgments", facts)
    write_table(scores, output(job, "scores"), "scores", facts)


if __name__ == "__main__":
    main(start(snakemake))

"""Request missing replies again and complete the tables of judgments.

Every table of judgments with trials of status `api_error` is rewritten. Replies in the journal
cost nothing. The next run of the workflow rebuilds the files that depend on it.
"""

import logging
from pathlib import Path
from typing import Any

from esr.arms.restarts import read_phrases
from esr.arms.scores import score_trials
from esr.config import Config
from esr.job import config_of, start
from esr.judges import open_judge
from esr.judges.base import judge_responses
from esr.tables import read_provenance, read_table, write_table

log = logging.getLogger(__name__)


def incomplete(path: Path) -> int:
    """Trials without a reply in a table of judgments; 0 if there is no such table yet."""
    if not path.is_file():
        return 0
    return int(read_table(path, "judgments")["status"].eq("api_error").sum())


def rejudge_arm(config: Config, name: str, folder: Path, replies: Path) -> int:
    """Judge an arm again, from the journal but for what is missing; trials that still lack it."""
    path = folder / "judgments" / f"{name}.parquet"
    judge = open_judge(config.judging.judges[name], replies, config=config)
    plan = read_table(folder / "plan.parquet", "plan")
    responses = read_table(folder / "responses.parquet", "responses")
    phrases = read_phrases(config.judging.restart_phrases)
    table = judge_responses(plan, responses, judge, phrases)
    write_table(table, path, "judgments", read_provenance(path))
    return incomplete(path)


def rejudge_sample(config: Config, name: str, folder: Path, replies: Path) -> int:
    """The same for the sample that all judges grade, scores included."""
    path, scored = (folder / kind / f"{name}.parquet" for kind in ("judgments", "scores"))
    judge = open_judge(config.judging.judges[name], replies, config=config)
    sample = read_table(folder / "sample.parquet", "sample")
    responses = sample[["trial_id", "response"]].assign(status="ok")
    phrases = read_phrases(config.judging.restart_phrases)
    table = judge_responses(sample, responses, judge, phrases)
    scores = score_trials(sample, responses, table, phrases, name)
    facts = read_provenance(path)
    write_table(table, path, "judgments", facts)
    write_table(scores, scored, "scores", facts)
    return incomplete(path)


def main(job: Any) -> None:
    """Fill what is missing."""
    config = config_of(job)
    filled = 0
    results = Path("results") / config.study
    journals = results / "replies"
    for name in config.judging.llms:
        jobs = [
            (
                rejudge_arm,
                results / model / "arms" / arm,
                journals / "judge_responses" / model / arm,
            )
            for model, arm in job.params.cells
        ]
        jobs.append((rejudge_sample, results / "agreement", journals / "judge_sample"))
        for again, folder, replies in jobs:
            missing = incomplete(folder / "judgments" / f"{name}.parquet")
            if missing:
                left = again(config, name, folder, replies / f"{name}.jsonl")
                log.info("%s by %s: %d lacked a reply, %d still do", folder, name, missing, left)
                filled += 1
    log.info("%d tables filled%s", filled, "; run the workflow to rebuild the rest" * bool(filled))


if __name__ == "__main__":
    main(start(snakemake))

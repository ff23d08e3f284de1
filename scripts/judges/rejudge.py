"""Request missing replies again and complete the tables of judgments.

Every table of judgments with trials of status `api_error` is rewritten. Replies in the journal
cost nothing. The next run of the workflow rebuilds the files that depend on it.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from esr.agreement.grading import grade_sample
from esr.agreement.retest import SECOND_CALL, draw_retest
from esr.arms.restarts import read_phrases
from esr.config import Config
from esr.job import config_of, start
from esr.judges import open_judge
from esr.judges.base import Judge, judge_responses
from esr.tables import read_provenance, read_table, write_table

log = logging.getLogger(__name__)


class Graded(NamedTuple):
    """A table of judgments: what judges it again, its folder and path, the journal of replies."""

    again: Callable[[Config, str, Path, Path], int]
    folder: Path
    path: Path
    replies: Path


def incomplete(path: Path) -> int:
    """Trials without a reply in a table of judgments; 0 if there is no such table yet."""
    if not path.is_file():
        return 0
    return int(read_table(path, "judgments")["status"].eq("api_error").sum())


def rejudge_arm(config: Config, name: str, folder: Path, replies: Path) -> int:
    """Judge an arm again, from the journal but for what is missing; trials that still lack it."""
    path = folder / "judgments" / f"{name}.parquet"
    judge = open_judge(config.judging.judges[name], replies, config=config, anchored=False)
    plan = read_table(folder / "plan.parquet", "plan")
    responses = read_table(folder / "responses.parquet", "responses")
    phrases = read_phrases(config.judging.restart_phrases)
    table = judge_responses(plan, responses, judge, phrases, config.judged_alone)
    write_table(table, path, "judgments", read_provenance(path))
    return incomplete(path)


def rejudge_sample(config: Config, name: str, folder: Path, replies: Path) -> int:
    """The same for the sample that all judges grade, scores included."""
    path, scored = (folder / kind / f"{name}.parquet" for kind in ("judgments", "scores"))
    judge = open_judge(config.judging.judges[name], replies, config=config, anchored=False)
    sample = read_table(folder / "sample.parquet", "sample")
    return _grade_again(config, name, judge, sample, (path, scored))


def rejudge_retest(config: Config, name: str, folder: Path, replies: Path) -> int:
    """The same for the part of the sample that the primary judge grades a second time."""
    paths = folder / "retest/judgments.parquet", folder / "retest/scores.parquet"
    settings = config.judging.judges[name]
    judge = open_judge(settings, replies, config=config, repetition=SECOND_CALL, anchored=False)
    sample = read_table(folder / "sample.parquet", "sample")
    retest = draw_retest(sample, config.agreement.retest, config.agreement.seed)
    return _grade_again(config, name, judge, retest, paths)


def _grade_again(
    config: Config, name: str, judge: Judge, sample: pd.DataFrame, paths: tuple[Path, Path]
) -> int:
    """Write judgments and scores of sampled trials again; trials that still lack a reply."""
    tables = grade_sample(config, name, judge, sample)
    facts = read_provenance(paths[0])
    for table, path, kind in zip(tables, paths, ("judgments", "scores"), strict=True):
        write_table(table, path, kind, facts)
    return incomplete(paths[0])


def tables_of(config: Config, name: str, cells: Sequence[tuple[str, str]]) -> Iterator[Graded]:
    """Every table of judgments by one judge: of arms, of the sample, of the retest."""
    results = Path("results") / config.study
    journals = results / "replies"
    for model, arm in cells:
        folder = results / model / "arms" / arm
        replies = journals / "judge_responses" / model / arm / f"{name}.jsonl"
        yield Graded(rejudge_arm, folder, folder / "judgments" / f"{name}.parquet", replies)
    folder = results / "agreement"
    path = folder / "judgments" / f"{name}.parquet"
    yield Graded(rejudge_sample, folder, path, journals / "judge_sample" / f"{name}.jsonl")
    if name == config.judging.primary and config.agreement.retest:
        path = folder / "retest/judgments.parquet"
        yield Graded(rejudge_retest, folder, path, journals / "retest_sample" / f"{name}.jsonl")


def main(job: Any) -> None:
    """Fill what is missing."""
    config = config_of(job)
    filled = 0
    for name in config.judging.llms:
        if name in config.judging.local:
            continue  # a job on a GPU writes its replies, not this one
        for again, folder, path, replies in tables_of(config, name, job.params.cells):
            missing = incomplete(path)
            if missing:
                left = again(config, name, folder, replies)
                log.info("%s by %s: %d lacked a reply, %d still do", folder, name, missing, left)
                filled += 1
    log.info("%d tables filled%s", filled, "; run the workflow to rebuild the rest" * bool(filled))


if __name__ == "__main__":
    main(start(snakemake))

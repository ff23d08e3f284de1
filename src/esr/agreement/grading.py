"""Grading of sampled trials, which carry their prompts and responses."""

import pandas as pd

from esr.arms.restarts import read_phrases
from esr.arms.scores import score_trials
from esr.config import Config
from esr.judges.base import Judge, judge_responses


def grade_sample(
    config: Config, name: str, judge: Judge, sample: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tables `judgments` and `scores` of the sample by one judge.

    Args:
        config: The study.
        name: Name of the judge in it.
        judge: The judge, opened.
        sample: Table `sample`, or a part of it.
    """
    phrases = read_phrases(config.judging.restart_phrases)
    responses = sample[["trial_id", "response", "prefix_end"]].assign(status="ok")
    judgments = judge_responses(sample, responses, judge, phrases, config.judged_alone)
    return judgments, score_trials(sample, responses, judgments, phrases, name)

"""Make judgments/<judge>.parquet of an arm: one row an attempt, with span and score (points)."""

from pathlib import Path
from typing import Any

import pandas as pd

from esr.job import config_of, origin, output, start
from esr.judges import open_judge
from esr.judges.base import Exchange, Judge, Judgment, check_spans, judgments_table
from esr.tables import read_table, write_table


def judge_responses(plan: pd.DataFrame, responses: pd.DataFrame, judge: Judge) -> pd.DataFrame:
    """Judge the responses there are; the others keep their own status."""
    spoken = responses["status"].eq("ok").to_numpy()
    exchanges = [
        Exchange(trial.prompt, response, None if pd.isna(trial.label) else trial.label)
        for trial, response in zip(
            plan[spoken].itertuples(), responses.loc[spoken, "response"], strict=True
        )
    ]
    judged = iter(judge.judge(exchanges))
    judgments = []
    for response in responses.itertuples():
        judgment = next(judged) if response.status == "ok" else Judgment(response.status)
        check_spans(judgment, response.response if response.status == "ok" else "")
        judgments.append(judgment)
    return judgments_table(responses["trial_id"].tolist(), judgments, judge.served_as)


def main(job: Any) -> None:
    """Write the table."""
    judge = open_judge(config_of(job).judging.judges[job.wildcards.judge])
    plan = read_table(Path(job.input.plan), "plan")
    responses = read_table(Path(job.input.responses), "responses")
    table = judge_responses(plan, responses, judge)
    write_table(table, output(job), "judgments", origin(job, judge=judge.served_as))


if __name__ == "__main__":
    main(start(snakemake))

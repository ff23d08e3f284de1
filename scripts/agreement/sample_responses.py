"""Make agreement/sample.parquet: the trials that all judges grade, one row each, with weights."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from esr.agreement.sample import STRATUM, draw_sample, strata
from esr.arms.scores import KEY
from esr.job import config_of, origin, output, start
from esr.tables import TABLES, read_table, write_table

log = logging.getLogger(__name__)


def trials_of(plan: pd.DataFrame, responses: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """Trials of an arm that have a response, with their stratum.

    Their `trial_id` is unique in the study, since models share trials.
    """
    columns = ["trial_id", "response", "prefix_end"]
    texts = responses.loc[responses["status"].eq("ok"), columns]
    found = scores[["trial_id"]].assign(stratum=strata(scores))
    trials = plan.merge(texts, on="trial_id", validate="one_to_one")
    trials = trials.merge(found, on="trial_id", validate="one_to_one")
    keys = zip(*(trials[name] for name in KEY), strict=True)
    return trials.assign(trial_id=["/".join(key) for key in keys])


def main(job: Any) -> None:
    """Write the sample."""
    parts = [
        trials_of(
            read_table(Path(plan), "plan"),
            read_table(Path(responses), "responses"),
            read_table(Path(scores), "scores"),
        )
        for plan, responses, scores in zip(
            job.input.plans, job.input.responses, job.input.scores, strict=True
        )
    ]
    sample = draw_sample(pd.concat(parts, ignore_index=True), config_of(job).agreement)
    for (model, arm, stratum), group in sample.groupby(STRATUM):
        size = group["stratum_size"].iloc[0]
        log.info("%s, %s, %s: %d of %d trials", model, arm, stratum, len(group), size)
    write_table(sample[list(TABLES["sample"].columns)], output(job), "sample", origin(job))


if __name__ == "__main__":
    main(start(snakemake))

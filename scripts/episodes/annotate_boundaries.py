"""Make episodes/boundaries.parquet: first characters of the regions of each self-correction."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from esr.episodes.extract import episode_groups
from esr.job import config_of, origin, output, start
from esr.judges.llm import open_llm
from esr.judges.rubrics import read_rubric
from esr.judges.tasks import Boundaries, annotate_boundaries
from esr.tables import read_table, write_table

log = logging.getLogger(__name__)


def boundaries_table(trials: pd.Series, found: list[Boundaries]) -> pd.DataFrame:
    """Lay boundaries out, one row a trial."""
    table = pd.DataFrame(found, columns=list(Boundaries._fields)).astype(
        dict.fromkeys(Boundaries._fields[1:], "Int64")
    )
    table = table.rename(columns={name: f"{name}_start" for name in Boundaries._fields[1:]})
    return table.assign(trial_id=trials.tolist())


def main(job: Any) -> None:
    """Write the table."""
    config = config_of(job)
    settings = config.judging.llms[config.episodes.boundaries]
    scores = read_table(Path(job.input.scores), "scores")
    episodes = scores[episode_groups(scores, config.episodes).eq("episode").fillna(False)]
    texts = read_table(Path(job.input.responses), "responses")[["trial_id", "response"]]
    prompts = read_table(Path(job.input.plan), "plan")[["trial_id", "prompt"]]
    shown = episodes[["trial_id"]].merge(texts, on="trial_id").merge(prompts, on="trial_id")
    pairs = list(zip(shown["prompt"], shown["response"], strict=True))
    llm = open_llm(config, settings, Path(job.params.replies))
    rubric = read_rubric(Path(job.input.rubric)).for_model(settings)
    found = annotate_boundaries(pairs, rubric, llm)
    table = boundaries_table(shown["trial_id"], found)
    for status, rows in table.groupby("status"):
        log.info("%s: %d self-corrections", status, len(rows))
    write_table(table, output(job), "boundaries", origin(job, judge=settings.model))


if __name__ == "__main__":
    main(start(snakemake))

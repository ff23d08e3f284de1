"""Make plan.parquet of an arm: one row a trial, with all that determines it."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from esr.config import Arm, Config
from esr.job import config_of, origin, output, start
from esr.prompts import read_prompts
from esr.tables import read_table, write_table
from esr.trials import apply_condition, latent_trials, new_trials, prompt_trials

log = logging.getLogger(__name__)


def draw_trials(config: Config, arm: Arm, inputs: Any) -> pd.DataFrame:
    """Draw the trials of an arm before its condition: replayed, over prompts, or over latents."""
    if arm.replay is not None:
        return read_table(Path(inputs.replayed), "plan")
    prompts, seed = read_prompts(Path(inputs.prompts)), config.seeds.generation
    trials = int(arm.trials or 0)
    if arm.over == "prompts":
        return new_trials(prompt_trials(prompts, trials), seed)
    latents = read_table(Path(inputs.latents), "latents")
    thresholds = read_table(Path(inputs.thresholds), "thresholds")
    for status, number in thresholds["status"].value_counts().items():
        log.info("%d latents with threshold %s", number, status)
    return new_trials(latent_trials(latents, thresholds, prompts, trials, seed), seed)


def main(job: Any) -> None:
    """Write the plan."""
    config = config_of(job)
    arm = config.arms[job.wildcards.arm]
    plan = apply_condition(draw_trials(config, arm, job.input), arm)
    log.info("%d trials of %d latents", len(plan), plan["latent"].nunique())
    write_table(plan, output(job), "plan", origin(job))


if __name__ == "__main__":
    main(start(snakemake))

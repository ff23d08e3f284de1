"""Make plan.parquet of an arm: one row a trial, with everything that determines it."""

import json
import logging
from pathlib import Path
from typing import Any

import pandas as pd

from esr.arms.plan import (
    apply_condition,
    first_latents,
    latent_trials,
    new_trials,
    on_own_prompts,
    other_seeds,
    prompt_trials,
    sweep,
    sweep_levels,
)
from esr.arms.prompts import read_prompts
from esr.arms.restarts import read_phrases
from esr.arms.transcripts import read_transcripts
from esr.config import ArmConfig, Config, LevelsConfig
from esr.detectors.means import read_means
from esr.engines import open_tokenizer
from esr.errors import EsrError
from esr.job import config_of, origin, output, start
from esr.tables import read_table, write_table

log = logging.getLogger(__name__)


def draw_trials(config: Config, name: str, inputs: Any, model: str) -> pd.DataFrame:
    """Trials of an arm before its condition: replayed, continued, over prompts or latents."""
    arm = config.arms[name]
    if arm.source is not None:
        refuse_numbered_concepts(config, name)
        replayed = first_latents(read_table(Path(inputs.replayed), "plan"), arm.latents)
        if arm.continued is not None:
            return continue_texts(config, name, replayed, inputs, model)
        return other_seeds(replayed, name) if arm.seeds == "other" else replayed
    prompts = read_prompts(Path(inputs.prompts))
    seed = config.seeds.generation
    trials = int(arm.trials or 0)
    if arm.over == "prompts":
        return new_trials(prompt_trials(prompts, trials), seed)
    source = "latents" if arm.directions is None else "directions"
    latents = read_table(Path(inputs.latents), source)
    if arm.latents is not None:
        first = latents[latents["selected"]].nsmallest(arm.latents, "order")["latent"]
        latents = latents[latents["latent"].isin(first)]
    if name in config.held_out:
        latents = on_own_prompts(latents, read_table(Path(inputs.relevance), "relevance"))
    thresholds = read_table(Path(inputs.thresholds), "thresholds")
    for status, number in thresholds["status"].value_counts().items():
        log.info("%d latents with threshold %s", number, status)
    others = arm.directions is not None
    found = latent_trials(latents, thresholds, prompts, trials, seed, may_be_none=others)
    if found.empty:
        log.warning("no trials: no direction of %s has a usable threshold", arm.directions)
    drawn = new_trials(found, seed)
    if isinstance(arm.boost, LevelsConfig) and len(drawn):
        return sweep(drawn, sweep_levels(thresholds, arm.boost))
    return drawn


def continue_texts(
    config: Config, name: str, trials: pd.DataFrame, inputs: Any, model: str
) -> pd.DataFrame:
    """Trials with the prefixes of an arm: off-topic texts, or on-topic ones in their place."""
    from esr.arms.continuing import continuing_trials, off_topic_texts, on_topic_trials

    settings = config.arms[name].continued
    assert settings is not None
    manifest = json.loads(Path(inputs.model).read_text(encoding="utf-8"))
    tokenizer = open_tokenizer(manifest, config.models[model].template)
    responses = read_table(Path(inputs.responses), "responses")
    if settings.where == "on_topic":
        texts = read_table(Path(inputs.texts), "plan")
        return on_topic_trials(trials, texts, responses, tokenizer, name)
    judged = (
        read_table(Path(inputs.judgments), "judgments"),
        read_table(Path(inputs.scores), "scores"),
    )
    phrases = read_phrases(Path(inputs.phrases))
    found = off_topic_texts(trials, responses, *judged, phrases, settings.below)
    return continuing_trials(found, settings, tokenizer, name)


def refuse_numbered_concepts(config: Config, name: str) -> None:
    """Raise if a replay would steer latents that only number the concepts of an imported file.

    Raises:
        EsrError: the arm steers, and the file that it replays names concepts without latents.
    """
    path = config.origin_of(name).responses
    if path is None or not config.is_steered(name):
        return
    bare = [row.where for row in read_transcripts(path) if row.names_concept_alone]
    if bare:
        raise EsrError(
            f"arms.{name}.replay: {path}, {bare[0]}: a concept without `latent`, so there is no "
            "latent of the SAE to steer; give each row its latent, or remove the replay"
        )


def ablated_latents(arm: ArmConfig, inputs: Any) -> list[int]:
    """Latents that `arm.ablate` names by kind: detectors, or a random set matched to them."""
    if arm.ablate == "detectors":
        table = read_table(Path(inputs.detectors), "detectors")
        found = table.loc[table["detector"], "latent"].tolist()
    elif isinstance(arm.ablate, str):
        table = read_table(Path(inputs.controls), "controls")
        number = int(arm.ablate.removeprefix("random-"))
        found = sorted(table.loc[table["set"].eq(number), "latent"])  # the table's order may vary
    else:
        return []
    if not found:
        log.warning("no detectors: nothing to ablate, and no trial of this arm will be generated")
    return found


def mean_activations(arm: ArmConfig, inputs: Any) -> dict[int, float]:
    """Mean activation of each latent on unsteered answers, if the arm clamps latents to it."""
    if arm.ablate_to != "mean":
        return {}
    return read_means(Path(inputs.means))


def main(job: Any) -> None:
    """Write the plan."""
    config = config_of(job)
    name = job.wildcards.arm
    arm = config.arms[name]
    trials = draw_trials(config, name, job.input, job.wildcards.model)
    ablated, means = ablated_latents(arm, job.input), mean_activations(arm, job.input)
    plan = apply_condition(trials, arm, ablated, config.steering.prompt, means)
    plan = plan.assign(model=job.wildcards.model, arm=name)
    log.info("%d trials of %d latents", len(plan), plan["latent"].nunique())
    write_table(plan, output(job), "plan", origin(job))


if __name__ == "__main__":
    main(start(snakemake))

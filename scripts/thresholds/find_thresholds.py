"""Make thresholds.parquet (one row a latent) and threshold_trials.parquet (one row a response).

Boosts are in raw decoder units, scores 0-100 points.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from esr.arms.chat import prompt_tokens, response_text
from esr.arms.prompts import read_prompts
from esr.arms.responses import response_status, steered_window
from esr.config import Config, ThresholdPriorConfig
from esr.engines import open_engine, open_tokenizer, sampling_of
from esr.engines.base import Engine, Generation, Intervention, Request
from esr.job import config_of, origin, output, start
from esr.journal import Journal
from esr.judges import finish_judging, open_judge
from esr.judges.base import Judge, JudgeInput
from esr.judges.identity import scoring_facts
from esr.tables import read_table, write_table
from esr.thresholds.dose import norms_of
from esr.thresholds.liveness import (
    first_tokens,
    measure_liveness,
    probed_boosts,
    with_liveness,
)
from esr.thresholds.pipeline import QueryPipeline
from esr.thresholds.prior import read_prior
from esr.thresholds.search import ProposalLog, Query, find_thresholds

log = logging.getLogger(__name__)


def open_pipeline(
    config: Config,
    model: str,
    engine: Engine,
    tokenizer: Any,
    judge: Judge,
    journal: Journal,
    labels: Mapping[int, str | None],
    directions: str | None = None,
) -> QueryPipeline:
    """Pipeline that runs queries with the engine, its journal, and the judge."""
    prompts = read_prompts(config.prompts).set_index("prompt_id")["prompt"]

    @cache
    def rendered(prompt: Any) -> tuple[int, ...]:
        doubled = config.generation.doubled_header
        return prompt_tokens(tokenizer, prompts[prompt], doubled_header=doubled)

    def request(query: Query) -> Request:
        tokens = rendered(query.prompt_id)
        window = steered_window(config.steering.prompt, len(tokens))
        what = Intervention(query.latent, query.boost, window=window, directions=directions)
        return Request(tokens, query.seed, what)

    def exchange(query: Query, generation: Generation) -> JudgeInput | str:
        if (status := response_status(generation, tokenizer)) != "ok":
            return status
        response = response_text(tokenizer, generation.tokens)
        return JudgeInput(prompts[query.prompt_id], response, labels[query.latent])

    return QueryPipeline(engine, sampling_of(config, model), journal, judge, request, exchange)


def rendered_prompts(config: Config, tokenizer: Any) -> list[tuple[int, ...]]:
    """Token ids of the study's prompts, in the chat template."""
    doubled = config.generation.doubled_header
    texts = read_prompts(config.prompts)["prompt"]
    return [prompt_tokens(tokenizer, text, doubled_header=doubled) for text in texts]


def determining_settings(
    config: Config, model: str, engine: Engine, prior: ThresholdPriorConfig
) -> dict[str, Any]:
    """What the proposals of a search follow from: their keys in the journal.

    Of the judge, what its scores follow from, and neither its hardware nor its batch size.
    """
    search = [part.model_dump() for part in (config.thresholds, prior)]
    found = {
        "engine": engine.identity,
        "sampling": asdict(sampling_of(config, model)),
        "judge": scoring_facts(config.judging.judges[config.judging.primary]),
        "search": [*search, config.seeds.thresholds],
    }
    if config.steering.prompt:  # at the default, proposals that are known keep their keys
        return found
    return found | {"steering": config.steering.model_dump()}


def former_settings(config: Config, determining: Mapping[str, Any]) -> dict[str, Any]:
    """The same as version 0.1 had them: with all settings of the judge."""
    plain = config.judging.judges[config.judging.primary].model_dump(mode="json")
    later = {name for name in ("kv_cache",) if plain.get(name) is None} | {"prompt_lookup"}
    judge = {name: value for name, value in plain.items() if name not in later}
    return {**determining, "judge": judge}


def main(job: Any) -> None:
    """Write both tables."""
    config = config_of(job)
    name = job.wildcards.model
    manifest = json.loads(Path(job.input.model).read_text(encoding="utf-8"))
    settings = config.judging.judges[config.judging.primary]
    beside = config.gpus(name) if config.search_gpus else 0
    replies = Path(job.params.replies)
    judge = open_judge(settings, replies, config=config, live=True, beside=beside)
    sets = [Path(path) for path in job.input.get("directions", [])]
    engine = open_engine(config, name, manifest, Path(job.input.sae), sets)
    directions = Path(sets[0]).parent.name if sets else None
    latents = read_table(Path(job.input.latents), "directions" if sets else "latents")
    labels = {
        row.latent: row.label if pd.notna(row.label) else None for row in latents.itertuples()
    }
    prior = read_prior(config.models[name], job.input)
    search = (config.thresholds, prior, config.seeds.thresholds)
    determining = determining_settings(config, name, engine, prior)
    tokenizer = open_tokenizer(manifest, config.models[name].template)
    with (
        Journal(Path(job.params.journal)) as journal,
        open_pipeline(
            config, name, engine, tokenizer, judge, journal, labels, directions
        ) as pipeline,
    ):
        former = former_settings(config, determining)
        proposals = ProposalLog(journal if pipeline.independent else None, former, **determining)
        thresholds, trials = find_thresholds(latents, *search, pipeline, proposals)
        boosts = probed_boosts(thresholds, trials)
        prompts = first_tokens(
            engine,
            rendered_prompts(config, tokenizer),
            len(tokenizer),
            sampling_of(config, name),
            journal,
        )
        chosen = thresholds["latent"].tolist()
        liveness = measure_liveness(engine, chosen, boosts, directions, prompts, journal)
    thresholds = with_liveness(thresholds, liveness)
    log.info("%d of %d directions change no prediction", liveness["inert"].sum(), len(liveness))
    vectors = sets[0] if sets else Path(job.input.sae)
    norms = norms_of(thresholds["latent"].tolist(), vectors, directions)
    finish_judging(judge)
    facts = origin(job, engine=engine.identity, judge=judge.served_as)
    write_table(trials, output(job, "trials"), "threshold_trials", facts)
    write_table(thresholds.assign(norm=norms), output(job, "thresholds"), "thresholds", facts)


if __name__ == "__main__":
    main(start(snakemake))

"""Make thresholds.parquet (one row a latent) and threshold_trials.parquet (one row a response).

Boosts are in raw decoder units, scores 0-100 points.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from esr.answers import Desk
from esr.calibration import Course, Query, find_thresholds
from esr.chat import prompt_tokens, response_text
from esr.config import Config
from esr.engines import open_engine, open_tokenizer, sampling_of
from esr.engines.base import Engine, Generation, Intervention, Request
from esr.job import config_of, origin, output, start
from esr.journal import Journal
from esr.judges import open_judge
from esr.judges.base import Exchange, Judge
from esr.prompts import read_prompts
from esr.tables import read_table, write_table


def open_desk(
    config: Config,
    model: str,
    engine: Engine,
    tokenizer: Any,
    judge: Judge,
    journal: Journal,
    labels: Mapping[int, str | None],
) -> Desk:
    """Where queries are answered: by the engine, with the journal, and the judge."""
    prompts = read_prompts(config.prompts).set_index("prompt_id")["prompt"]
    doubled = config.generation.doubled_header

    def request(query: Query) -> Request:
        tokens = prompt_tokens(tokenizer, prompts[query.prompt_id], doubled_header=doubled)
        return Request(tokens, query.seed, Intervention(query.latent, query.boost))

    def exchange(query: Query, generation: Generation) -> Exchange:
        said = response_text(tokenizer, generation.tokens)
        return Exchange(prompts[query.prompt_id], said, labels[query.latent])

    return Desk(engine, sampling_of(config, model), journal, judge, request, exchange)


def main(job: Any) -> None:
    """Write both tables."""
    config, name = config_of(job), job.wildcards.model
    manifest = json.loads(Path(job.input.model).read_text())
    settings = config.judging.judges[config.judging.primary]
    judge = open_judge(settings, Path(job.params.replies), config=config, live=True)
    engine = open_engine(config, name, manifest, Path(job.input.sae))
    latents = read_table(Path(job.input.latents), "latents")
    labels = {
        row.latent: row.label if pd.notna(row.label) else None for row in latents.itertuples()
    }
    search = (config.thresholds, config.models[name].boosts, config.seeds.boosts)
    determining = {
        "engine": engine.identity,
        "sampling": asdict(sampling_of(config, name)),
        "judge": settings.model_dump(mode="json"),
        "search": [part.model_dump() for part in search[:2]] + [search[2]],
    }
    tokenizer = open_tokenizer(manifest)
    with (
        Journal(Path(job.params.journal)) as journal,
        open_desk(config, name, engine, tokenizer, judge, journal, labels) as desk,
    ):
        course = Course(journal if desk.independent else None, **determining)
        thresholds, trials = find_thresholds(latents, *search, desk, course)
    facts = origin(job, engine=engine.identity, judge=judge.served_as)
    write_table(trials, output(job, "trials"), "threshold_trials", facts)
    write_table(thresholds, output(job, "thresholds"), "thresholds", facts)


if __name__ == "__main__":
    main(start(snakemake))

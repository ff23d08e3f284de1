"""Make thresholds.parquet (one row a latent) and threshold_trials.parquet (one row a response).

Boosts are in raw decoder units, scores 0-100 points.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from esr.calibration import Answer, Query, find_thresholds
from esr.chat import prompt_tokens, response_text
from esr.config import Config
from esr.engines import open_engine, open_tokenizer, sampling_of
from esr.engines.base import Engine, Intervention, Request, Sampling
from esr.generate import generate_journaled
from esr.job import config_of, origin, output, start
from esr.journal import Journal
from esr.judges import open_judge
from esr.judges.base import Exchange, Judge, Judgment
from esr.prompts import read_prompts
from esr.tables import read_table, write_table


def answering(
    config: Config,
    engine: Engine,
    tokenizer: Any,
    judge: Judge,
    sampling: Sampling,
    journal: Journal,
    labels: Mapping[int, str | None],
) -> Answer:
    """Answer queries by generating, with the journal, and judging."""
    prompts = read_prompts(config.prompts).set_index("prompt_id")["prompt"]
    doubled = config.generation.doubled_header

    def request(query: Query) -> Request:
        tokens = prompt_tokens(tokenizer, prompts[query.prompt_id], doubled_header=doubled)
        return Request(tokens, query.seed, Intervention(query.latent, query.boost))

    def answer(queries: Sequence[Query]) -> list[Judgment]:
        requests = [request(query) for query in queries]
        done = generate_journaled(engine, requests, sampling, journal)
        exchanges = [
            Exchange(
                prompts[query.prompt_id],
                response_text(tokenizer, generation.tokens),
                labels[query.latent],
            )
            for query, generation in zip(queries, done, strict=True)
        ]
        return [
            judgment if generation.finish_reason != "error" else Judgment("engine_error")
            for judgment, generation in zip(judge.judge(exchanges), done, strict=True)
        ]

    return answer


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
    sampling = sampling_of(config, name)
    with Journal(Path(job.params.journal)) as journal:
        tokenizer = open_tokenizer(manifest)
        answer = answering(config, engine, tokenizer, judge, sampling, journal, labels)
        thresholds, trials = find_thresholds(
            latents, config.thresholds, config.models[name].boosts, config.seeds.boosts, answer
        )
    facts = origin(job, engine=engine.identity, judge=judge.served_as)
    write_table(trials, output(job, "trials"), "threshold_trials", facts)
    write_table(thresholds, output(job, "thresholds"), "thresholds", facts)


if __name__ == "__main__":
    main(start(snakemake))

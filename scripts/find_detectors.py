"""Make detectors/detectors.parquet (one row a latent) and detectors/detector_pairs.parquet.

Read are the responses of the discovery arm after their own prompts (matched) and after prompts of
another category (mismatched); activations are in the SAE's own units.
"""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from esr.detectors import Pairs, derange, detector_table, hold_out, pair_table
from esr.engines import open_engine, open_tokenizer
from esr.engines.base import Engine, Reading, Request
from esr.generate import requests_of
from esr.job import config_of, origin, output, start
from esr.prompts import read_prompts
from esr.tables import read_table, write_table

log = logging.getLogger(__name__)


def read_pairs(
    engine: Engine,
    requests: Sequence[Request],
    responses: Sequence[Sequence[int]],
    partner: Sequence[int],
    whole: bool,
    pool: str,
) -> np.ndarray:
    """Pooled activations of each prompt followed by the response of its partner."""
    readings = [
        Reading(
            (*request.tokens, *(int(token) for token in responses[other])),
            start=1 if whole else len(request.tokens),
        )
        for request, other in zip(requests, partner, strict=True)
    ]
    return np.stack(engine.encode(readings, pool=pool))  # type: ignore[arg-type]


def main(job: Any) -> None:
    """Write both tables."""
    config, name = config_of(job), job.wildcards.model
    settings, model = config.detectors, config.models[name]
    manifest = json.loads(Path(job.input.model).read_text())
    plan = read_table(Path(job.input.plan), "plan")
    responses = read_table(Path(job.input.responses), "responses")
    spoken = (
        responses["status"].eq("ok") & responses["tokens"].map(len, "ignore").gt(0)
    ).to_numpy()
    log.info("%d of %d discovery responses are read", spoken.sum(), len(spoken))
    plan, tokens = plan[spoken], responses.loc[spoken, "tokens"].tolist()
    prompts = read_prompts(Path(job.input.prompts)).set_index("prompt_id")
    requests = requests_of(plan, open_tokenizer(manifest), config.generation.doubled_header)
    engine = open_engine(config, name, manifest, Path(job.input.sae))
    partner = derange(prompts.loc[plan["prompt_id"], "category"].tolist(), settings.seed)
    how = {"whole": settings.span == "all", "pool": settings.pool}
    pairs = Pairs(
        read_pairs(engine, requests, tokens, range(len(plan)), **how),  # type: ignore[arg-type]
        read_pairs(engine, requests, tokens, partner.tolist(), **how),  # type: ignore[arg-type]
        hold_out(len(plan), settings.held_out, settings.seed),
    )
    labels = read_table(Path(job.input.labels), "labels")
    table = detector_table(pairs, labels, settings, model.detectors)
    kept: pd.Series = table["found"] | table["given"]
    log.info("found %d, given %d, both %d", *_counts(table))
    facts = origin(job, engine=engine.identity)
    write_table(table, output(job, "detectors"), "detectors", facts)
    pair_rows = pair_table(pairs, table.loc[kept, "latent"].tolist())
    write_table(pair_rows, output(job, "pairs"), "detector_pairs", facts)


def _counts(table: pd.DataFrame) -> tuple[int, int, int]:
    both = table["found"] & table["given"]
    return int(table["found"].sum()), int(table["given"].sum()), int(both.sum())


if __name__ == "__main__":
    main(start(snakemake))

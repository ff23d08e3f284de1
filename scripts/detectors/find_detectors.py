"""Make detectors/detectors.parquet (one row a latent) and detectors/detector_pairs.parquet.

Responses of the discovery arm are encoded after their own prompts (matched) and after prompts of
another category (mismatched). Activations are in the SAE's own units. Without the discovery arm
nothing is searched, and both tables are empty.
"""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from esr.arms.prompts import read_prompts
from esr.arms.responses import requests_of
from esr.config import DetectorsConfig
from esr.detectors.search import Pairs, assign_mismatched, detector_table, hold_out, pair_table
from esr.engines import open_engine, open_tokenizer
from esr.engines.base import EncodeRequest, Engine, Request
from esr.errors import EsrError
from esr.job import config_of, origin, output, start
from esr.tables import TABLES, read_table, write_table

log = logging.getLogger(__name__)


def encode_pairs(
    engine: Engine,
    requests: Sequence[Request],
    responses: Sequence[Sequence[int]],
    partner: Sequence[int],
    settings: DetectorsConfig,
) -> np.ndarray:
    """Pooled activations (pairs d_sae) of each prompt followed by the response of its partner."""
    # A BOS is the same everywhere, and its activations are so large in many models that it
    # would dominate the pool.
    whole = settings.span == "all"
    passes = [
        EncodeRequest(
            (*request.tokens, *(int(token) for token in responses[other])),
            start=1 if whole else len(request.tokens),
        )
        for request, other in zip(requests, partner, strict=True)
    ]
    return np.stack(engine.encode(passes, pool=settings.pool))


def trials_with_response(
    plan: pd.DataFrame, responses: pd.DataFrame, arm: str
) -> tuple[pd.DataFrame, list[Sequence[int]]]:
    """Discovery trials that have a response, and its tokens."""
    ok = responses["status"].eq("ok") & responses["tokens"].map(len, "ignore").gt(0)
    log.info("%d of %d discovery responses are encoded", ok.sum(), len(ok))
    if not ok.any():
        raise EsrError(
            f"arm {arm} has no response, so no detectors can be found; see its exclusions"
        )
    return plan[ok.to_numpy()], responses.loc[ok, "tokens"].tolist()


def write_empty(job: Any) -> None:
    """Write both tables without rows: there is no text to search."""
    log.warning("the study has no arm %s: no detectors are searched", config_of(job).detectors.arm)
    for name, table in (("detectors", "detectors"), ("pairs", "detector_pairs")):
        columns = list(TABLES[table].columns)
        write_table(pd.DataFrame(columns=columns), output(job, name), table, origin(job))


def main(job: Any) -> None:
    """Write both tables."""
    if not job.input.plan:
        write_empty(job)
        return
    config = config_of(job)
    name = job.wildcards.model
    settings = config.detectors
    model = config.models[name]
    manifest = json.loads(Path(job.input.model).read_text(encoding="utf-8"))
    plan, tokens = trials_with_response(
        read_table(Path(job.input.plan), "plan"),
        read_table(Path(job.input.responses), "responses"),
        settings.arm,
    )
    known = read_prompts(Path(job.input.prompts)).set_index("prompt_id")["category"]
    prompts = plan["prompt_id"].tolist()
    categories = known.loc[plan["prompt_id"]].tolist()
    held_out = hold_out(prompts, categories, settings.held_out, settings.seed)
    partner = assign_mismatched(categories, held_out, settings.seed)
    tokenizer = open_tokenizer(manifest, model.template)
    requests = requests_of(plan, tokenizer, config.generation.doubled_header)
    engine = open_engine(config, name, manifest, Path(job.input.sae))
    matched = encode_pairs(engine, requests, tokens, range(len(plan)), settings)
    mismatched = encode_pairs(engine, requests, tokens, partner.tolist(), settings)
    pairs = Pairs(matched, mismatched, held_out, prompts, partner)
    labels = read_table(Path(job.input.labels), "labels")
    table = detector_table(pairs, labels, settings, model.detectors)
    kept: pd.Series = table["found"] | table["given"]
    log.info("found %d, given %d, both %d", *_counts(table))
    facts = origin(job, engine=engine.identity)
    write_table(table.assign(model=name), output(job, "detectors"), "detectors", facts)
    pair_rows = pair_table(pairs, table.loc[kept, "latent"].tolist())
    write_table(pair_rows.assign(model=name), output(job, "pairs"), "detector_pairs", facts)


def _counts(table: pd.DataFrame) -> tuple[int, int, int]:
    both = table["found"] & table["given"]
    return int(table["found"].sum()), int(table["given"].sum()), int(both.sum())


if __name__ == "__main__":
    main(start(snakemake))

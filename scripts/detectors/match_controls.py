"""Make detectors/controls.parquet: random sets of latents as active as the detectors.

Activity is measured on the responses of the steered arm, with the residual stream that an ablation
would encode: frequency (share of tokens on which a latent is active) and mean activation. Without
detectors, or without the steered arm, there is nothing to match, and the table is empty.
"""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from esr.arms.responses import requests_of
from esr.detectors.controls import match_controls, summarise_sets
from esr.engines import open_engine, open_tokenizer
from esr.engines.base import EncodeRequest, Engine, Intervention, Request
from esr.errors import EsrError
from esr.job import config_of, origin, output, start
from esr.tables import TABLES, read_table, write_table

log = logging.getLogger(__name__)


def steered_passes(
    requests: Sequence[Request], responses: Sequence[Sequence[int] | None], earlier: bool
) -> list[EncodeRequest]:
    """Passes over the responses that exist.

    Args:
        requests: Of the steered arm.
        responses: Tokens of each response; missing where the engine failed.
        earlier: Whether the steering layer comes before the encoded layer. At the same layer or
            later, an ablation encodes activations without steering, so it is left out.
    """
    return [
        EncodeRequest(
            (*request.tokens, *(int(token) for token in tokens)),
            len(request.tokens),
            request.intervention if earlier else Intervention(),
        )
        for request, tokens in zip(requests, responses, strict=True)
        if tokens is not None and len(tokens)
    ]


def activity(engine: Engine, passes: Sequence[EncodeRequest]) -> tuple[np.ndarray, np.ndarray]:
    """Frequency and mean activation (d_sae each) over all tokens of all passes."""
    lengths = [len(one.tokens) - one.start for one in passes]
    shares, means = np.stack(engine.encode(passes, pool="activity"), axis=1)
    return np.average(shares, axis=0, weights=lengths), np.average(means, axis=0, weights=lengths)


def main(job: Any) -> None:
    """Write the table."""
    table = read_table(Path(job.input.detectors), "detectors")
    if not job.input.plan or not table["detector"].any():
        log.warning("no detectors, or no arm steered: random sets have nothing to match")
        empty = pd.DataFrame(columns=list(TABLES["controls"].columns))
        write_table(empty, output(job), "controls", origin(job))
        return
    config = config_of(job)
    name = job.wildcards.model
    settings = config.detectors
    model = config.models[name]
    manifest = json.loads(Path(job.input.model).read_text(encoding="utf-8"))
    plan = read_table(Path(job.input.plan), "plan")
    responses = read_table(Path(job.input.responses), "responses")
    tokenizer = open_tokenizer(manifest, model.template)
    requests = requests_of(plan, tokenizer, config.generation.doubled_header)
    earlier = model.steer_layer < model.read_layer
    passes = steered_passes(requests, responses["tokens"].tolist(), earlier)
    if not passes:
        raise EsrError(
            "arm steered has no response, so random sets cannot be matched; see its exclusions"
        )
    engine = open_engine(config, name, manifest, Path(job.input.sae))
    frequency, mean = activity(engine, passes)
    detectors = table.loc[table["detector"], "latent"].tolist()
    known = table.loc[table["found"] | table["given"], "latent"].tolist()
    controls = match_controls(
        detectors,
        frequency,
        mean,
        settings.random_sets,
        settings.matched_pool,
        settings.seed,
        known,
        settings.matching,
    )
    for one in summarise_sets(controls).itertuples():
        log.info(
            "set %d: %d latents for %d detectors, %.0f %% of their activation",
            *(one.set, one.latents, one.detectors, one.mean_share),
        )
    facts = origin(job, engine=engine.identity)
    write_table(controls.assign(model=name), output(job), "controls", facts)


if __name__ == "__main__":
    main(start(snakemake))

"""Make detectors/controls.parquet: random sets of latents as active as the detectors.

Activity is that on the responses of the steered arm, as an ablation would find it: frequency (share
of tokens on which a latent is active) and mean activation.
"""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from esr.arms.responses import requests_of
from esr.detectors.controls import match_controls
from esr.engines import open_engine, open_tokenizer
from esr.engines.base import EncodeRequest, Engine, Intervention, Pool, Request
from esr.errors import EsrError
from esr.job import config_of, origin, output, start
from esr.tables import read_table, write_table

log = logging.getLogger(__name__)

POOLS: tuple[Pool, Pool] = ("share", "mean")


def steered_readings(
    requests: Sequence[Request], responses: Sequence[Sequence[int] | None], earlier: bool
) -> list[EncodeRequest]:
    """Readings of the responses there are.

    Args:
        requests: Of the steered arm.
        responses: Tokens of each response; missing where the engine failed.
        earlier: Whether one steers at a layer before the one that is read. At that very layer, or
            after it, steering is not in what an ablation encodes, and so is left out.
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


def activity(engine: Engine, readings: Sequence[EncodeRequest]) -> tuple[np.ndarray, np.ndarray]:
    """Frequency and mean activation (d_sae each) over all tokens of all readings."""
    lengths = [len(reading.tokens) - reading.start for reading in readings]
    shares, means = (np.stack(engine.encode(readings, pool=pool)) for pool in POOLS)
    return np.average(shares, axis=0, weights=lengths), np.average(means, axis=0, weights=lengths)


def main(job: Any) -> None:
    """Write the table."""
    config, name = config_of(job), job.wildcards.model
    settings, model = config.detectors, config.models[name]
    manifest = json.loads(Path(job.input.model).read_text())
    plan = read_table(Path(job.input.plan), "plan")
    responses = read_table(Path(job.input.responses), "responses")
    requests = requests_of(plan, open_tokenizer(manifest), config.generation.doubled_header)
    earlier = model.steer_layer < model.read_layer
    readings = steered_readings(requests, responses["tokens"].tolist(), earlier)
    if not readings:
        raise EsrError("arm steered has no response to read: random sets cannot be matched")
    engine = open_engine(config, name, manifest, Path(job.input.sae))
    frequency, mean = activity(engine, readings)
    table = read_table(Path(job.input.detectors), "detectors")
    detectors = table.loc[table["detector"], "latent"].tolist()
    known = table.loc[table["found"] | table["given"], "latent"].tolist()
    sets, pool, seed = settings.random_sets, settings.matched_pool, settings.seed
    controls = match_controls(detectors, frequency, mean, sets, pool, seed, known)
    log.info("%d sets matched to %d detectors", sets if detectors else 0, len(detectors))
    write_table(controls, output(job), "controls", origin(job, engine=engine.identity))


if __name__ == "__main__":
    main(start(snakemake))

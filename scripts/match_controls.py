"""Make detectors/controls.parquet: random sets of latents as active as the detectors.

Activity is measured on the responses of the steered arm, under the steering they were made with:
frequency (share of tokens on which a latent is active) and mean activation.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from esr.detectors import match_controls
from esr.engines import open_engine, open_tokenizer
from esr.engines.base import Reading
from esr.generate import requests_of
from esr.job import config_of, origin, output, start
from esr.tables import read_table, write_table


def main(job: Any) -> None:
    """Write the table."""
    config, name = config_of(job), job.wildcards.model
    settings = config.detectors
    manifest = json.loads(Path(job.input.model).read_text())
    plan = read_table(Path(job.input.plan), "plan")
    responses = read_table(Path(job.input.responses), "responses")
    requests = requests_of(plan, open_tokenizer(manifest), config.generation.doubled_header)
    readings = [
        Reading((*request.tokens, *tokens), len(request.tokens), request.intervention)
        for request, tokens in zip(requests, responses["tokens"], strict=True)
        if tokens is not None and len(tokens)
    ]
    engine = open_engine(config, name, manifest, Path(job.input.sae))
    lengths = np.array([len(reading.tokens) - reading.start for reading in readings])
    frequency, mean = (
        np.average(np.stack(engine.encode(readings, pool=pool)), axis=0, weights=lengths)
        for pool in ("share", "mean")
    )
    table = read_table(Path(job.input.detectors), "detectors")
    detectors = table.loc[table["detector"], "latent"].tolist()
    controls = match_controls(
        detectors, frequency, mean, settings.random_sets, settings.nearest, settings.seed
    )
    write_table(controls, output(job), "controls", origin(job, engine=engine.identity))


if __name__ == "__main__":
    main(start(snakemake))

"""Make boost_probes.parquet: how far a ladder of boosts moves a model's predictions.

One row a latent and boost: boost (decoder units), divergence (nats per token), tokens
(`esr.thresholds.probes`). Probed are the first latents of the draw, on unsteered answers.
"""

import json
import logging
from pathlib import Path
from typing import Any

import torch

from esr.arms.texts import read_texts
from esr.assets.sae import decoder_rows
from esr.assets.sae_fit import load_layers
from esr.engines import open_tokenizer
from esr.job import config_of, origin, output, start
from esr.tables import read_table, write_table
from esr.thresholds.prior import scale_of
from esr.thresholds.probes import LADDER, LATENTS, crossings, measure_divergence, probe_table

log = logging.getLogger(__name__)


def main(job: Any) -> None:
    """Write the table."""
    config = config_of(job)
    settings = config.models[job.wildcards.model]
    torch.set_num_threads(config.engine.threads)
    manifest = json.loads(Path(job.input.model).read_text(encoding="utf-8"))
    scale = scale_of(settings, read_table(Path(job.input.fit), "sae_fit"))
    drawn = read_table(Path(job.input.candidates), "candidates").sort_values("order")
    latents = drawn["latent"].tolist()[:LATENTS]
    rows = decoder_rows(Path(job.input.sae), latents)
    texts = read_texts(job.input, open_tokenizer(manifest, settings.template), config)
    model = load_layers(manifest, settings.dtype, config.engine.device, manifest["n_layers"])
    boosts = scale * LADDER
    table = probe_table(
        latents, boosts, *measure_divergence(model, settings.steer_layer, rows, boosts, texts)
    )
    log.info("predictions change at boosts %s", ", ".join(f"{b:.3g}" for b in crossings(table)))
    write_table(table, output(job), "boost_probes", origin(job))


if __name__ == "__main__":
    main(start(snakemake))

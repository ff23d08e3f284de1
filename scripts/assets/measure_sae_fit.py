"""Make sae_fit.parquet: how well the SAE fits its model at `read_layer` and near it.

Measured are also the neighbouring layers and `steer_layer`. Encoded are the tokens of unsteered
answers, or, in a study without such an arm, those of the prompts without BOS. Norms are those of
residual streams, boosts are in raw decoder units. The job fails if the SAE does not fit, unless the
model's `accept_sae` lists what was found.
"""

import json
import logging
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from esr.arms.texts import read_texts
from esr.assets.sae import load_sae, sae_facts
from esr.assets.sae_fit import (
    boost_scale,
    fit_findings,
    load_layers,
    measure_fit,
    measured_layers,
    refuse_findings,
)
from esr.assets.sae_origin import SaeOrigin
from esr.engines import open_tokenizer
from esr.job import config_of, origin, output, start
from esr.tables import write_table

log = logging.getLogger(__name__)


def describe(table: pd.DataFrame) -> None:
    """Log the fit of every layer."""
    for row in table.itertuples():
        log.info(
            "layer %d: fraction of variance unexplained %.3f, %.1f active latents per token, "
            "%.0f %% of latents never active, median norm %.3g (%.3g without %d massive "
            "dimensions), %d tokens",
            *(row.layer, row.fvu, row.l0, 100 * row.dead_share),
            *(row.norm, row.usual_norm, row.massive_dimensions, row.tokens),
        )


def main(job: Any) -> None:
    """Measure the fit, stop if it is a misfit, and write the table."""
    config, name = config_of(job), job.wildcards.model
    settings = config.models[name]
    torch.set_num_threads(config.engine.threads)
    manifest = json.loads(Path(job.input.model).read_text(encoding="utf-8"))
    sae_file = Path(job.input.sae)
    sae = load_sae(sae_file)
    claimed = SaeOrigin(**json.loads(sae_facts(sae_file).get("origin", "{}")))
    tokenizer = open_tokenizer(manifest, settings.template)
    texts = read_texts(job.input, tokenizer, config)
    layers = measured_layers(settings.read_layer, settings.steer_layer, manifest["n_layers"])
    model = load_layers(manifest, settings.dtype, config.engine.device, max(layers) + 1)
    table = measure_fit(model, sae, texts, layers, config.sae_fit.tokens)
    describe(table)
    findings = list(fit_findings(table, claimed, config, name))
    refuse_findings(findings, settings.accept_sae, name)
    for finding in findings:
        log.warning("accepted (%s): %s", *finding)
    at_read = table["layer"] == settings.read_layer
    lines = "; ".join(f"{finding.name}: {finding.line}" for finding in findings) or None
    table = table.assign(
        model=name,
        is_read_layer=at_read,
        is_steer_layer=table["layer"] == settings.steer_layer,
        text=config.fit_arm or "prompts",
        published_l0=claimed.l0,
        boost_scale=[boost_scale(norm, sae) for norm in table["usual_norm"]],
        findings=[lines if here else None for here in at_read],
    )
    write_table(table, output(job), "sae_fit", origin(job, sae=claimed.facts()))


if __name__ == "__main__":
    main(start(snakemake))

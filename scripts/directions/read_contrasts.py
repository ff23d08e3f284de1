"""Make a set of directions from pairs of texts: vectors.safetensors, directions.parquet.

The model reads each text. The residual stream at the output of `steer_layer`, at the last token or
as a mean over tokens without BOS, is taken from the positive text of a pair minus the negative one.
Directions are scaled to the median norm of the selected decoder rows.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from esr.arms.chat import prompt_tokens
from esr.arms.prompts import read_prompts
from esr.assets.sae import decoder_rows
from esr.assets.sae_fit import load_layers, residuals
from esr.config import Config, ContrastDirectionsConfig
from esr.directions.pairs import read_pairs
from esr.directions.sources import Vectors, contrast, scaled_set
from esr.engines import open_tokenizer
from esr.job import config_of, origin, output, start
from esr.tables import read_table, write_table

Read = Callable[[str], Float[Tensor, " d_model"]]


def contrasts(pairs: pd.DataFrame, settings: ContrastDirectionsConfig, read: Read) -> Vectors:
    """One vector a direction, from the residual streams of its texts."""
    labels, vectors = [], []
    for label, group in pairs.groupby("direction", sort=True):
        differences = torch.stack(
            [read(pair.positive) - read(pair.negative) for pair in group.itertuples()]
        )
        labels.append(str(label))
        vectors.append(contrast(differences, settings.method))
    what = f"{settings.method} of {settings.position} tokens over pairs of {settings.pairs}"
    return Vectors(labels, torch.stack(vectors), what)


def reader(
    config: Config, name: str, manifest: dict[str, Any], settings: ContrastDirectionsConfig
) -> Read:
    """A function that reads a text: its residual stream at `steer_layer`, one vector."""
    model = config.models[name]
    tokenizer = open_tokenizer(manifest, model.template)
    layer, device = model.steer_layer, config.engine.device
    network = load_layers(manifest, model.dtype, device, layer + 1)
    place = next(network.parameters()).device
    doubled = config.generation.doubled_header

    @torch.inference_mode()
    def read(text: str) -> Float[Tensor, " d_model"]:
        if settings.chat:
            tokens = prompt_tokens(tokenizer, text, doubled_header=doubled)
        else:
            tokens = tuple(tokenizer(text)["input_ids"])
        h = residuals(network, tokens, [layer], place)[layer].float().cpu()
        first = 1 if len(tokens) > 1 and tokens[0] == tokenizer.bos_token_id else 0
        return h[-1] if settings.position == "last" else h[first:].mean(dim=0)

    return read


def main(job: Any) -> None:
    """Write both files."""
    config = config_of(job)
    model, name = job.wildcards.model, job.wildcards.directions
    settings = config.directions[name]
    assert isinstance(settings, ContrastDirectionsConfig)
    torch.set_num_threads(config.engine.threads)
    manifest = json.loads(Path(job.input.model).read_text(encoding="utf-8"))
    found = contrasts(
        read_pairs(Path(job.input.pairs)), settings, reader(config, model, manifest, settings)
    )
    latents = read_table(Path(job.input.latents), "latents")
    rows = decoder_rows(Path(job.input.sae), latents.loc[latents["selected"], "latent"].tolist())
    prompts = read_prompts(config.prompts)["prompt_id"].tolist()
    made, table = scaled_set(name, found, rows, prompts)
    made.save(output(job, "vectors"))
    write_table(table, output(job, "table"), "directions", origin(job, directions=made.digest))


if __name__ == "__main__":
    main(start(snakemake))

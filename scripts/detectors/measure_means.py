"""Make detectors/means.parquet: mean activation of every latent on unsteered answers.

Activations are in the SAE's own units, of the residual stream at the layer where latents are
ablated (`ablate_layer`, else `steer_layer`), which an ablation to the mean encodes. Prompts do not
count.
"""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from esr.arms.texts import read_texts
from esr.assets.sae_fit import Text
from esr.config import Config
from esr.engines import open_engine, open_tokenizer
from esr.engines.base import EncodeRequest, Engine
from esr.errors import EsrError
from esr.job import config_of, origin, output, start
from esr.tables import write_table

log = logging.getLogger(__name__)


def reading_where_latents_are_ablated(config: Config, name: str) -> Config:
    """The configuration, with the layer of ablation as the layer that a model is encoded at."""
    model = config.models[name]
    layer = model.steer_layer if model.ablate_layer is None else model.ablate_layer
    models = config.models | {name: model.model_copy(update={"read_layer": layer})}
    return config.model_copy(update={"models": models})


def means_table(engine: Engine, texts: Sequence[Text]) -> pd.DataFrame:
    """Mean activation and frequency of every latent over all tokens of all answers.

    Raises:
        EsrError: no answer has a token.
    """
    passes = [EncodeRequest(one.tokens, one.start) for one in texts if len(one.tokens) > one.start]
    if not passes:
        raise EsrError("no unsteered answer has a token: no mean activation can be measured")
    lengths = [len(one.tokens) - one.start for one in passes]
    shares, means = (
        np.average(each, axis=0, weights=lengths)
        for each in np.stack(engine.encode(passes, pool="activity"), axis=1)
    )
    table = pd.DataFrame({"latent": np.arange(len(means)), "mean": means, "frequency": shares})
    return table.assign(tokens=sum(lengths))


def main(job: Any) -> None:
    """Write the table."""
    config, name = config_of(job), job.wildcards.model
    manifest = json.loads(Path(job.input.model).read_text(encoding="utf-8"))
    texts = read_texts(job.input, open_tokenizer(manifest, config.models[name].template), config)
    here = reading_where_latents_are_ablated(config, name)
    engine = open_engine(here, name, manifest, Path(job.input.sae))
    table = means_table(engine, texts)
    log.info("%d tokens of %d answers", table["tokens"].iloc[0], len(texts))
    write_table(table.assign(model=name), output(job), "means", origin(job, engine=engine.identity))


if __name__ == "__main__":
    main(start(snakemake))

"""Make a set of directions: vectors.safetensors, and directions.parquet (one row a direction).

Random directions stand in for the selected latents, each as long as its decoder row. Vectors of a
file are scaled to the median norm of these rows, so that boosts are in decoder units.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from esr.arms.prompts import read_prompts
from esr.assets.sae import decoder_rows
from esr.config import Config, FileDirectionsConfig, RandomDirectionsConfig
from esr.directions.sources import directions_table, random_directions, read_vectors, scaled_set
from esr.directions.vectors import Directions
from esr.job import config_of, origin, output, start
from esr.tables import read_table, write_table


def make_directions(
    config: Config, model: str, name: str, latents: pd.DataFrame, sae_file: Path
) -> tuple[Directions, pd.DataFrame]:
    """The set, and its table.

    Args:
        config: The study.
        model: Model of the study.
        name: The set, of kind `random` or `file`.
        latents: The selected latents of the model, in their order.
        sae_file: Its SAE.
    """
    settings = config.directions[name]
    if isinstance(settings, RandomDirectionsConfig):
        latents = latents.head(settings.latents or len(latents))
    numbers = [int(latent) for latent in latents["latent"]]
    rows = decoder_rows(sae_file, numbers)
    d_model = rows.shape[1]
    if isinstance(settings, RandomDirectionsConfig):
        found = random_directions(name, numbers, rows.norm(dim=1), d_model, settings.seed)
        made_from = f"random, seed {settings.seed}, norms of decoder rows"
        nameless = [None] * len(numbers)
        return found, directions_table(found, rows, latents["prompts"], made_from, nameless)
    assert isinstance(settings, FileDirectionsConfig)
    vectors = read_vectors(settings.file_of(model), config.models[model].steer_layer, d_model)
    return scaled_set(name, vectors, rows, read_prompts(config.prompts)["prompt_id"].tolist())


def main(job: Any) -> None:
    """Write both files."""
    config = config_of(job)
    latents = read_table(Path(job.input.latents), "latents")
    chosen = latents[latents["selected"]].sort_values("order")
    model, name = job.wildcards.model, job.wildcards.directions
    found, table = make_directions(config, model, name, chosen, Path(job.input.sae))
    found.save(output(job, "vectors"))
    write_table(table, output(job, "table"), "directions", origin(job, directions=found.digest))


if __name__ == "__main__":
    main(start(snakemake))

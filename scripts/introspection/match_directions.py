"""Make introspection/<set>.safetensors: random directions that stand in for injected vectors.

Each is as long as the vector with its row number, and drawn from the seed of the random set.
"""

from pathlib import Path
from typing import Any

from esr.config import RandomDirectionsConfig
from esr.directions.sources import random_directions
from esr.directions.vectors import load_directions
from esr.job import config_of, output, start


def main(job: Any) -> None:
    """Write the set."""
    name = job.wildcards.directions
    settings = config_of(job).directions[name]
    assert isinstance(settings, RandomDirectionsConfig)
    injected = load_directions(Path(job.input[0]))
    norms, width = injected.vectors.norm(dim=1), injected.vectors.shape[1]
    made = random_directions(name, injected.rows.tolist(), norms, width, settings.seed)
    made.save(output(job))


if __name__ == "__main__":
    main(start(snakemake))

"""Make an organism from its recipe: `model/` (transformers), `sae/` (SAELens), `labels.csv`.

Inputs: `recipe`, `lexicon`, `phrases`; optional parameter `seed` in place of the recipe's.
"""

from pathlib import Path
from typing import Any

from esr.job import output, start
from esr.organisms.build import build
from esr.organisms.corpus import Phrases, read_lexicon
from esr.organisms.recipe import Recipe


def main(job: Any) -> None:
    """Build the organism beside its labels."""
    recipe = Recipe.read(Path(job.input.recipe))
    seed = dict(job.params.items()).get("seed", recipe.seed)
    build(
        recipe.model_copy(update={"seed": seed}),
        read_lexicon(Path(job.input.lexicon)),
        Phrases.read(Path(job.input.phrases)),
        output(job, "labels").parent,
        threads=job.threads,
    )


if __name__ == "__main__":
    main(start(snakemake))

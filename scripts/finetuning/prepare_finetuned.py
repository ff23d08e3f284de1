"""Make assets/model.json of a fine-tuned model: the manifest of any model, and its origin.

`finetuning` holds the base (source, revision, files) and the SHA-256 of adapter, dataset and
axolotl's configuration. `adapter` is the folder of the adapter, if engines load base and adapter.
"""

import json
from pathlib import Path
from typing import Any

from esr.assets.checkpoints import describe_finetuned_model
from esr.job import config_of, origin, output, start


def main(job: Any) -> None:
    """Write the manifest."""
    merged = config_of(job).finetune.serve == "merged"
    base = json.loads(Path(job.input.base).read_text(encoding="utf-8"))
    manifest = describe_finetuned_model(Path(job.input.config).parent, base, merged=merged)
    output(job).write_text(
        json.dumps(manifest | {"esr": origin(job)}, indent=2) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main(start(snakemake))

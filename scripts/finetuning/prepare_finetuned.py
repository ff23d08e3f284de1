"""Make assets/model.json of a fine-tuned model: as of any other, and what it was made from.

`finetuning`: base (source, revision, files), checksums of adapter, dataset and axolotl's
configuration. `adapter`, where engines load base and adapter: the folder of the latter.
"""

import json
from pathlib import Path
from typing import Any

from esr.assets.checkpoints import describe_finetuned_model
from esr.job import config_of, origin, output, start


def main(job: Any) -> None:
    """Write the manifest."""
    merged = config_of(job).finetune.serve == "merged"
    base = json.loads(Path(job.input.base).read_text())
    manifest = describe_finetuned_model(Path(job.input.config).parent, base, merged=merged)
    output(job).write_text(json.dumps(manifest | {"esr": origin(job)}, indent=2) + "\n")


if __name__ == "__main__":
    main(start(snakemake))

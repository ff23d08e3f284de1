"""Make assets/model.json: source, revision, checksum of every file, architecture, sizes."""

import json
from typing import Any

from esr.assets.checkpoints import describe_local_model, fetch_hub_model
from esr.assets.hub import go_offline_without_network
from esr.config import ModelConfig
from esr.job import config_of, origin, output, start


def describe_model(model: ModelConfig) -> dict[str, Any]:
    """Manifest of a model, which is fetched first if it is on the hub."""
    if model.is_local:
        return describe_local_model(model.folder)
    return fetch_hub_model(model.source, str(model.revision))


def main(job: Any) -> None:
    """Write the manifest."""
    model = config_of(job).models[job.wildcards.model]
    if not model.is_local:
        go_offline_without_network()
    manifest = describe_model(model) | {"esr": origin(job)}
    output(job).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(start(snakemake))

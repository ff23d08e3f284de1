"""Make assets/sae.safetensors: encoder and decoder in raw decoder units (see `esr.assets.sae`).

The header of the file holds the form of the SAE, its sizes, the digest of its weights and their
origin, so that engine jobs need not read the weights to identify it.
"""

import json
from pathlib import Path
from typing import Any

from esr.assets.hub import go_offline_without_network
from esr.assets.sae import Sae, from_saelens
from esr.assets.sae_origin import origin_of
from esr.assets.saelens import load_saelens
from esr.errors import EsrError
from esr.job import config_of, origin, output, start


def check_width(sae: Sae, manifest: dict[str, Any], model: str) -> None:
    """Raise unless the SAE has the width of the model's residual stream."""
    if sae.d_model != manifest["d_model"]:
        raise EsrError(
            f"models.{model}.sae has input width {sae.d_model}, but the residual stream of "
            f"{manifest['source']} has width {manifest['d_model']}; choose an SAE of this model"
        )


def metadata_of(loaded: Any) -> dict[str, Any]:
    """What SAELens kept of the metadata of an SAE."""
    return dict(vars(loaded.cfg.metadata))


def main(job: Any) -> None:
    """Write the SAE."""
    name = job.wildcards.model
    source = config_of(job).models[name].sae
    if source.path is None:
        go_offline_without_network()
    loaded, hub = load_saelens(source)
    sae = from_saelens(loaded)
    check_width(sae, json.loads(Path(job.input.model).read_text(encoding="utf-8")), name)
    facts = {
        "source": source.model_dump(mode="json"),
        "origin": origin_of(source, metadata_of(loaded)).facts(),
        "hub": hub,
        "esr": origin(job),
    }
    sae.save(output(job), **{key: json.dumps(fact, sort_keys=True) for key, fact in facts.items()})


if __name__ == "__main__":
    main(start(snakemake))

"""Make <sae>.csv (latent, label) and <sae>.json (addresses, checksums) from Neuronpedia."""

from typing import Any

from esr.assets.downloads import fetch_labels
from esr.config import DOWNLOADS
from esr.job import start


def main(job: Any) -> None:
    """Download the labels."""
    fetch_labels(f"{job.wildcards.export}/{job.wildcards.sae}", DOWNLOADS / "neuronpedia")


if __name__ == "__main__":
    main(start(snakemake))

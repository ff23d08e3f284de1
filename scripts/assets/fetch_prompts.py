"""Make <list>.csv (prompt_id, category, prompt) and <list>.json (address, checksum)."""

from typing import Any

from esr.assets.downloads import fetch_prompts
from esr.config import DOWNLOADS
from esr.job import start


def main(job: Any) -> None:
    """Download the prompts."""
    fetch_prompts(job.wildcards.list, DOWNLOADS / "prompts")


if __name__ == "__main__":
    main(start(snakemake))

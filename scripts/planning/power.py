"""Print what a study can decide before it begins: power of every claim, latents for 80 %.

Writes no file; the table is tables/power.csv. One line a claim and intra-latent correlation: the
value claimed, the share of simulated studies of this size that confirm it if it is true, by the
primary judge and by all ways, and the latents that would give 80 %.
"""

import logging
from typing import Any

import pandas as pd

from esr.job import start
from esr.planning.power import print_power

log = logging.getLogger(__name__)


def main(job: Any) -> None:
    """Print the table."""
    for line in print_power(pd.read_csv(job.input.power)):
        log.info("%s", line)


if __name__ == "__main__":
    main(start(snakemake))

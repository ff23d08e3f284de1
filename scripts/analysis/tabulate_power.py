"""Make tables/power.csv: what the study can decide at its size, before any of it is run.

One row a claim and intra-latent correlation (`rho`): value (claimed, in the claim's unit), power
and agreed (share of simulated studies that confirm the claim if it is true, by the primary judge
and by all ways), latents (of the study), latents_80 (that give a power of 80 %; inf: none do),
label. A claim that is not simulated has one row, whose label is the reason.
"""

from typing import Any

from esr.job import config_of, output, start
from esr.planning.power import tabulate_power


def main(job: Any) -> None:
    """Write the table."""
    tabulate_power(config_of(job)).to_csv(output(job), index=False, float_format="%.4g")


if __name__ == "__main__":
    main(start(snakemake))

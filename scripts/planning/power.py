"""Print what a study can decide before it begins: power of every claim, latents for 80 %.

Writes no file. One line a claim and intra-latent correlation: the value claimed, the share of
simulated studies of this size that confirm it if it is true, and the latents that would give 80 %.
"""

import logging
from typing import Any

from esr.job import config_of, start
from esr.planning.power import tabulate_power

log = logging.getLogger(__name__)


def main(job: Any) -> None:
    """Print the table."""
    table = tabulate_power(config_of(job))
    if table.empty:
        log.info("power: this study has no claims that are simulated")
        return
    simulated = table[table["label"].ne("not simulated")]
    for line in simulated.to_string(index=False, float_format="{:.4g}".format).splitlines():
        log.info("%s", line)
    names = ", ".join(table.loc[table["label"].eq("not simulated"), "claim"])
    log.info("not simulated: %s", names or "none")


if __name__ == "__main__":
    main(start(snakemake))

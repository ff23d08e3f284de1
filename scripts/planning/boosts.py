"""Print the scale of boosts of every model and the prior of its thresholds; no judge is called.

The scale is the median norm of the residual stream at `steer_layer`, without BOS, sinks and massive
dimensions, over the norm of a median decoder row (`boost_scale` in `sae_fit.parquet`). The centre
is where predictions begin to change (`boost_probes.parquet`).
"""

import logging
from typing import Any

from esr.job import config_of, start
from esr.planning.boosts import boost_lines

log = logging.getLogger(__name__)


def main(job: Any) -> None:
    """Print the lines of every model."""
    config = config_of(job)
    for name in config.base_models:
        for line in boost_lines(config, name):
            log.info("%s", line)


if __name__ == "__main__":
    main(start(snakemake))

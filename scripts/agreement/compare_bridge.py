"""Make tables/bridge.csv: an old judge against the new one, arm by arm.

Columns: arm (`all`, an arm over all models, or `model/arm`), quantity, statistic, old, new
(judges), estimate, low, high (fractions; points for `shift`), n (trials), status. Statistics:
`esr.agreement.bridge`.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from esr.agreement.bridge import bridge_table, rates_on_the_old_scale
from esr.agreement.sample import by_judge
from esr.errors import EsrError
from esr.job import config_of, output, start
from esr.tables import read_table, read_tables


def main(job: Any) -> None:
    """Write the table."""
    config = config_of(job)
    if config.bridge is None:
        raise EsrError(
            "bridge: the study has one judge; add the other one to judging.judges, and name the "
            "two in agreement.bridge"
        )
    old, new = config.bridge
    sample = read_table(Path(job.input.sample), "sample")
    graded = by_judge(read_tables(job.input.graded, "scores"))
    table = bridge_table(sample, (old, graded[old]), (new, graded[new]), config.statistics)
    if new == config.judging.primary:  # the only judge that grades whole arms
        arms = read_tables(job.input.scores, "scores")
        level = config.statistics.level
        rates = rates_on_the_old_scale(arms, sample, (old, graded[old]), new, level)
        table = pd.concat([table, rates], ignore_index=True)
    table.to_csv(output(job), index=False, float_format="%.6g")


if __name__ == "__main__":
    main(start(snakemake))

"""Make scorecard.csv: every claim, what was measured, and a verdict.

One row a claim: the columns of the claims files (`esr.analysis.claims.CLAIM`), then measured, low,
high (in `unit`), n (trials, pairs or responses), status (of the interval) by the primary judge,
verdict (`esr.analysis.claims.VERDICTS`), the reason for it, power (if known), and for each way of
grading (`esr.analysis.ways.WAYS`) <way>_measured, _low, _high, _p_holm, _verdict.
"""

from collections import Counter
from collections.abc import Iterable
from logging import getLogger
from pathlib import Path
from typing import Any

import pandas as pd

from esr.analysis.claims import read_claims
from esr.analysis.verdicts import score
from esr.job import config_of, output, start

log = getLogger(__name__)


def read_tables(paths: Iterable[str]) -> dict[str, pd.DataFrame]:
    """Tables by folder and name, as claims name them."""
    return {f"{path.parent.name}/{path.name}": pd.read_csv(path) for path in map(Path, paths)}


def main(job: Any) -> None:
    """Write the scorecard."""
    tables = read_tables([*job.input.tables, *job.input.figures])
    table = score(read_claims(job.input.claims), tables, config_of(job).statistics.level)
    for verdict, count in Counter(table["verdict"]).items():
        log.info("%d claims are %s", count, verdict)
    table.to_csv(output(job), index=False, float_format="%.6g")


if __name__ == "__main__":
    main(start(snakemake))

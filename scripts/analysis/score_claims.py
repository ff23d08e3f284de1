"""Make scorecard.csv: every claim, what was measured, and a verdict.

A file of claims about other models than the study's is left out. One row a claim: the columns of
the claims files (`esr.analysis.claims.CLAIM`), then measured, low, high (in `unit`), n (trials,
pairs or responses), status (of the interval) by the primary judge, verdict
(`esr.analysis.claims.VERDICTS`), the reason for it, power and power_agreed (by the primary judge
and by all ways, at the worse correlation in tables/power.csv), and for each way of grading
(`esr.analysis.ways.WAYS`) <way>_measured, _low, _high, _p_holm, _verdict.
"""

from collections import Counter
from collections.abc import Iterable
from logging import getLogger
from pathlib import Path
from typing import Any

import pandas as pd

from esr.analysis.claims import read_claims
from esr.analysis.claims_scope import no_claims_note, other_studies_claims
from esr.analysis.verdicts import least_power, score
from esr.job import config_of, output, start

log = getLogger(__name__)


def read_tables(paths: Iterable[str]) -> dict[str, pd.DataFrame]:
    """Tables by folder and name, as claims name them."""
    return {f"{path.parent.name}/{path.name}": pd.read_csv(path) for path in map(Path, paths)}


def main(job: Any) -> None:
    """Write the scorecard."""
    config = config_of(job)
    tables = read_tables([*job.input.tables, *job.input.figures])
    others = other_studies_claims(job.input.claims, config.models)
    log.info("%s", no_claims_note(job.input.claims, config.models) or "every file is scored")
    claims = read_claims(path for path in map(Path, job.input.claims) if path not in others)
    power = least_power(pd.read_csv(job.input.power))
    table = score(claims, tables, config.statistics.level, power)
    for verdict, count in Counter(table["verdict"]).items():
        log.info("%d claims are %s", count, verdict)
    table.to_csv(output(job), index=False, float_format="%.6g")


if __name__ == "__main__":
    main(start(snakemake))

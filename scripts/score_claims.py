"""Make scorecard.csv: every claim, what was measured, and a verdict.

One row a claim: the columns of the claims files (`esr.scorecard.CLAIM`), then measured, low, high
(in `unit`), n (trials, pairs or responses), status (of the interval), verdict (`confirmed`,
`refuted`, `undecided`, `not run`) and the reason for it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from logging import getLogger
from pathlib import Path
from typing import Any

import pandas as pd

from esr.job import config_of, output, start
from esr.scorecard import read_claims, score

log = getLogger(__name__)


def read_tables(paths: Iterable[str], labels: Mapping[str, str]) -> dict[str, pd.DataFrame]:
    """Tables by folder and name; models by their names, also where a table shows their labels."""
    found = {}
    for path in map(Path, paths):
        table = pd.read_csv(path)
        if "model" in table:
            table["model"] = table["model"].replace(dict(labels))
        found[f"{path.parent.name}/{path.name}"] = table
    return found


def main(job: Any) -> None:
    """Write the scorecard."""
    labels = {model["label"]: name for name, model in job.params.models.items()}
    tables = read_tables([*job.input.tables, *job.input.figures], labels)
    table = score(read_claims(job.input.claims), tables, config_of(job).statistics.level)
    for verdict, count in Counter(table["verdict"]).items():
        log.info("%d claims are %s", count, verdict)
    table.to_csv(output(job), index=False, float_format="%.6g")


if __name__ == "__main__":
    main(start(snakemake))

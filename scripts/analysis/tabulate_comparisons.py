"""Make tables/comparisons.{csv,tex}: every replaying arm against the arm it replays, paired.

Differences are in percentage points (rates) or points (scores); p by permutation within latents;
p_holm adjusted over the confirmatory family of the study's claims (missing outside of it). One row
a way of grading (`way`, `esr.analysis.ways`) and measure; the LaTeX shows the primary judge's.
"""

import logging
from typing import Any

import pandas as pd

from esr.analysis.claims import read_claims
from esr.analysis.engines import engines_of, mask_other_engines
from esr.analysis.summaries import (
    arms_by_model,
    comparison_table,
    empty_cells,
    replays_of,
    reseeded_of,
    with_interval,
    write_tables,
)
from esr.analysis.verdicts import with_family
from esr.analysis.ways import by_way, of_way, read_second, views
from esr.job import config_of, output, start
from esr.tables import read_tables

log = logging.getLogger(__name__)

OTHERS = ["models", "contrasts"]
"""Tables that hold the other tests of the family."""
SHOWN = ["first_score", "multi_attempt_rate", "esr_rate", "msi"]


def printed(table: pd.DataFrame) -> pd.DataFrame:
    """One row a comparison, for the measures of the main figures."""
    table = table[table["measure"].isin(SHOWN)]
    return pd.DataFrame(
        {
            "Model": table["model"],
            "Arm": table["arm"],
            "Against": table["against"],
            "Measure": table["measure"],
            "Pairs": table["n_pairs"],
            "Difference": [with_interval(r, "difference") for r in table.to_dict("records")],
            "p": [_shown(p, "n/a") for p in table["p_value"]],
            "p (Holm)": [_shown(p, "-") for p in table["p_holm"]],
        }
    )


def _shown(p_value: float, missing: str) -> str:
    return missing if pd.isna(p_value) else f"{p_value:.3g}"


def main(job: Any) -> None:
    """Write the table."""
    config = config_of(job)
    scores = read_tables(job.input.scores, "scores")
    replays, reseeded = replays_of(config), reseeded_of(config)
    empty = empty_cells(scores, arms_by_model(config))
    table = by_way(
        views(scores, read_second(job.input.second)),
        lambda way: comparison_table(
            way.scores, replays, config.statistics, list(way.measures), reseeded, empty
        ),
    )
    table, lines = mask_other_engines(table, engines_of(job.input.scores))
    for line in lines:
        log.warning("%s", line)
    others = {f"tables/{name}.csv": pd.read_csv(job.input[name]) for name in OTHERS}
    table = with_family(table, "tables/comparisons.csv", read_claims(job.input.claims), others)
    write_tables(output(job, "csv"), output(job, "tex"), table, printed(of_way(table)))


if __name__ == "__main__":
    main(start(snakemake))

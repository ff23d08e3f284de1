"""Make tables/contrasts.{csv,tex}: sweeps, random sets, matched arms, shares, for claims.

One row a way of grading (`way`, `esr.analysis.ways`) and contrast: kind (`point`, `peak`, `sets`,
`matched`, `share`, `unsteered`), model, arm, measure, statistic, sweep_level (sd), share (percent),
value, low, high (percent or points; of a peak, where it is), p_value, n (trials or pairs), n_sets,
status: `esr.analysis.contrasts`.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from esr.analysis.contrasts import contrast_table
from esr.analysis.engines import read_scores_to_pair
from esr.analysis.summaries import replays_of, with_interval, write_tables
from esr.analysis.ways import by_way, of_way, read_second, views
from esr.config import matched_arms, random_sets
from esr.job import config_of, output, start
from esr.tables import read_table


def printed(table: pd.DataFrame) -> pd.DataFrame:
    """One row a contrast, its value with the interval."""
    table = table[table["kind"].ne("point")]
    names = ["kind", "model", "arm", "measure", "statistic", "share"]
    shown = table[names].astype(object).fillna("-")
    values = [with_interval(row, "value") for row in table.to_dict("records")]
    return shown.assign(value=values, n=table["n"])


def main(job: Any) -> None:
    """Write the table."""
    config = config_of(job)
    models = dict(job.params.models)
    files = dict(zip(config.engine_models, map(Path, job.input.detectors), strict=True))
    found = dict.fromkeys(models, 0) | {
        name: int(read_table(path, "detectors")["detector"].sum()) for name, path in files.items()
    }
    scores = read_scores_to_pair(job.input.scores, replays_of(config))
    ways = views(scores, read_second(job.input.second))
    sets = random_sets(config.arms)
    known = (models, found, sets, config.finetuned, config.statistics, matched_arms(config.arms))
    table = by_way(ways, lambda way: contrast_table(way, *known))
    write_tables(output(job, "csv"), output(job, "tex"), table, printed(of_way(table)))


if __name__ == "__main__":
    main(start(snakemake))

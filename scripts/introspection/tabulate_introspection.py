"""Make tables/introspection.{csv,tex} and tables/self_report_thresholds.{csv,tex}.

introspection: one row a model, window, dose (`all`: mean over doses) and measure
(`esr.introspection.summary.MEASURES`): unit, value, low, high, n (readings), n_clusters
(directions), n_missing (not finite), status. self_report_thresholds: one row a model, direction and
window: threshold (decoder units), low, high, status, and the threshold of behaviour.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from esr.analysis.summaries import write_tables
from esr.config import Config
from esr.figures.numbers import with_interval
from esr.introspection import summary
from esr.introspection.thresholds import COLUMNS, direction_ids, report_thresholds
from esr.job import config_of, output, start
from esr.tables import read_table


def tabulate(
    config: Config, reports: pd.DataFrame, choices: pd.DataFrame, thresholds: pd.DataFrame | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both tables of one model."""
    settings, statistics = config.introspection, config.statistics
    assert settings is not None
    level = statistics.level
    found = report_thresholds(reports, settings.passes, level, statistics.seed, thresholds)
    return summary.summarise(reports, choices, found, level), found


def printed(table: pd.DataFrame, models: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """The printed table: means over all doses, with their intervals."""
    rows = table[table["dose"].astype(str).eq(summary.ALL)]
    return pd.DataFrame(
        {
            "Model": [models[name]["label"] for name in rows["model"]],
            "Window": rows["window"].tolist(),
            "Measure": rows["measure"].tolist(),
            "Value": [with_interval(r.value, r.low, r.high, digits=2) for r in rows.itertuples()],
            "Unit": rows["unit"].tolist(),
            "Directions": rows["n_clusters"].tolist(),
        }
    )


def printed_thresholds(table: pd.DataFrame, models: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """The printed table of thresholds: without random directions."""
    rows = table[~table["is_random"].astype(bool)]
    return pd.DataFrame(
        {
            "Model": [models[name]["label"] for name in rows["model"]],
            "Direction": direction_ids(rows).tolist(),
            "Label": rows["label"].fillna("(no label)").tolist(),
            "Window": rows["window"].tolist(),
            "Self-report": [with_interval(r.threshold, r.low, r.high) for r in rows.itertuples()],
            "Behaviour": [
                with_interval(r.behaviour, r.behaviour_low, r.behaviour_high)
                for r in rows.itertuples()
            ],
            "Status": rows["status"].tolist(),
        }
    )


def main(job: Any) -> None:
    """Write both tables; without a section `introspection` they have no rows."""
    config, models = config_of(job), dict(job.params.models)
    searched = dict(job.params.thresholds)
    parts: list[tuple[pd.DataFrame, pd.DataFrame]] = []
    for reports, choices in zip(job.input.self_reports, job.input.choices, strict=True):
        table = read_table(Path(reports), "self_reports")
        path = searched.get(table["model"].iloc[0])
        thresholds = None if path is None else read_table(Path(path), "thresholds")
        chosen = read_table(Path(choices), "choices")
        parts.append(tabulate(config, table, chosen, thresholds))
    empty = pd.DataFrame(columns=summary.COLUMNS), pd.DataFrame(columns=COLUMNS)
    means, found = (
        pd.concat(each, ignore_index=True) for each in zip(*(parts or [empty]), strict=True)
    )
    for name, whole, shown in (
        ("introspection", means, printed(means, models)),
        ("thresholds", found, printed_thresholds(found, models)),
    ):
        write_tables(output(job, f"{name}_csv"), output(job, f"{name}_tex"), whole, shown)


if __name__ == "__main__":
    main(start(snakemake))

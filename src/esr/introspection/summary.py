"""Means of self-report over directions and questions, with intervals: tables/introspection.csv."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from esr.analysis.statistics import cluster_codes
from esr.analysis.statistics.crossed import crossed_mean, crossed_rate, weighted_mean
from esr.analysis.statistics.estimates import Estimate
from esr.introspection.measures import ALONE, NOT_READ

ALL = "all"
"""Dose of rows that are means over all doses."""
COLUMNS = ["model", "window", "dose", "measure", "unit", "value", "low", "high", "n"]
COLUMNS += ["n_clusters", "n_missing", "status"]
PERCENT = 100.0


class Measure(NamedTuple):
    """A measure: its name, unit, and what a row of its source counts."""

    name: str
    unit: str
    meaning: str


MEASURES = {
    one.name: one
    for one in (
        Measure("excess_log_odds", "nats", "shift of the direction minus that of random ones"),
        Measure("shift_log_odds", "nats", "on-target minus off-target, direction"),
        Measure("random_log_odds", "nats", "on-target minus off-target, random directions"),
        Measure("off_target_log_odds", "nats", "off-target question: the push towards yes"),
        Measure(
            "unsteered_log_odds", "nats", "on-target minus off-target, nothing injected: a bound"
        ),
        Measure("reported_rate", "percent", "directions whose mean excess passes a stated amount"),
        Measure("random_rate", "percent", "random directions whose mean excess passes it"),
        Measure("choice_excess", "percentage points", "right letters, above chance"),
        Measure("choice_injected", "percentage points", "right letters, minus unsteered"),
    )
}
"""Measures of tables/introspection.csv."""


def summarise(
    reports: pd.DataFrame, choices: pd.DataFrame, thresholds: pd.DataFrame, level: float
) -> pd.DataFrame:
    """Every measure of a model: columns `COLUMNS`, by window and dose, and over all doses.

    Means over directions and questions count both as random; what has no question, directions.

    Args:
        reports: Table `self_reports` of one model.
        choices: Table `choices`; empty without a forced choice.
        thresholds: Of `report_thresholds`.
        level: Of the intervals.
    """
    rows: list[dict[str, Any]] = []
    for window in reports["window"].unique():
        here = [table[table["window"].eq(window)] for table in (reports, choices, thresholds)]
        found = [row | {"dose": ALL} for row in _rates(here[2], level)]
        for dose in (ALL, *sorted(reports["dose"].unique())):
            at = [table if dose == ALL else table[table["dose"].eq(dose)] for table in here[:2]]
            means = [*_yes_rows(at[0], level), *_choice_rows(at[1], level)]
            found += [row | {"dose": dose} for row in means]
        rows += [row | {"window": window} for row in found]
    table = pd.DataFrame(rows)
    unit = table["measure"].map({name: one.unit for name, one in MEASURES.items()})
    return table.assign(model=reports["model"].iloc[0], unit=unit)[COLUMNS]


def _yes_rows(reports: pd.DataFrame, level: float) -> Iterator[dict[str, Any]]:
    is_random = reports["is_random"].astype(bool)
    factors = ["latent", "question_id"]
    of_latents = _Cells(
        reports[~is_random], factors, ["excess", "shift", "off_target", "unsteered"]
    )
    sources = {
        "excess_log_odds": (of_latents, "excess"),
        "shift_log_odds": (of_latents, "shift"),
        "random_log_odds": (_Cells(reports[is_random], factors, ["shift"]), "shift"),
        "off_target_log_odds": (of_latents, "off_target"),
        "unsteered_log_odds": (of_latents, "unsteered"),
    }
    for name, (cells, column) in sources.items():
        yield cells.mean(column, level) | {"measure": name}


def _choice_rows(choices: pd.DataFrame, level: float) -> Iterator[dict[str, Any]]:
    latents = choices[~choices["is_random"].astype(bool)]
    for name, null in {"choice_excess": "chance", "choice_injected": "unsteered"}.items():
        if latents.empty:
            missing = dict.fromkeys(("value", "low", "high"), np.nan)
            counts = dict.fromkeys(("n", "n_clusters", "n_missing"), 0)
            yield missing | counts | {"measure": name, "status": "no_labels"}
            continue
        above = PERCENT * (latents["right"].astype(float) - latents[null].astype(float))
        cells = _Cells(latents.assign(above=above), ["latent"], ["above"])
        yield cells.mean("above", level, -PERCENT, PERCENT) | {"measure": name}


def _rates(found: pd.DataFrame, level: float) -> Iterator[dict[str, Any]]:
    is_random = found["is_random"].astype(bool)
    for name, table in (("reported_rate", found[~is_random]), ("random_rate", found[is_random])):
        reached = table["status"].eq("reached").astype(float)
        values = reached.where(~table["status"].isin([NOT_READ, ALONE]))
        codes = [cluster_codes(table["latent"])[0]]
        estimate = crossed_rate(values.to_numpy(float), codes, level)
        row = _row(values.to_numpy(float), codes[0], estimate)
        ends = {key: PERCENT * row[key] for key in ("value", "low", "high")}
        yield row | ends | {"measure": name}


class _Cells:
    """Means of columns over the cells of factors: doses and orders of a cell are averaged first.

    They are no units of their own, and where every cell has one mean the status says so.
    """

    def __init__(self, table: pd.DataFrame, factors: list[str], columns: list[str]) -> None:
        self.values = table[columns].astype(float)
        grouped = self.values.groupby([table[name] for name in factors], sort=False)
        self.means = grouped.mean()
        index = self.means.index
        self.codes = [cluster_codes(index.get_level_values(name))[0] for name in factors]

    def mean(
        self, column: str, level: float, lowest: float = -np.inf, highest: float = np.inf
    ) -> dict[str, Any]:
        """The mean of a column over the cells, with its interval; the first factor is `latent`."""
        means, present = self.means[column].to_numpy(float), self.values[column].notna()
        estimate = crossed_mean(means, self.codes, lowest, highest, level)
        row = _row(means, self.codes[0], estimate)
        return row | {"n": int(present.sum()), "n_missing": int((~present).sum())}


def _row(
    values: Float[np.ndarray, " cells"], latents: Int[np.ndarray, " cells"], found: Estimate
) -> dict[str, Any]:
    present = ~np.isnan(values)
    return {
        "value": weighted_mean(values),
        "low": found.interval.low,
        "high": found.interval.high,
        "n": int(present.sum()),
        "n_clusters": len(np.unique(latents[present])),
        "n_missing": int((~present).sum()),
        "status": found.status,
    }

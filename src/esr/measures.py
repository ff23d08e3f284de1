"""The ESR measures on a table of scores: values, intervals, comparisons, exclusions.

The one place where measures are computed; every figure, table and claim reads them from here.
A scores table has one row a trial (`COLUMNS`). Only trials with status `ok` are scored; the
others are counted by reason and never enter as 0. Rates are in percent (0-100), scores and their
changes in points (0-100), attempts in attempts. Definitions and formulas: docs/method.md.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from esr.errors import EsrError
from esr.resampling import (
    cluster_bootstrap,
    cluster_sums,
    is_sparse,
    percentile_interval,
    two_way_bootstrap,
)
from esr.statistics import (
    NO_INTERVAL,
    Interval,
    cluster_codes,
    mean_interval,
    no_variation_interval,
    wald,
    wilson,
)

JUDGED = ["n_attempts", "first_score", "last_score", "score_change", "multi_attempt", "improved"]
COLUMNS = [
    *["trial_id", "prompt_id", "latent", "boost", "seed", "status"],
    *[*JUDGED, "restart_detected", "degraded"],
]
DEGRADED_RUN = 5  # a word so many times in a row makes a response degraded

Trials = Float[np.ndarray, " trials"]


@dataclass(frozen=True)
class Measure:
    """A mean over trials: `values` gives one number a trial, NaN outside the denominator.

    `lowest` and `highest` are the ends of a trial's range in `unit` (NaN: unbounded); a rate has
    values 0 or 100. A measure that is not `judged` is defined for every trial with a response.
    """

    name: str
    label: str
    unit: str
    definition: str
    values: Callable[[pd.DataFrame], Trials]
    lowest: float = 0
    highest: float = 100
    judged: bool = True

    @property
    def is_rate(self) -> bool:
        """Whether the measure is a share of trials."""
        return self.unit == "percent"

    def in_domain(self, scores: pd.DataFrame) -> Bool[np.ndarray, " trials"]:
        """Trials that could enter: the scored ones, or those with a response."""
        return _scored(scores) if self.judged else ~np.isnan(self.values(scores))


def _scored(scores: pd.DataFrame) -> Bool[np.ndarray, " trials"]:
    return (scores["status"] == "ok").to_numpy(bool)


def _numbers(scores: pd.DataFrame, column: str) -> Trials:
    """A column as floats (flags as 0 and 1), NaN where missing."""
    numbers = pd.to_numeric(scores[column]).astype("Float64")
    return np.asarray(numbers.to_numpy(float, na_value=np.nan))


def _scored_values(column: str, scale: float = 1) -> Callable[[pd.DataFrame], Trials]:
    return lambda scores: np.where(_scored(scores), scale * _numbers(scores, column), np.nan)


def _multi_values(column: str, scale: float = 1) -> Callable[[pd.DataFrame], Trials]:
    def values(scores: pd.DataFrame) -> Trials:
        multi = _scored(scores) & (_numbers(scores, "multi_attempt") == 1)
        return np.where(multi, scale * _numbers(scores, column), np.nan)

    return values


def _response_values(column: str) -> Callable[[pd.DataFrame], Trials]:
    return lambda scores: 100 * _numbers(scores, column)


_REGISTERED = [
    Measure(
        *("first_score", "First-attempt score", "points"),
        "mean score of the first attempt",
        _scored_values("first_score"),
    ),
    Measure(
        *("multi_attempt_rate", "Multi-attempt rate", "percent"),
        "trials with two attempts or more",
        _scored_values("multi_attempt", 100),
    ),
    Measure(
        *("esr_rate", "ESR rate", "percent"),
        "trials with two attempts or more whose last scores higher than the first",
        _scored_values("improved", 100),
    ),
    Measure(
        *("success_rate", "Improvement rate", "percent"),
        "multi-attempt trials whose last attempt scores higher than the first",
        _multi_values("improved", 100),
    ),
    Measure(
        *("msi", "Mean score improvement", "points"),
        "mean of last minus first score over all trials, 0 for a single attempt",
        _scored_values("score_change"),
        lowest=-100,
    ),
    Measure(
        *("msi_multi", "Mean score improvement (multi-attempt)", "points"),
        "mean of last minus first score over the multi-attempt trials",
        _multi_values("score_change"),
        lowest=-100,
    ),
    Measure(
        *("mean_attempts", "Attempts", "attempts"),
        "mean number of attempts",
        _scored_values("n_attempts"),
        lowest=1,
        highest=np.nan,
    ),
    Measure(
        *("degraded_rate", "Degraded responses", "percent"),
        "responses in which a word is repeated five times or more in a row",
        _response_values("degraded"),
        judged=False,
    ),
    Measure(
        *("restart_rate", "Restart rate (no judge)", "percent"),
        "responses in which the judge-free detector finds a restart",
        _response_values("restart_detected"),
        judged=False,
    ),
]
MEASURES = {measure.name: measure for measure in _REGISTERED}


def degraded(response: str) -> bool:
    """Whether a whitespace-separated word of two characters or more occurs 5 times in a row."""
    runs = ((word, sum(1 for _ in run)) for word, run in groupby(response.split()))
    return any(len(word) > 1 and length >= DEGRADED_RUN for word, length in runs)


def without_degraded(scores: pd.DataFrame) -> pd.DataFrame:
    """The scores with degraded trials taken out: status `degraded`, no judged values.

    The paper's robustness check; the rows stay, so that they are counted as excluded.
    """
    out = scores.astype(dict.fromkeys(JUDGED[:4], "Float64") | dict.fromkeys(JUDGED[4:], "boolean"))
    drop = _scored(scores) & (_numbers(scores, "degraded") == 1)
    out.loc[drop, "status"] = "degraded"
    out.loc[drop, JUDGED] = pd.NA
    return out


def check_scores(scores: pd.DataFrame) -> None:
    """Check columns and identities of a scores table.

    Raises:
        EsrError: a column is missing; a scored trial lacks a value or contradicts itself (for
            example score_change != last - first); a trial with another status has scores.
    """
    missing = [column for column in COLUMNS if column not in scores.columns]
    if missing:
        raise EsrError(f"scores table lacks the columns {missing}; it has {list(scores.columns)}")
    ok = _scored(scores)
    judged = {column: _numbers(scores, column) for column in JUDGED}
    attempts, first, last, change, multi, improved = judged.values()
    problems = {
        "trial_id is repeated": scores["trial_id"].duplicated().to_numpy(),
        "status is missing": scores["status"].isna().to_numpy(),
        "score outside 0-100": ok
        & ((np.minimum(first, last) < 0) | (np.maximum(first, last) > 100)),
        "score_change is not last_score - first_score": ok & (np.abs(last - first - change) > 1e-6),
        "one attempt but first_score differs from last_score": ok & (multi == 0) & (change != 0),
        "multi_attempt is not n_attempts > 1": ok & (multi != (attempts > 1)),
        "improved is not multi_attempt and last > first": ok & (improved != (multi * change > 0)),
    }
    for column, values in judged.items():
        problems[f"status is ok but {column} is missing"] = ok & np.isnan(values)
        if column != "n_attempts":
            problems[f"status is not ok but {column} has a value"] = ~ok & ~np.isnan(values)
    for problem, where in problems.items():
        if where.any():
            trials = scores.loc[where, "trial_id"].tolist()
            raise EsrError(
                f"{problem} in {len(trials)} trials, e.g. {trials[:3]}; score them again"
            )


def exclusions(scores: pd.DataFrame) -> pd.DataFrame:
    """Trials by status: columns status, n, percent; `ok` first, `total` last."""
    counts = scores["status"].value_counts()
    order = sorted(counts.index, key=lambda status: (status != "ok", -counts[status], status))
    table = pd.DataFrame({"status": order, "n": [int(counts[status]) for status in order]})
    if table["n"].sum() != len(scores):
        raise EsrError(f"{len(scores) - table['n'].sum()} of {len(scores)} trials have no status")
    total = pd.DataFrame({"status": ["total"], "n": [len(scores)]})
    table = pd.concat([table, total], ignore_index=True)
    return table.assign(percent=100 * table["n"] / max(len(scores), 1))


def summarise(
    scores: pd.DataFrame,
    measures: Sequence[str] = tuple(MEASURES),
    *,
    n_boot: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    cluster: str = "latent",
    crossed: str | None = "prompt_id",
) -> pd.DataFrame:
    """Each measure with its intervals, one row per (measure, method).

    Methods: `wilson` (rates) or `t` (means) and `wald` treat trials as independent;
    `cluster_bootstrap` resamples the ids in `cluster`; `two_way_bootstrap` also those in
    `crossed` (None: left out). Columns: measure, value, unit, n (denominator), n_events (rates),
    n_clusters (in the denominator), low, high, level, method, status. Status:

    - `ok`;
    - `undefined`: empty denominator, value NaN;
    - `too_few`: one trial or one cluster, no interval;
    - `no_variation`: all values equal (for instance no event), where the bootstrap and t collapse:
      low and high come from Wilson's bound on units that differ (`no_variation_interval`), except
      for `wald`, which keeps the paper's zero width;
    - `sparse`: too few clusters, or clusters with events, for the bootstrap (`is_sparse`).

    Raises:
        EsrError: an invalid table, an unknown measure, a missing id in `cluster` or `crossed`.
    """
    check_scores(scores)
    factors = [scores[column].to_numpy() for column in (cluster, crossed) if column]
    rows: list[dict[str, Any]] = []
    for measure in find_measures(measures):
        values = measure.values(scores)
        present = values[~np.isnan(values)]
        shared = {
            "measure": measure.name,
            "value": float(present.mean()) if len(present) else np.nan,
            "unit": measure.unit,
            "n": len(present),
            "n_events": int((present > 0).sum()) if measure.is_rate else pd.NA,
            "n_clusters": len(np.unique(factors[0][~np.isnan(values)])),
        }
        intervals = _trial_intervals(measure, present, level)
        for count, method in enumerate(
            ["cluster_bootstrap", "two_way_bootstrap"][: len(factors)], 1
        ):
            intervals[method] = _bootstrap_interval(
                measure, values, factors[:count], level, n_boot, seed
            )
        for method, (interval, status) in intervals.items():
            ends = {"low": interval.low, "high": interval.high, "level": level}
            rows.append(shared | ends | {"method": method, "status": status})
    return pd.DataFrame(rows).astype({"n_events": "Int64"})


def find_measures(names: Sequence[str]) -> list[Measure]:
    """The registered measures of these names; raises EsrError on an unknown one."""
    unknown = [name for name in names if name not in MEASURES]
    if unknown:
        raise EsrError(f"unknown measures {unknown}; known are {list(MEASURES)}")
    return [MEASURES[name] for name in names]


def _trial_intervals(
    measure: Measure, present: Trials, level: float
) -> dict[str, tuple[Interval, str]]:
    """Intervals that treat trials as independent, with their status."""
    n = len(present)
    methods = ("wilson", "wald") if measure.is_rate else ("t", "wald")
    if n == 0 or (n == 1 and not measure.is_rate):
        return dict.fromkeys(methods, (NO_INTERVAL, "undefined" if n == 0 else "too_few"))
    constant = "no_variation" if np.ptp(present) == 0 else "ok"
    if measure.is_rate:
        k = present.sum() / 100
        score, normal = (_percent(interval(k, n, level)) for interval in (wilson, wald))
        return {"wilson": (score, "ok"), "wald": (normal, constant)}
    student = mean_interval(present, level, "t")
    if constant == "no_variation":
        ends = measure.lowest, measure.highest
        student = no_variation_interval(float(present[0]), n, *ends, level)
    return {"t": (student, constant), "wald": (mean_interval(present, level, "wald"), constant)}


def _percent(interval: Interval) -> Interval:
    return Interval(100 * interval.low, 100 * interval.high)


def _bootstrap_interval(
    measure: Measure,
    values: Trials,
    factors: list[np.ndarray],
    level: float,
    n_boot: int,
    seed: int,
) -> tuple[Interval, str]:
    """Interval from resampling one factor or two crossed ones, with its status."""
    present = values[~np.isnan(values)]
    sums = [cluster_sums(values, *cluster_codes(factor)) for factor in factors]
    informative = min(int((each[:, 1] > 0).sum()) for each in sums)
    if informative < 2:
        return NO_INTERVAL, "too_few" if len(present) else "undefined"
    if np.ptp(present) == 0:
        ends = measure.lowest, measure.highest
        interval = no_variation_interval(float(present[0]), informative, *ends, level)
        return interval, "no_variation"
    if len(factors) == 1:
        replicates = cluster_bootstrap(values, factors[0], n_boot, seed)
    else:
        replicates = two_way_bootstrap(values, factors[0], factors[1], n_boot, seed)
    interval = percentile_interval(replicates, level)
    sparse = np.isnan(interval.low) or any(is_sparse(each) for each in sums)
    return interval, "sparse" if sparse else "ok"

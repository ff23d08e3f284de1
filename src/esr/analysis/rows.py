"""Rows of values with intervals: the form in which figures and `tables/contrasts.csv` hold them.

Every row has measure, value, low and high in its unit, n (trials of the denominator, or pairs) and
status; a missing value is NaN, and its status gives the reason. Where several methods are
possible, it has `method`, too.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from esr.analysis.comparisons import compare
from esr.analysis.measures import summarise
from esr.analysis.sweeps import peak
from esr.arms.scores import select
from esr.config import StatisticsConfig

BOTH = ["steered", "unsteered"]
"""Arms with and without steering."""


def large_to_small(models: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Names of the models in the order in which figures show them."""
    return sorted(models, key=lambda name: -models[name]["parameters"])


def estimates(
    scores: pd.DataFrame,
    measures: Sequence[str],
    settings: StatisticsConfig,
    *,
    by: Sequence[str] = (),
) -> pd.DataFrame:
    """Measures with their intervals (`esr.analysis.measures.summarise`).

    Columns: those of `by`, measure, value, low, high, method, n, status.

    Args:
        scores: Scores of an arm.
        measures: Names in `esr.analysis.measures.MEASURES`.
        settings: Of the intervals.
        by: Columns whose combinations are the groups.
    """
    table = summarise(scores, measures, by=by, level=settings.level)
    columns = [*by, "measure", "value", "low", "high", "method", "n", "status"]
    return table.rename(columns={"estimate": "value"})[columns]


def differences(
    baseline: pd.DataFrame,
    treatment: pd.DataFrame,
    measures: Sequence[str],
    settings: StatisticsConfig,
) -> pd.DataFrame:
    """Treatment minus baseline over shared trials, paired (`esr.analysis.comparisons.compare`).

    Columns: measure, baseline, treatment, value (difference), low, high, method, p_value, n
    (pairs), dropped (pairs in which a trial has no score), status. Of samples, n counts treated
    trials.
    """
    table = compare(baseline, treatment, measures, level=settings.level, seed=settings.seed)
    table["n_pairs"] = table["n_pairs"].fillna(table["n_treatment"])
    names = {"difference": "value", "n_pairs": "n", "n_dropped": "dropped"}
    columns = ["measure", "baseline", "treatment", "value", "low", "high", "method", "p_value", "n"]
    return table.rename(columns=names)[[*columns, "dropped", "status"]]


def no_steering(
    scores: pd.DataFrame,
    models: Mapping[str, Mapping[str, Any]],
    measures: Sequence[str],
    settings: StatisticsConfig,
    restarted: str = "multi_attempt",
) -> pd.DataFrame:
    """Steered and unsteered trials of every model, large to small, and their paired difference.

    Columns: model, label, kind (`arm`, or `difference`: steered minus unsteered), arm, measure,
    value, low, high, method, n, events (multi-attempt trials), status.

    Args:
        scores: Scores of the arms `steered` and `unsteered` of all models.
        models: Label and size by model.
        measures: Names in `esr.analysis.measures.MEASURES`.
        settings: Of the intervals.
        restarted: Column of scores: whether a trial has several attempts.
    """
    rows = []
    for model in large_to_small(models):
        both = {arm: select(scores, model=model, arm=arm) for arm in BOTH}
        facts = {"model": model, "label": models[model]["label"]}
        for arm, table in both.items():
            if table.empty:
                found = missing(measures, "not_run")
            else:
                found = estimates(table, measures, settings)
                found["events"] = int(table[restarted].fillna(False).sum())
            rows.append(found.assign(kind="arm", arm=arm, **facts))
        if any(table.empty for table in both.values()):
            change = missing(measures, "not_run")
        else:
            change = differences(both["unsteered"], both["steered"], measures, settings)
        rows.append(change.assign(kind="difference", **facts))
    columns = ["model", "label", "kind", "arm", "measure", "value", "low", "high", "method"]
    return pd.concat(rows, ignore_index=True).reindex(columns=[*columns, "n", "events", "status"])


def peaks(
    scores: pd.DataFrame,
    measures: Sequence[str],
    settings: StatisticsConfig,
    *,
    over: str = "sweep_level",
) -> pd.DataFrame:
    """Value of the column `over` at which each measure is highest (`esr.analysis.sweeps.peak`).

    Columns: measure, value, low, high (in the unit of `over`), method, n (scored trials), status.
    """
    rows = [
        peak(
            scores,
            measure,
            over=over,
            level=settings.level,
            n_boot=settings.bootstrap,
            seed=settings.seed,
        )
        for measure in measures
    ]
    table = pd.DataFrame(rows).rename(columns={"peak": "value"})
    return table.assign(n=int(scores["status"].eq("ok").sum()), method="cluster_bootstrap")


def missing(measures: Sequence[str], status: str) -> pd.DataFrame:
    """Rows of measures without trials; `status` gives the reason (`not_run`, `no_labels`)."""
    empty = dict.fromkeys(("value", "low", "high"), np.nan)
    return pd.DataFrame({"measure": list(measures)}).assign(**empty, n=0, status=status)

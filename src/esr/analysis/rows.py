"""Rows of values with intervals: the form in which figures and `tables/contrasts.csv` hold them.

Every row has measure, value, low and high in its unit, n (trials of the denominator, or pairs) and
status; a missing value is NaN, and its status says why.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from esr.analysis.comparisons import compare
from esr.analysis.measures import MEASURES, summarise
from esr.analysis.statistics import rule_of_three
from esr.analysis.sweeps import peak
from esr.arms.scores import select
from esr.config import StatisticsConfig

CLUSTERS = {"steered": "latent", "unsteered": "prompt_id"}
"""Unit of resampling of an arm: an unsteered trial has no latent."""

NONE_IF_SINGLE = ["multi_attempt_rate", "restart_rate", "esr_rate", "msi"]
"""Measures that are 0 if no trial has a second attempt."""


def large_to_small(models: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Names of the models in the order in which figures show them."""
    return sorted(models, key=lambda name: -models[name]["parameters"])


def estimates(
    scores: pd.DataFrame,
    measures: Sequence[str],
    settings: StatisticsConfig,
    *,
    by: Sequence[str] = (),
    cluster: str = "latent",
) -> pd.DataFrame:
    """Measures with clustered bootstrap intervals.

    Columns: those of `by`, measure, value, low, high, n, status.

    Args:
        scores: Scores of an arm.
        measures: Names in `esr.analysis.measures.MEASURES`.
        settings: Of the intervals.
        by: Columns whose combinations are the groups.
        cluster: Unit of resampling; `prompt_id` for trials without a latent.
    """
    table = summarise(
        scores,
        measures,
        by=by,
        n_boot=settings.bootstrap,
        seed=settings.seed,
        level=settings.level,
        cluster=cluster,
        crossed=None,
    )
    table = table[table["method"].eq("cluster_bootstrap")].rename(columns={"estimate": "value"})
    return table[[*by, "measure", "value", "low", "high", "n", "status"]].reset_index(drop=True)


def differences(
    baseline: pd.DataFrame,
    treatment: pd.DataFrame,
    measures: Sequence[str],
    settings: StatisticsConfig,
) -> pd.DataFrame:
    """Treatment minus baseline over shared trials, paired (`esr.analysis.comparisons.compare`).

    Columns: measure, baseline, treatment, value (difference), low, high, p_value, n (pairs),
    dropped (pairs in which a trial has no score), status. Of samples, n counts treated trials.
    """
    table = compare(
        baseline,
        treatment,
        measures,
        level=settings.level,
        n_boot=settings.bootstrap,
        seed=settings.seed,
    )
    table["n_pairs"] = table["n_pairs"].fillna(table["n_treatment"])
    names = {"difference": "value", "n_pairs": "n", "n_dropped": "dropped"}
    columns = ["measure", "baseline", "treatment", "value", "low", "high", "p_value", "n"]
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
        restarted: Column of scores that says whether a trial has several attempts.
    """
    rows = []
    for model in large_to_small(models):
        both = {arm: select(scores, model=model, arm=arm) for arm in CLUSTERS}
        facts = {"model": model, "label": models[model]["label"]}
        for arm, table in both.items():
            cluster = CLUSTERS[arm]
            if table.empty:
                found = missing(measures, "not_run")
            else:
                found = estimates(table, measures, settings, cluster=cluster)
                found["events"] = int(table[restarted].fillna(False).sum())
            rows.append(found.assign(kind="arm", arm=arm, method=f"bootstrap:{cluster}", **facts))
        if any(table.empty for table in both.values()):
            change = missing(measures, "not_run")
        else:
            change = differences(both["unsteered"], both["steered"], measures, settings)
        rows.append(change.assign(kind="difference", method="paired bootstrap:latent", **facts))
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

    Columns: measure, value, low, high (in the unit of `over`), n (scored trials), status.
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
    return table.assign(n=int(scores["status"].eq("ok").sum()))


def missing(measures: Sequence[str], status: str) -> pd.DataFrame:
    """Rows of measures without trials; `status` says why (`not_run`, `no_labels`)."""
    empty = dict.fromkeys(("value", "low", "high"), np.nan)
    return pd.DataFrame({"measure": list(measures)}).assign(**empty, n=0, status=status)


def bound_no_restarts(table: pd.DataFrame, level: float) -> pd.DataFrame:
    """Set the interval of unsteered arms without any second attempt by the rule of three.

    It bounds the share of trials with a second attempt; each of them could change the score by at
    most 100 points, up or down. Trials count as independent, as in the paper.
    """
    table = table.copy()
    none = table["arm"].eq("unsteered") & table["events"].eq(0) & table["n"].gt(0)
    none &= table["measure"].isin(NONE_IF_SINGLE)
    bound = 100 * table.loc[none, "n"].map(lambda n: rule_of_three(n, level))
    rate = table.loc[none, "measure"].map(lambda name: MEASURES[name].is_rate).astype(bool)
    table.loc[none, "high"] = bound
    table.loc[none, "low"] = np.where(rate, 0.0, -bound)
    table.loc[none, "method"] = "rule_of_three"
    return table

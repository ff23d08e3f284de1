"""Tables behind the figures: what several of them plot, in one form.

Every row has panel (a measure), value, low and high in its unit, n (trials of the denominator, or
pairs) and status; a value that is missing is NaN and its status says why.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from esr.analysis.comparisons import compare
from esr.analysis.measures import summarise
from esr.analysis.sweeps import peak
from esr.config import StatisticsConfig
from esr.figures.style import save
from esr.job import config_of, output
from esr.tables import read_table

TITLES = {
    "first_score": "First attempt",
    "multi_attempt_rate": "Multi-attempt",
    "success_rate": "Success rate",
    "esr_rate": "ESR rate",
    "msi": "MSI",
}
UNITS = {
    "first_score": "points",
    "multi_attempt_rate": "% of trials",
    "success_rate": "% of multi-attempt",
    "esr_rate": "% of trials",
    "msi": "points per trial",
}

CLUSTERS = {"steered": "latent", "unsteered": "prompt_id"}
"""Unit of resampling of steered trials and of those that no latent has touched."""

Scores = dict[str, pd.DataFrame]
"""Scores of an arm by model."""


def write_figure(
    job: Any, table: pd.DataFrame, draw: Callable[[pd.DataFrame, str, float], Figure]
) -> None:
    """Write a figure's three files: what it plots (CSV), and the drawing of it (PDF, PNG).

    Args:
        job: Snakemake's job, with outputs `csv`, `pdf`, `png`.
        table: Everything that is plotted.
        draw: Draws it, given the study's title and the level of the intervals.
    """
    config = config_of(job)
    table.to_csv(output(job, "csv"), index=False, float_format="%.6g")
    figure = draw(table, config.title, config.statistics.level)
    save(figure, output(job, "pdf"), output(job, "png"))


def read_scores(paths: Iterable[str]) -> dict[str, Scores]:
    """Scores by arm and model, as their paths name them (`esr.tables`, table `scores`)."""
    found: dict[str, Scores] = {}
    for path in map(Path, paths):
        arm, model = path.parents[1].name, path.parents[3].name
        found.setdefault(arm, {})[model] = read_table(path, "scores")
    return found


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

    Columns: those of `by`, panel, value, low, high, n, status.

    Args:
        scores: Table `scores` of an arm.
        measures: Names in `esr.analysis.measures.MEASURES`.
        settings: Of the intervals.
        by: Columns whose combinations are the groups.
        cluster: Unit of resampling; `prompt_id` where the latent makes no difference.
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
    table = table[table["method"].eq("cluster_bootstrap")]
    table = table.rename(columns={"measure": "panel", "estimate": "value"})
    return table[[*by, "panel", "value", "low", "high", "n", "status"]].reset_index(drop=True)


def differences(
    baseline: pd.DataFrame,
    treatment: pd.DataFrame,
    measures: Sequence[str],
    settings: StatisticsConfig,
) -> pd.DataFrame:
    """Treatment minus baseline over shared trials, paired (`esr.analysis.comparisons.compare`).

    Columns: panel, baseline, treatment, value (difference), low, high, p_value, n (pairs), dropped
    (pairs of which one trial has no score), status.
    """
    table = compare(
        baseline,
        treatment,
        measures,
        level=settings.level,
        n_boot=settings.bootstrap,
        seed=settings.seed,
    )
    names = {"measure": "panel", "difference": "value", "n_pairs": "n", "n_dropped": "dropped"}
    columns = ["panel", "baseline", "treatment", "value", "low", "high", "p_value", "n"]
    return table.rename(columns=names)[[*columns, "dropped", "status"]]


def no_steering(
    scores: Mapping[str, Scores],
    models: Mapping[str, Mapping[str, Any]],
    measures: Sequence[str],
    settings: StatisticsConfig,
) -> pd.DataFrame:
    """Steered and unsteered trials of every model, large to small, and their paired difference.

    Columns: model, label, kind (`arm`, or `difference`: steered minus unsteered), arm, panel,
    value, low, high, method, n, events (multi-attempt trials), status. Prompts are the unit of
    resampling of unsteered trials, which no latent has touched.
    """
    rows = []
    for model in large_to_small(models):
        both = {arm: scores.get(arm, {}).get(model) for arm in CLUSTERS}
        facts = {"model": model, "label": models[model]["label"]}
        for arm, table in both.items():
            cluster = CLUSTERS[arm]
            if table is None:
                found = missing(measures, "not_run")
            else:
                found = estimates(table, measures, settings, cluster=cluster)
                found["events"] = int(table["multi_attempt"].fillna(False).sum())
            rows.append(found.assign(kind="arm", arm=arm, method=f"bootstrap:{cluster}", **facts))
        if both["steered"] is not None and both["unsteered"] is not None:
            change = differences(both["unsteered"], both["steered"], measures, settings)
        else:
            change = missing(measures, "not_run")
        rows.append(change.assign(kind="difference", method="paired bootstrap:latent", **facts))
    columns = ["model", "label", "kind", "arm", "panel", "value", "low", "high", "method"]
    return pd.concat(rows, ignore_index=True).reindex(columns=[*columns, "n", "events", "status"])


def peaks(
    scores: pd.DataFrame, measures: Sequence[str], settings: StatisticsConfig
) -> pd.DataFrame:
    """Level of a boost sweep at which each measure is highest (`esr.analysis.sweeps.peak`).

    Columns: panel, value, low, high (levels), n (scored trials), status.
    """
    rows = [
        peak(
            scores,
            measure,
            level=settings.level,
            n_boot=settings.bootstrap,
            seed=settings.seed,
        )
        for measure in measures
    ]
    table = pd.DataFrame(rows).rename(columns={"measure": "panel", "peak": "value"})
    return table.assign(n=int(scores["status"].eq("ok").sum()))


def missing(measures: Sequence[str], status: str) -> pd.DataFrame:
    """Rows of measures that there are no trials of; `status` says why (`not_run`, `no_labels`)."""
    empty = dict.fromkeys(("value", "low", "high"), np.nan)
    return pd.DataFrame({"panel": list(measures)}).assign(**empty, n=0, status=status)

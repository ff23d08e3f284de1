"""Contrasts across models and boosts: model against model, slopes over size, boost and share.

Columns: kind (`pair`, `trend`, `sweep`), model, against, arm, measure, unit, baseline, treatment,
difference (of two models, or a slope), low, high, method, p_value, status, n (trials, pairs),
n_clusters. Slopes have no closed form: their intervals are bootstraps over latents.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from esr.analysis.comparisons import compare_unpaired
from esr.analysis.measures import Measure, find_measures
from esr.analysis.pairing import align, pair_trials
from esr.analysis.statistics import (
    bootstrap_weights,
    cluster_codes,
    cluster_sums,
    is_sparse,
    paired_bootstrap,
    percentile_interval,
    ratio,
)
from esr.analysis.statistics.resampling import TIE
from esr.arms.scores import as_float, select, weights_of
from esr.config import StatisticsConfig

PAIRED = ["first_score", "multi_attempt_rate", "esr_rate", "success_rate", "msi", "mean_attempts"]
"""Measures in which models are compared."""
COLUMNS = ["kind", "model", "against", "arm", "measure", "unit", "baseline", "treatment"]
COLUMNS += ["difference", "low", "high", "method", "p_value", "status", "n", "n_clusters"]
BOOTSTRAP = "cluster_bootstrap"

Curve = Float[np.ndarray, " places"]


def pairs(
    scores: pd.DataFrame, settings: StatisticsConfig, measures: Sequence[str] = PAIRED
) -> pd.DataFrame:
    """Every model against every other one on an arm; both orders, with opposite signs.

    Args:
        scores: Scores of one arm of all models.
        settings: Of the intervals.
        measures: Names in `MEASURES`.
    """
    parts = []
    for first, second in combinations(scores["model"].unique(), 2):
        table = compare_unpaired(
            select(scores, model=second),
            select(scores, model=first),
            measures,
            level=settings.level,
            seed=settings.seed,
        )
        table["n"] = table["n_baseline"] + table["n_treatment"]
        parts += [
            table.assign(model=first, against=second),
            _mirrored(table).assign(model=second, against=first),
        ]
    return _rows(parts, kind="pair")


def size_trends(
    baselines: pd.DataFrame,
    treatments: pd.DataFrame,
    parameters: Mapping[str, float],
    settings: StatisticsConfig,
    measures: Sequence[str] = PAIRED,
) -> pd.DataFrame:
    """How an arm's paired effect changes with size: least-squares slope per tenfold parameters.

    The bootstrap draws the latents of each model independently. The slope is undefined unless two
    models differ in size.

    Args:
        baselines: Scores of the replayed arm of all models.
        treatments: Scores of the arm that replays it; a model without it is left out.
        parameters: Number of parameters, by model.
        settings: Of the intervals.
        measures: Names in `MEASURES`.
    """
    treated = set(treatments["model"])
    models = [model for model in baselines["model"].unique() if model in treated]
    sizes = np.log10([parameters[model] for model in models])
    aligned = [
        align(select(baselines, model=model), [select(treatments, model=model)]) for model in models
    ]
    rows = []
    for measure in find_measures(measures):
        effects = []
        curves = []
        sparse = False
        used = 0
        for order, both in enumerate(aligned):
            found = pair_trials(both, measure)
            (first, second), counts = found.sums(), found.counts()
            draws = paired_bootstrap(first, second, settings.bootstrap, settings.seed + order)
            effects.append(float(ratio(second.sum(axis=0)) - ratio(first.sum(axis=0))))
            curves.append(draws[1] - draws[0])
            sparse |= is_sparse(first) or is_sparse(second)
            used += counts["n_treatment"] if pd.isna(counts["n_pairs"]) else counts["n_pairs"]
        replicates = np.column_stack(curves) if curves else np.empty((0, 0))
        slope = slope_of(sizes, np.array(effects), replicates, sparse, settings.level)
        rows.append(_named(measure) | slope | {"n": used, "n_clusters": len(models)})
    return _rows([pd.DataFrame(rows).assign(method=BOOTSTRAP)], kind="trend")


def sweep_slopes(
    scores: pd.DataFrame, settings: StatisticsConfig, measures: Sequence[str] = PAIRED
) -> pd.DataFrame:
    """How each measure changes along a boost sweep: least-squares slope per sd of thresholds.

    The bootstrap draws latents, each with its trials at all levels.

    Args:
        scores: Scores of a boost sweep of all models.
        settings: Of the intervals.
        measures: Names in `MEASURES`.
    """
    rows = []
    for model in scores["model"].unique():
        table = select(scores, model=model)
        codes, count = cluster_codes(table["latent"])
        place = as_float(table, "sweep_level")
        levels = np.unique(place)
        draws = bootstrap_weights(count, settings.bootstrap, np.random.default_rng(settings.seed))
        weights = weights_of(table)
        for measure in find_measures(measures):
            values = measure.values(table)
            sums = [
                cluster_sums(np.where(place == at, values, np.nan), codes, count, weights)
                for at in levels
            ]
            curve = np.array([float(ratio(each.sum(axis=0))) for each in sums])
            replicates = np.column_stack([ratio(draws @ each) for each in sums])
            sparse = is_sparse(np.sum(sums, axis=0))
            found = slope_of(levels, curve, replicates, sparse, settings.level)
            n = int(np.isfinite(values).sum())
            rows.append(_named(measure) | found | {"model": model, "n": n, "n_clusters": count})
    return _rows([pd.DataFrame(rows).assign(method=BOOTSTRAP)], kind="sweep")


def slope_of(
    places: Curve,
    curve: Curve,
    replicates: Float[np.ndarray, "boot places"],
    sparse: bool,
    level: float,
) -> dict[str, Any]:
    """Least-squares slope of a curve, with the percentile interval of its replicates.

    It is undefined if a point is; it has no interval if all replicates are equal.
    """
    undefined = {"difference": np.nan, "low": np.nan, "high": np.nan, "status": "undefined"}
    if len(places) < 2 or np.ptp(places) == 0 or np.isnan(curve).any():
        return undefined
    centred = places - places.mean()
    coefficients = centred / (centred**2).sum()
    slope = float(curve @ coefficients)
    slopes = replicates @ coefficients
    if np.nanmax(slopes) - np.nanmin(slopes) < TIE:
        return undefined | {"difference": slope, "status": "no_variation"}
    low, high = percentile_interval(slopes, level)
    status = "sparse" if sparse or np.isnan(low) else "ok"
    return {"difference": slope, "low": low, "high": high, "status": status}


def _named(measure: Measure) -> dict[str, Any]:
    return {"measure": measure.name, "unit": measure.unit}


def _mirrored(table: pd.DataFrame) -> pd.DataFrame:
    """The same comparison with the two sides exchanged."""
    names = {"baseline": "treatment", "treatment": "baseline", "low": "high", "high": "low"}
    swapped = table.rename(columns=names)
    for column in ("difference", "low", "high"):
        swapped[column] = -swapped[column]
    return swapped


def _rows(parts: Sequence[pd.DataFrame], kind: str) -> pd.DataFrame:
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    return table.assign(kind=kind).reindex(columns=COLUMNS)

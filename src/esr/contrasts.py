"""Contrasts across models and boosts: model against model, and slopes over size and over boost.

Rows have kind (`pair`, `trend`, `sweep`), model, against, arm, measure, unit, baseline, treatment,
difference (of two models, or a slope), low, high, p_value, status, n (trials, pairs), n_clusters.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from esr.config import Statistics
from esr.measures import MEASURES, TIE, Measure, compare_unpaired, find_measures, paired_sums
from esr.statistics import (
    bootstrap_weights,
    cluster_codes,
    cluster_sums,
    is_sparse,
    paired_bootstrap,
    percentile_interval,
    ratio,
)

PAIRED = ["first_score", "multi_attempt_rate", "esr_rate", "success_rate", "msi", "mean_attempts"]
"""Measures in which models are compared."""
COLUMNS = ["kind", "model", "against", "arm", "measure", "unit", "baseline", "treatment"]
COLUMNS += ["difference", "low", "high", "p_value", "status", "n", "n_clusters"]

Scores = Mapping[str, pd.DataFrame]
Curve = Float[np.ndarray, " places"]


def pairs(scores: Scores, settings: Statistics, measures: Sequence[str] = PAIRED) -> pd.DataFrame:
    """Every model against every other one on an arm; both orders, with opposite signs.

    Args:
        scores: Scores of the arm, by model.
        settings: Of the intervals.
        measures: Names in `MEASURES`.
    """
    parts = []
    for first, second in combinations(scores, 2):
        table = compare_unpaired(
            scores[second],
            scores[first],
            measures,
            level=settings.level,
            n_boot=settings.bootstrap,
            seed=settings.seed,
        )
        table["n"] = table["n_baseline"] + table["n_treatment"]
        parts += [
            table.assign(model=first, against=second),
            _mirrored(table).assign(model=second, against=first),
        ]
    return _rows(parts, kind="pair")


def size_trends(
    baselines: Scores,
    treatments: Scores,
    parameters: Mapping[str, float],
    settings: Statistics,
    measures: Sequence[str] = PAIRED,
) -> pd.DataFrame:
    """How an arm's paired effect changes with size: least-squares slope per tenfold parameters.

    Latents are drawn in each model on its own. Undefined unless two models differ in size.

    Args:
        baselines: Scores of the arm that is replayed, by model.
        treatments: Scores of the arm that replays it, by model.
        parameters: Number of parameters, by model.
        settings: Of the intervals.
        measures: Names in `MEASURES`.
    """
    models = [model for model in baselines if model in treatments]
    sizes = np.log10([parameters[model] for model in models])
    rows = []
    for measure in find_measures(measures):
        effects, curves, sparse, used = [], [], False, 0
        for order, model in enumerate(models):
            table, first, second = paired_sums(baselines[model], treatments[model], measure)
            draws = paired_bootstrap(first, second, settings.bootstrap, settings.seed + order)
            effects.append(float(ratio(second.sum(axis=0)) - ratio(first.sum(axis=0))))
            curves.append(draws[1] - draws[0])
            sparse |= is_sparse(first) or is_sparse(second)
            used += int(table["reason"].eq("used").sum())
        replicates = np.column_stack(curves) if curves else np.empty((0, 0))
        found = _slope(sizes, np.array(effects), replicates, sparse, settings.level)
        rows.append(_named(measure) | found | {"n": used, "n_clusters": len(models)})
    return _rows([pd.DataFrame(rows)], kind="trend")


def sweep_slopes(
    scores: Scores, settings: Statistics, measures: Sequence[str] = PAIRED
) -> pd.DataFrame:
    """How each measure changes along a boost sweep: least-squares slope per sd of thresholds.

    Whole latents are drawn, with their trials at all levels.
    """
    rows = []
    for model, table in scores.items():
        codes, count = cluster_codes(table["latent"])
        place = table["level"].to_numpy(float)
        levels = np.unique(place)
        weights = bootstrap_weights(count, settings.bootstrap, np.random.default_rng(settings.seed))
        for measure in find_measures(measures):
            values = measure.values(table)
            sums = [
                cluster_sums(np.where(place == at, values, np.nan), codes, count) for at in levels
            ]
            curve = np.array([float(ratio(each.sum(axis=0))) for each in sums])
            replicates = np.column_stack([ratio(weights @ each) for each in sums])
            sparse = is_sparse(np.sum(sums, axis=0))
            found = _slope(levels, curve, replicates, sparse, settings.level)
            n = int(np.isfinite(values).sum())
            rows.append(_named(measure) | found | {"model": model, "n": n, "n_clusters": count})
    return _rows([pd.DataFrame(rows)], kind="sweep")


def _slope(
    places: Curve,
    curve: Curve,
    replicates: Float[np.ndarray, "boot places"],
    sparse: bool,
    level: float,
) -> dict[str, Any]:
    """Least-squares slope of a curve, with the percentile interval of its replicates.

    Without a defined point anywhere it is undefined; if no replicate differs it has no interval.
    """
    undefined = {"difference": np.nan, "low": np.nan, "high": np.nan, "status": "undefined"}
    if len(places) < 2 or np.ptp(places) == 0 or np.isnan(curve).any():
        return undefined
    centred = places - places.mean()
    coefficients = centred / (centred**2).sum()
    slope, slopes = float(curve @ coefficients), replicates @ coefficients
    if np.nanmax(slopes) - np.nanmin(slopes) < TIE:
        return undefined | {"difference": slope, "status": "no_variation"}
    low, high = percentile_interval(slopes, level)
    status = "sparse" if sparse or np.isnan(low) else "ok"
    return {"difference": slope, "low": low, "high": high, "status": status}


def _named(measure: Measure) -> dict[str, Any]:
    return {"measure": measure.name, "unit": MEASURES[measure.name].unit}


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

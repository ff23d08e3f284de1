"""The level of a boost sweep at which a measure is largest."""

from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from esr.analysis.measures import find_measures
from esr.analysis.statistics import (
    bootstrap_weights,
    cluster_codes,
    cluster_sums,
    is_sparse,
    percentile_interval,
    ratio,
)
from esr.analysis.statistics.resampling import TIE
from esr.arms.scores import as_float, check_scores, weights_of

Cells = Float[np.ndarray, "places clusters 2"]
N_PERMUTATIONS = 499
"""Permutations of the test of a flat curve."""


def peak(
    scores: pd.DataFrame,
    measure: str,
    *,
    over: str = "sweep_level",
    cluster: str = "latent",
    level: float = 0.95,
    n_boot: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Value of the column `over` at which a measure is largest, without smoothing.

    The bootstrap draws clusters, each with its trials at all values of `over`; the interval is that
    of the replicates' maxima. A tie within a replicate is broken at random.

    Returns:
        measure, peak (NaN if undefined or tied), low, high (in the unit of `over`), status: `ok`;
        `flat` (the curve is no steeper than chance makes it, `flatness`, so that its maximum is
        no peak); `tied` (several values of `over` share the maximum); `no_variation` (all equal,
        so no peak); `too_few` (clusters); `sparse` (no interval, or few clusters deviate);
        `undefined`.

    Raises:
        EsrError: an invalid table, an unknown measure, a missing cluster id.
    """
    check_scores(scores)
    values = find_measures([measure])[0].values(scores)
    codes, count = cluster_codes(scores[cluster])
    column = as_float(scores, over)
    places = np.unique(column[~np.isnan(column)])
    weights = weights_of(scores)
    sums = [
        cluster_sums(np.where(column == at, values, np.nan), codes, count, weights) for at in places
    ]
    found = {"measure": measure, "peak": np.nan, "low": np.nan, "high": np.nan}
    curve = np.array([float(ratio(each.sum(axis=0))) for each in sums])
    if np.isnan(curve).all():
        return found | {"status": "undefined"}
    highest = np.nanmax(curve)
    if highest - np.nanmin(curve) < TIE:
        return found | {"status": "no_variation"}
    tied = np.sum(highest - curve < TIE) > 1
    found["peak"] = np.nan if tied else float(places[np.nanargmax(curve)])
    if count < 2:
        return found | {"status": "too_few"}
    rng = np.random.default_rng(seed)
    draws = bootstrap_weights(count, n_boot, rng)
    replicates = np.column_stack([ratio(draws @ each) for each in sums])
    interval = percentile_interval(place_of_maximum(replicates, places, rng), level)
    sparse = np.isnan(interval.low) or is_sparse(np.sum(sums, axis=0))
    status = "tied" if tied else "sparse" if sparse else "ok"
    if flatness(np.array(sums), seed) > 1 - level:
        status = "flat"
    return found | interval._asdict() | {"status": status}


def flatness(sums: Cells, seed: int = 0, n_permutations: int = N_PERMUTATIONS) -> float:
    """p-value of a flat curve: places exchanged among the cells of each cluster.

    A cell is all trials of a cluster at a place; its trials stay together: they may be correlated.
    Statistic: sum over places of (trials with a value) x (mean there - mean of all)^2. Without an
    effect of the place on clusters in general, all exchanges are equally likely (Fisher 1935).
    p = (1 + hits) / (1 + draws) (Phipson and Smyth 2010).

    Args:
        sums: Sum of the values and number of values of each cell.
        seed: Of the permutations.
        n_permutations: Drawn.
    """
    total, count = sums.sum(axis=(0, 1))
    if not count:
        return np.nan
    centred = np.stack([sums[..., 0] - sums[..., 1] * total / count, sums[..., 1]], axis=-1)
    rng = np.random.default_rng(seed)
    observed = _between(centred)
    order = rng.random((n_permutations, *sums.shape[:2])).argsort(axis=1)
    exchanged = np.take_along_axis(centred[None], order[..., None], axis=1)
    hits = int(np.sum(_between(exchanged) >= observed - TIE))
    return (1 + hits) / (1 + n_permutations)


def _between(
    cells: Float[np.ndarray, "*draws places clusters 2"],
) -> Float[np.ndarray, "*draws"]:
    """Sum over places of (sum of centred values)^2 / number of values."""
    of_place = cells.sum(axis=-2)
    between: np.ndarray = (of_place[..., 0] ** 2 / np.maximum(of_place[..., 1], TIE)).sum(axis=-1)
    return between


def place_of_maximum(
    curves: Float[np.ndarray, "boot places"],
    places: Float[np.ndarray, " places"],
    rng: np.random.Generator,
) -> Float[np.ndarray, " boot"]:
    """Place at which each curve is highest; NaN for a flat curve, which has no peak."""
    lot = curves + rng.uniform(0, TIE, curves.shape)
    found = places[np.argmax(np.where(np.isnan(lot), -np.inf, lot), axis=1)]
    lowest = np.where(np.isnan(curves), np.inf, curves).min(axis=1)
    highest = np.where(np.isnan(curves), -np.inf, curves).max(axis=1)
    return np.where(highest - lowest > TIE, found, np.nan)

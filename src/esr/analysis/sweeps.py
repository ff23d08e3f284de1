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
        `tied` (several values of `over` share the maximum); `no_variation` (all equal, so no peak);
        `too_few` (clusters); `sparse` (no interval, or few clusters deviate); `undefined`.

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
    return found | interval._asdict() | {"status": status}


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

"""Clusters of trials: sums for measures that are ratios, and how similar trials of a cluster are.

Every measure is sum(numerator) / sum(denominator), so a cluster is one such pair of sums.
"""

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from esr.errors import EsrError


def cluster_codes(clusters: ArrayLike) -> tuple[Int[np.ndarray, " trials"], int]:
    """Cluster index of each trial (in sorted order of the ids) and the number of clusters.

    Raises:
        EsrError: an id is missing: such a trial belongs to no unit of resampling.
    """
    given = np.asarray(clusters)
    if given.dtype.kind in "iu":  # none is missing; simulated studies have many
        found, codes = np.unique(given, return_inverse=True)
        return codes, len(found)
    ids = pd.Series(given)
    if ids.isna().any():
        raise EsrError(
            f"{int(ids.isna().sum())} of {len(ids)} trials have no cluster id; give every trial "
            "of an arm a latent, or none (trials over prompts alone are clustered by prompt)"
        )
    codes, levels = pd.factorize(ids, sort=True)
    return codes, len(levels)


def cluster_sums(
    values: Float[np.ndarray, " trials"],
    codes: Int[np.ndarray, " trials"],
    n_clusters: int,
    weights: Float[np.ndarray, " trials"] | None = None,
) -> Float[np.ndarray, "clusters 2"]:
    """Sum of the values and number of values of each cluster; NaN values add to neither.

    With sampling weights w these are sum(w value) and sum(w).
    """
    values = np.asarray(values, float)
    inside = ~np.isnan(values)
    numerator, denominator = np.where(inside, values, 0.0), inside.astype(float)
    if weights is not None:
        numerator, denominator = numerator * weights, denominator * weights
    sums = [np.bincount(codes, each, n_clusters) for each in (numerator, denominator)]
    return np.column_stack(sums)


def ratio(sums: Float[np.ndarray, "*batch 2"]) -> Float[np.ndarray, "*batch"]:
    """Numerator over denominator; NaN, never 0, where the denominator is 0."""
    numerator, denominator = sums[..., 0], sums[..., 1]
    return np.divide(
        numerator, denominator, out=np.full(denominator.shape, np.nan), where=denominator > 0
    )


def intracluster_correlation(values: Float[np.ndarray, " trials"], clusters: ArrayLike) -> float:
    """One-way ANOVA estimate of the intra-cluster correlation (Donner 1986); may be negative.

    rho = (MSB - MSW) / (MSB + (m0 - 1) MSW), m0 = (N - sum m^2 / N) / (C - 1). NaN values are
    left out; NaN if there is no variation or no cluster has two values.
    """
    values, codes, sizes = _present(values, clusters)
    n, count = len(values), len(sizes)
    if count < 2 or n <= count or np.ptp(values) == 0:
        return float("nan")
    means = np.bincount(codes, values) / sizes
    between = float(np.sum(sizes * (means - values.mean()) ** 2)) / (count - 1)
    within = float(np.sum((values - means[codes]) ** 2)) / (n - count)
    typical = (n - np.sum(sizes**2) / n) / (count - 1)
    return float((between - within) / (between + (typical - 1) * within))


def design_effect(values: Float[np.ndarray, " trials"], clusters: ArrayLike) -> float:
    """Variance of the mean over that of independent trials: 1 + (sum m^2 / N - 1) rho (Kish 1965).

    A negative rho counts as 0, so the result is at least 1 (or NaN where rho is).
    """
    rho = intracluster_correlation(values, clusters)
    if np.isnan(rho):
        return rho
    present, _, sizes = _present(values, clusters)
    return float(1 + (np.sum(sizes**2) / len(present) - 1) * max(rho, 0.0))


def _present(
    values: ArrayLike, clusters: ArrayLike
) -> tuple[Float[np.ndarray, " n"], Int[np.ndarray, " n"], Int[np.ndarray, " clusters"]]:
    """Values that are not NaN, their cluster codes and the cluster sizes."""
    numbers = np.asarray(values, float)
    inside = ~np.isnan(numbers)
    codes, n_clusters = cluster_codes(np.asarray(clusters)[inside])
    return numbers[inside], codes, np.bincount(codes, minlength=n_clusters)

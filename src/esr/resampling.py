"""Bootstrap and permutation over clusters, for measures that are ratios of sums.

Trials share a latent (and a prompt), so they are not independent; clusters are resampled instead.
Every measure is sum(numerator) / sum(denominator), so the currency here is one (numerator,
denominator) pair a cluster, made by `cluster_sums`. A NaN value lies outside the denominator; it
is never counted as 0. Formulas and sources: docs/method.md.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from esr.errors import EsrError
from esr.statistics import NO_INTERVAL, Interval, cluster_codes

CHUNK = 1_000  # resamples held in memory at once
FEW_CLUSTERS = 10  # a bootstrap of fewer clusters is called sparse
FEW_DEVIATING = 5  # so is one in which fewer clusters deviate from the commonest mean
MAX_EXACT_CLUSTERS = 14  # up to 2**14 sign patterns are enumerated
TIE = 1e-9  # resampled statistics this close to the observed one count as equal


class Permutation(NamedTuple):
    """A two-sided permutation p-value with the method (`exact`, `monte_carlo`, `undefined`)."""

    p_value: float
    method: str


def cluster_sums(
    values: Float[np.ndarray, " trials"], codes: Int[np.ndarray, " trials"], n_clusters: int
) -> Float[np.ndarray, "clusters 2"]:
    """Sum of the values and number of values of each cluster; NaN values add to neither."""
    values = np.asarray(values, float)
    inside = ~np.isnan(values)
    numerator = np.bincount(codes, np.where(inside, values, 0.0), n_clusters)
    return np.column_stack([numerator, np.bincount(codes, inside, n_clusters)])


def ratio(sums: Float[np.ndarray, "*batch 2"]) -> Float[np.ndarray, "*batch"]:
    """Numerator over denominator; NaN, never 0, where the denominator is 0."""
    numerator, denominator = sums[..., 0], sums[..., 1]
    return np.divide(
        numerator, denominator, out=np.full(denominator.shape, np.nan), where=denominator > 0
    )


def is_sparse(sums: Float[np.ndarray, "clusters 2"]) -> bool:
    """Whether a percentile bootstrap of these clusters is likely to be too narrow.

    So if fewer than 10 clusters have values, or the means of all but fewer than 5 of them are the
    same (a handful of clusters holds all the events).
    """
    means = ratio(sums[sums[:, 1] > 0]).round(9)
    commonest = max(np.unique(means, return_counts=True)[1], default=0)
    return len(means) < FEW_CLUSTERS or len(means) - commonest < FEW_DEVIATING


def bootstrap_weights(
    n_clusters: int, n_boot: int, rng: np.random.Generator
) -> Float[np.ndarray, "boot clusters"]:
    """How often each cluster is drawn when n_clusters are drawn with replacement."""
    if n_clusters < 2:
        raise EsrError(
            f"the bootstrap resamples clusters and got {n_clusters}; it needs at least 2"
        )
    draws = rng.integers(n_clusters, size=(n_boot, n_clusters))
    draws += n_clusters * np.arange(n_boot)[:, None]
    counts = np.bincount(draws.ravel(), minlength=n_boot * n_clusters)
    return counts.reshape(n_boot, n_clusters).astype(float)


def cluster_bootstrap(
    values: Float[np.ndarray, " trials"], clusters: ArrayLike, n_boot: int = 2000, seed: int = 0
) -> Float[np.ndarray, " boot"]:
    """Replicates of the mean when whole clusters are resampled (Davison and Hinkley 1997, 3.8).

    All clusters are resampled, also those without a value, so that the denominator varies as it
    would in a new study; a replicate without any value is NaN. Raises EsrError on a missing
    cluster id or a single cluster.
    """
    codes, n_clusters = cluster_codes(clusters)
    weights = bootstrap_weights(n_clusters, n_boot, np.random.default_rng(seed))
    return ratio(weights @ cluster_sums(values, codes, n_clusters))


def two_way_bootstrap(
    values: Float[np.ndarray, " trials"],
    first: ArrayLike,
    second: ArrayLike,
    n_boot: int = 2000,
    seed: int = 0,
) -> Float[np.ndarray, " boot"]:
    """Replicates of the mean when two crossed factors are resampled (Owen 2007).

    The pigeonhole bootstrap: a trial weighs (draws of its first id) x (draws of its second id).
    Conservative: it counts the variance of single trials up to three times.
    """
    rng = np.random.default_rng(seed)
    (rows, n_rows), (columns, n_columns) = cluster_codes(first), cluster_codes(second)
    row_weights = bootstrap_weights(n_rows, n_boot, rng)
    column_weights = bootstrap_weights(n_columns, n_boot, rng)
    cells = cluster_sums(values, rows * n_columns + columns, n_rows * n_columns)
    table = cells.reshape(n_rows, n_columns, 2)
    sums = [((row_weights @ table[..., i]) * column_weights).sum(axis=1) for i in (0, 1)]
    return ratio(np.column_stack(sums))


def paired_bootstrap(
    baseline: Float[np.ndarray, "clusters 2"],
    treatment: Float[np.ndarray, "clusters 2"],
    n_boot: int = 2000,
    seed: int = 0,
) -> tuple[Float[np.ndarray, " boot"], Float[np.ndarray, " boot"]]:
    """Replicates of both arms' ratios; each resample draws the same clusters in both arms."""
    _check_same_clusters(baseline, treatment)
    weights = bootstrap_weights(len(baseline), n_boot, np.random.default_rng(seed))
    return ratio(weights @ baseline), ratio(weights @ treatment)


def relative_change(baseline: ArrayLike, treatment: ArrayLike) -> Float[np.ndarray, "..."]:
    """Treatment / baseline - 1, as a fraction; NaN where the baseline is not positive."""
    base, treated = np.asarray(baseline, float), np.asarray(treatment, float)
    return np.divide(treated, base, out=np.full(base.shape, np.nan), where=base > 0) - 1


def percentile_interval(replicates: Float[np.ndarray, " boot"], level: float = 0.95) -> Interval:
    """Percentile interval (Efron 1979); none if more replicates are undefined than one tail."""
    tail = (1 - level) / 2
    undefined = np.isnan(replicates)
    if not len(replicates) or undefined.mean() > tail:
        return NO_INTERVAL
    low, high = np.quantile(replicates[~undefined], [tail, 1 - tail])
    return Interval(float(low), float(high))


def paired_permutation(
    baseline: Float[np.ndarray, "clusters 2"],
    treatment: Float[np.ndarray, "clusters 2"],
    n_permutations: int = 9_999,
    seed: int = 0,
) -> Permutation:
    """Test that arms are exchangeable within each cluster; statistic: difference of ratios.

    Swapping a cluster's arms flips the sign of its difference. Clusters whose arms agree change
    nothing; with at most 14 others all swaps are enumerated, else p = (1 + hits) / (1 + draws)
    (Phipson and Smyth 2010). A swap that empties a denominator counts as extreme.
    """
    _check_same_clusters(baseline, treatment)
    change = treatment - baseline
    change = change[(change != 0).any(axis=1)]
    count = len(change)
    exact = count <= MAX_EXACT_CLUSTERS
    swaps = _all_patterns(count) if exact else _coin_flips(count, n_permutations, seed)
    base, treated = baseline.sum(axis=0), treatment.sum(axis=0)
    moved = (chunk @ change for chunk in swaps)
    null = np.concatenate([ratio(treated - move) - ratio(base + move) for move in moved])
    return _p_value(float(ratio(treated) - ratio(base)), null, exact)


def unpaired_permutation(
    baseline: Float[np.ndarray, "clusters_a 2"],
    treatment: Float[np.ndarray, "clusters_b 2"],
    n_permutations: int = 9_999,
    seed: int = 0,
) -> Permutation:
    """Test that whole clusters are exchangeable between two independent arms (Monte Carlo)."""
    both = np.concatenate([baseline, treatment])
    rng = np.random.default_rng(seed)
    member = np.arange(len(both)) >= len(baseline)
    null = []
    for size in _chunk_sizes(n_permutations):
        drawn = rng.permuted(np.tile(member, (size, 1)), axis=1).astype(float) @ both
        null.append(ratio(drawn) - ratio(both.sum(axis=0) - drawn))
    observed = float(ratio(treatment.sum(axis=0)) - ratio(baseline.sum(axis=0)))
    return _p_value(observed, np.concatenate(null), exact=False)


def _p_value(observed: float, null: Float[np.ndarray, " permutations"], exact: bool) -> Permutation:
    if np.isnan(observed):
        return Permutation(np.nan, "undefined")
    hits = int(np.sum(np.isnan(null) | (np.abs(null) >= abs(observed) - TIE)))
    if exact:
        return Permutation(hits / len(null), "exact")
    return Permutation((1 + hits) / (1 + len(null)), "monte_carlo")


def _all_patterns(n: int) -> Iterator[Float[np.ndarray, "patterns n"]]:
    yield (np.arange(2**n)[:, None] >> np.arange(n) & 1).astype(float)


def _coin_flips(n: int, total: int, seed: int) -> Iterator[Float[np.ndarray, "patterns n"]]:
    rng = np.random.default_rng(seed)
    for size in _chunk_sizes(total):
        yield rng.integers(0, 2, (size, n), dtype=np.int8).astype(float)


def _chunk_sizes(total: int) -> list[int]:
    if total < 1:
        raise ValueError(f"n_permutations is {total}; it needs at least 1")
    return [min(CHUNK, total - start) for start in range(0, total, CHUNK)]


def _check_same_clusters(baseline: np.ndarray, treatment: np.ndarray) -> None:
    if baseline.shape != treatment.shape or baseline.ndim != 2 or baseline.shape[1] != 2:
        raise ValueError(
            f"paired arms need the same clusters, one (numerator, denominator) row each; "
            f"got shapes {baseline.shape} and {treatment.shape}"
        )

"""Bootstrap and permutation over clusters, for measures that are ratios of sums.

Trials share a latent (and a prompt), so they are not independent; whole clusters are drawn, or
swapped between arms, instead of trials.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from esr.analysis.statistics.clusters import cluster_codes, cluster_sums, ratio
from esr.analysis.statistics.intervals import NO_INTERVAL, Interval
from esr.errors import EsrError

CHUNK = 1_000  # permutations held in memory at once
FEW_CLUSTERS = 10  # a bootstrap of fewer clusters is called sparse
FEW_DEVIATING = 5  # so is one in which fewer clusters deviate from the commonest mean
MAX_EXACT_CLUSTERS = 14  # up to 2**14 sign patterns are enumerated
TIE = 1e-9  # resampled statistics this close to the observed one count as equal

Sums = Float[np.ndarray, "clusters 2"]
Replicates = Float[np.ndarray, " boot"]


class Factor(NamedTuple):
    """A factor that is resampled: cluster of each trial, and draws of each cluster a resample."""

    codes: Int[np.ndarray, " trials"]
    weights: Float[np.ndarray, "boot clusters"]


@dataclass(frozen=True)
class Resampled:
    """Weights of units in resamples of their clusters, an array (boot, units) that is never made.

    A unit weighs as often as its cluster is drawn, times its own weight. Weighted sums over units
    are sums over clusters, which are far fewer.

    Attributes:
        factor: Cluster of each unit, and draws of each cluster.
        weights: Of the units.
    """

    factor: Factor
    weights: Float[np.ndarray, " units"]

    def __matmul__(self, values: Float[np.ndarray, " units"]) -> Float[np.ndarray, " boot"]:
        """Weighted sum of the values in each resample."""
        draws = self.factor.weights
        return draws @ np.bincount(self.factor.codes, self.weights * values, draws.shape[1])

    def sum(self, axis: int = -1) -> Float[np.ndarray, " boot"]:
        """Sum of the weights in each resample."""
        return self @ np.ones(len(self.weights))


class Permutation(NamedTuple):
    """A two-sided permutation p-value with the method (`exact`, `monte_carlo`, `undefined`)."""

    p_value: float
    method: str


def resample(clusters: ArrayLike, n_boot: int = 2000, seed: int | list[int] = 0) -> Factor:
    """Draw as many clusters as there are, with replacement, `n_boot` times."""
    codes, n_clusters = cluster_codes(clusters)
    return Factor(codes, bootstrap_weights(n_clusters, n_boot, np.random.default_rng(seed)))


def bootstrap_weights(
    n_clusters: int, n_boot: int, rng: np.random.Generator
) -> Float[np.ndarray, "boot clusters"]:
    """How often each cluster is drawn: multinomial(n_clusters; 1/n_clusters, ...)."""
    if n_clusters == 0:
        return np.zeros((n_boot, 0))
    return rng.multinomial(n_clusters, np.full(n_clusters, 1 / n_clusters), n_boot).astype(float)


def bootstrap_mean(
    values: Float[np.ndarray, " trials"],
    factor: Factor,
    crossed: Factor | None = None,
    *,
    weights: Float[np.ndarray, " trials"] | None = None,
) -> Replicates:
    """Replicates of the mean when one factor, or two crossed ones, are resampled.

    One factor: the cluster bootstrap (Davison and Hinkley 1997, section 3.8). Two: the pigeonhole
    bootstrap, in which a trial weighs (draws of its first cluster) x (draws of its second); it is
    conservative, since it counts the variance of single trials up to three times (Owen 2007).

    All clusters are drawn, also those without a value, so that the denominator varies as it would
    in a new study; a replicate without any value is NaN. Sampling weights stay with their trials.

    Raises:
        EsrError: a factor with a single cluster, which no resampling can vary.
    """
    shapes = [each.weights.shape[1] for each in (factor, crossed) if each is not None]
    if min(shapes) < 2:
        raise EsrError(f"the bootstrap got {min(shapes)} cluster; it needs at least 2")
    if crossed is None:
        return ratio(factor.weights @ cluster_sums(values, factor.codes, shapes[0], weights))
    codes = factor.codes * shapes[1] + crossed.codes
    cells = cluster_sums(values, codes, shapes[0] * shapes[1], weights)
    sums = [
        ((factor.weights @ part.reshape(shapes)) * crossed.weights).sum(axis=1) for part in cells.T
    ]
    return ratio(np.column_stack(sums))


def paired_bootstrap(
    baseline: Sums, treatment: Sums, n_boot: int = 2000, seed: int = 0
) -> tuple[Replicates, Replicates]:
    """Replicates of both arms' ratios; each resample draws the same clusters in both arms."""
    _check_same_clusters(baseline, treatment)
    weights = bootstrap_weights(len(baseline), n_boot, np.random.default_rng(seed))
    return ratio(weights @ baseline), ratio(weights @ treatment)


def unpaired_bootstrap(
    baseline: Sums, treatment: Sums, n_boot: int = 2000, seed: int = 0
) -> tuple[Replicates, Replicates]:
    """Replicates of both arms' ratios; each arm's clusters are drawn on their own."""
    rng = np.random.default_rng(seed)
    first, second = (
        ratio(bootstrap_weights(len(arm), n_boot, rng) @ arm) for arm in (baseline, treatment)
    )
    return first, second


def percentile_interval(replicates: Replicates, level: float = 0.95) -> Interval:
    """Percentile interval (Efron 1979); none if more replicates are undefined than one tail."""
    tail = (1 - level) / 2
    undefined = np.isnan(replicates)
    if not len(replicates) or undefined.mean() > tail:
        return NO_INTERVAL
    low, high = np.quantile(replicates[~undefined], [tail, 1 - tail])
    return Interval(float(low), float(high))


def two_sided_p(changes: Replicates) -> float:
    """Two-sided p-value of 0: the level at which the percentile interval touches it.

    Twice the smaller share of replicates on one side of 0, itself included (Efron and Tibshirani
    1993, section 15.4).
    """
    present = changes[~np.isnan(changes)]
    fewer = min(np.sum(present <= TIE), np.sum(present >= -TIE))
    return min(1.0, 2 * (1 + float(fewer)) / (1 + len(present)))


def is_sparse(sums: Sums) -> bool:
    """Whether a percentile bootstrap of these clusters is likely to be too narrow.

    So if fewer than 10 clusters have values, or the means of all but fewer than 5 of them are the
    same (a handful of clusters holds all the events).
    """
    means = ratio(sums[sums[:, 1] > 0]).round(9)
    commonest = max(np.unique(means, return_counts=True)[1], default=0)
    return bool(len(means) < FEW_CLUSTERS or len(means) - commonest < FEW_DEVIATING)


def relative_change(baseline: ArrayLike, treatment: ArrayLike) -> Float[np.ndarray, "..."]:
    """Treatment / baseline - 1, as a fraction; NaN where the baseline is not positive."""
    base, treated = np.asarray(baseline, float), np.asarray(treatment, float)
    return np.divide(treated, base, out=np.full(base.shape, np.nan), where=base > 0) - 1


def paired_permutation(
    baseline: Sums, treatment: Sums, n_permutations: int = 9_999, seed: int = 0
) -> Permutation:
    """Test that arms are exchangeable within each cluster; statistic: difference of ratios.

    Swapping a cluster's arms flips the sign of its difference (Fisher 1935, chapter 3). Clusters
    whose arms agree change nothing; with at most 14 others all swaps are enumerated, else
    p = (1 + hits) / (1 + draws) (Phipson and Smyth 2010). A swap that empties a denominator
    counts as extreme.
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

"""Intervals with a status: what is known of a mean, or of the difference of two arms.

Statuses, each the word that goes into the tables:

- `ok`;
- `undefined`: an empty denominator;
- `too_few`: one trial, or one cluster, so there is no interval;
- `no_variation`: all values equal (no event, say), where t and bootstrap have no width; the
  interval is `no_variation_interval`, except for `wald`, which keeps the paper's zero width;
- `sparse`: too few clusters, or too few that deviate, to trust the bootstrap (`is_sparse`).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from esr.analysis.statistics.clusters import cluster_sums, ratio
from esr.analysis.statistics.intervals import (
    NO_INTERVAL,
    Interval,
    mean_interval,
    no_variation_interval,
    wald,
    wilson,
)
from esr.analysis.statistics.resampling import (
    TIE,
    Factor,
    Permutation,
    Replicates,
    Sums,
    bootstrap_mean,
    is_sparse,
    paired_bootstrap,
    paired_permutation,
    percentile_interval,
    relative_change,
    unpaired_bootstrap,
    unpaired_permutation,
)

Values = Float[np.ndarray, " trials"]


class Estimate(NamedTuple):
    """An interval and its status."""

    interval: Interval
    status: str


class Contrast(NamedTuple):
    """Intervals of a difference and of a relative change (a fraction), p-value and status.

    `n_clusters` have a value in both arms if these are paired, else it is the smaller arm's.
    """

    n_clusters: int
    difference: Interval = NO_INTERVAL
    relative: Interval = NO_INTERVAL
    test: Permutation = Permutation(np.nan, "undefined")
    status: str = "undefined"


def trial_rate(k: float, n: float, level: float = 0.95) -> dict[str, Estimate]:
    """Intervals by method (`wilson`, `wald`) of a rate of independent trials, as fractions."""
    if n == 0:
        return dict.fromkeys(("wilson", "wald"), Estimate(NO_INTERVAL, "undefined"))
    constant = "no_variation" if k in (0, n) else "ok"
    return {
        "wilson": Estimate(wilson(k, n, level), "ok"),
        "wald": Estimate(wald(k, n, level), constant),
    }


def trial_mean(
    values: Values, lowest: float = np.nan, highest: float = np.nan, level: float = 0.95
) -> dict[str, Estimate]:
    """Intervals by method (`t`, `wald`) of a mean of independent values in [lowest, highest]."""
    present = values[~np.isnan(values)]
    if len(present) < 2:
        status = "too_few" if len(present) else "undefined"
        return dict.fromkeys(("t", "wald"), Estimate(NO_INTERVAL, status))
    normal = mean_interval(present, level, "wald")
    if np.ptp(present) == 0:
        wide = no_variation_interval(float(present[0]), len(present), lowest, highest, level)
        return {"t": Estimate(wide, "no_variation"), "wald": Estimate(normal, "no_variation")}
    return {"t": Estimate(mean_interval(present, level), "ok"), "wald": Estimate(normal, "ok")}


def resampled_mean(
    values: Values,
    factors: list[Factor],
    lowest: float = np.nan,
    highest: float = np.nan,
    level: float = 0.95,
    weights: Values | None = None,
) -> Estimate:
    """Interval of a mean in [lowest, highest] from resampling one factor or two crossed ones."""
    present = values[~np.isnan(values)]
    sums = [cluster_sums(values, each.codes, each.weights.shape[1], weights) for each in factors]
    informative = min(int((each[:, 1] > 0).sum()) for each in sums)
    if informative < 2:
        return Estimate(NO_INTERVAL, "too_few" if len(present) else "undefined")
    if np.ptp(present) == 0:
        wide = no_variation_interval(float(present[0]), informative, lowest, highest, level)
        return Estimate(wide, "no_variation")
    interval = percentile_interval(bootstrap_mean(values, *factors, weights=weights), level)
    sparse = np.isnan(interval.low) or any(is_sparse(each) for each in sums)
    return Estimate(interval, "sparse" if sparse else "ok")


def paired_contrast(
    baseline: Sums,
    treatment: Sums,
    span: float,
    *,
    level: float = 0.95,
    n_boot: int = 2000,
    n_permutations: int = 9_999,
    seed: int = 0,
) -> Contrast:
    """Two arms with the same clusters: clusters drawn together, arms swapped within clusters.

    Args:
        baseline: (numerator, denominator) of each cluster.
        treatment: The same clusters in the other arm.
        span: Width of the range of a value (NaN: unbounded); bounds the interval when no replicate
            differs from another.
        level: Of the intervals.
        n_boot: Bootstrap resamples.
        n_permutations: Permutations drawn if there are too many to enumerate.
        seed: Of both.
    """
    changes = ratio(treatment) - ratio(baseline)
    changes = changes[~np.isnan(changes)]
    return _contrast(
        (baseline, treatment),
        informative=len(changes),
        sparse=is_sparse(np.column_stack([changes, np.ones(len(changes))])),
        draw=lambda: paired_bootstrap(baseline, treatment, n_boot, seed),
        test=lambda: paired_permutation(baseline, treatment, n_permutations, seed),
        span=span,
        level=level,
    )


def unpaired_contrast(
    baseline: Sums,
    treatment: Sums,
    span: float,
    *,
    level: float = 0.95,
    n_boot: int = 2000,
    n_permutations: int = 9_999,
    seed: int = 0,
) -> Contrast:
    """Two arms with clusters of their own: drawn separately, whole clusters exchanged.

    Arguments as for `paired_contrast`, but the two arms need not have the same clusters.
    """
    return _contrast(
        (baseline, treatment),
        informative=min(int((arm[:, 1] > 0).sum()) for arm in (baseline, treatment)),
        sparse=is_sparse(baseline) or is_sparse(treatment),
        draw=lambda: unpaired_bootstrap(baseline, treatment, n_boot, seed),
        test=lambda: unpaired_permutation(baseline, treatment, n_permutations, seed),
        span=span,
        level=level,
    )


def _contrast(
    arms: tuple[Sums, Sums],
    *,
    informative: int,
    sparse: bool,
    draw: Callable[[], tuple[Replicates, Replicates]],
    test: Callable[[], Permutation],
    span: float,
    level: float,
) -> Contrast:
    base, treated = (float(ratio(arm.sum(axis=0))) for arm in arms)
    if np.isnan(treated - base):
        return Contrast(informative)
    if informative < 2:
        return Contrast(informative, status="too_few")
    replicates = draw()
    differences = replicates[1] - replicates[0]
    interval = percentile_interval(differences, level)
    relative = percentile_interval(relative_change(*replicates), level)
    if np.isnan(interval.low):
        return Contrast(informative, test=test(), status="sparse")
    if np.nanmax(differences) - np.nanmin(differences) < TIE:
        wide = no_variation_interval(treated - base, informative, -span, span, level)
        return Contrast(informative, wide, test=test(), status="no_variation")
    return Contrast(informative, interval, relative, test(), "sparse" if sparse else "ok")

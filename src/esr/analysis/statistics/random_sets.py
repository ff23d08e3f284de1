"""One treatment in several versions drawn at random, such as random sets of latents."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from esr.analysis.statistics.clusters import ratio
from esr.analysis.statistics.intervals import NO_INTERVAL, Interval
from esr.analysis.statistics.resampling import (
    TIE,
    bootstrap_weights,
    is_sparse,
    percentile_interval,
    relative_change,
)


class SetsContrast(NamedTuple):
    """Mean over versions, its intervals, sd between versions (ddof 1), status, p-value.

    `relative` is a fraction of the baseline; statuses as in `esr.analysis.statistics.estimates`.
    The two-sided p-value of no difference is the level at which the percentile interval touches 0:
    twice the smaller share of replicates on one side of it, itself included (Efron and Tibshirani
    1993, section 15.4).
    """

    baseline: float
    treatment: float
    between: float = np.nan
    treatment_interval: Interval = NO_INTERVAL
    difference: Interval = NO_INTERVAL
    relative: Interval = NO_INTERVAL
    status: str = "undefined"
    p_value: float = np.nan


def sets_contrast(
    baselines: Float[np.ndarray, "sets clusters 2"],
    treatments: Float[np.ndarray, "sets clusters 2"],
    *,
    level: float = 0.95,
    n_boot: int = 2000,
    seed: int = 0,
) -> SetsContrast:
    """Mean over versions of treatment minus baseline, for clusters and versions not seen.

    A replicate is d(w) + T s / sqrt(S): d(w) the mean difference when clusters are drawn together
    in the baseline and in all S versions, s the sd of the versions' differences, T from Student's t
    with S - 1 degrees of freedom. Where clusters are all alike this is Student's interval of S
    numbers; it errs on the wide side, since s contains chance of single trials that w varies, too.

    Args:
        baselines: (numerator, denominator) of each cluster in the baseline, over the trials paired
            with those of each version.
        treatments: The same clusters under each version.
        level: Of the intervals.
        n_boot: Replicates.
        seed: Of the draws.
    """
    base, treated = (ratio(arms.sum(axis=1)) for arms in (baselines, treatments))
    sets, clusters = treatments.shape[:2]
    if not sets or np.isnan(treated - base).any():
        return SetsContrast(np.nan, np.nan)
    point = float(base.mean()), float(treated.mean())
    if min(sets, clusters) < 2:
        return SetsContrast(*point, status="too_few")
    rng = np.random.default_rng(seed)
    weights = bootstrap_weights(clusters, n_boot, rng)
    drawn_base, drawn = (
        np.mean([ratio(weights @ arm) for arm in arms], axis=0) for arms in (baselines, treatments)
    )
    student = rng.standard_t(sets - 1, n_boot) / np.sqrt(sets)
    between = float(np.std(treated - base, ddof=1))
    changes = drawn - drawn_base + student * between
    if np.nanmax(changes) - np.nanmin(changes) < TIE:
        return SetsContrast(*point, between, status="no_variation")
    changed = ratio(treatments.sum(axis=0)) - ratio(baselines.sum(axis=0))
    changed = changed[~np.isnan(changed)]
    sparse = is_sparse(np.column_stack([changed, np.ones(len(changed))]))
    interval = percentile_interval(changes, level)
    return SetsContrast(
        *point,
        between,
        percentile_interval(drawn + student * float(np.std(treated, ddof=1)), level),
        interval,
        percentile_interval(relative_change(drawn_base, drawn_base + changes), level),
        "sparse" if sparse or np.isnan(interval.low) else "ok",
        two_sided_p(changes),
    )


def two_sided_p(changes: Float[np.ndarray, " boot"]) -> float:
    """Two-sided p-value of 0: the level at which the interval of the replicates touches it."""
    present = changes[~np.isnan(changes)]
    fewer = min(np.sum(present <= TIE), np.sum(present >= -TIE))
    return min(1.0, 2 * (1 + float(fewer)) / (1 + len(present)))

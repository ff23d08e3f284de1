"""Recovery against regression to the mean: do last attempts beat a fresh draw?

Restarts follow low first attempts, so that any other attempt would likely score higher. The redraw
null replaces the score of the last attempt by the first score of another trial of the same latent
at the same boost, each equally likely. Its expectation is exact, a mean over those other trials:

    success of trial i under the null   mean over j != i of [first_j > first_i]
    score change of trial i             mean over j != i of first_j - first_i

The excess over it is what recovery adds: 0 if a restart is a new draw under the same steering,
below 0 if attempts after a restart are worse than that. Other trials of a latent are on other
prompts; a redraw on the same prompt would need trials that repeat it.

In a sample (column `weight`) a trial is redrawn from the other sampled ones, each as likely as the
trials that it stands for, and the means over trials are weighted, too.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from esr.analysis.statistics import cluster_codes, cluster_sums, paired_permutation
from esr.analysis.statistics.crossed import crossed_mean, mixture_mean, weighted_mean
from esr.arms.scores import as_float, check_scores, is_scored, weights_of
from esr.errors import EsrError

POOL = ("latent", "boost")
"""Columns that the trial redrawn from has in common with the trial."""
COLUMNS = ["measure", "unit", "observed", "null", "excess", "low", "high", "level", "p_value"]
COLUMNS += ["p_method", "status", "n", "n_latents", "n_dropped"]

SHOWN = {"null": "null", "excess": "excess", "excess_low": "low", "excess_high": "high"}
"""Columns that other tables show, by name there."""

Trials = Float[np.ndarray, " trials"]


def redraw_null(scores: pd.DataFrame, pool: Sequence[str] = POOL) -> pd.DataFrame:
    """What each trial with several attempts would do if its last were a redraw.

    Columns, in the order and with the index of the scores: `null_success` (probability),
    `null_change` (points). Missing for a single attempt, a trial without scores, and where no other
    trial of the pool has a score.
    """
    first = np.where(is_scored(scores), as_float(scores, "first_score"), np.nan)
    codes = scores.groupby(list(pool), dropna=False, sort=False).ngroup().to_numpy(np.int64)
    weights = weights_of(scores)
    higher, others, total = _others(
        first, codes, np.ones(len(first)) if weights is None else weights
    )
    several = (as_float(scores, "multi_attempt") == 1) & ~np.isnan(first) & (others > 0)
    among = np.where(several, others, np.nan)
    return pd.DataFrame(
        {"null_success": higher / among, "null_change": total / among - first}, index=scores.index
    )


def recovery(
    scores: pd.DataFrame,
    *,
    pool: Sequence[str] = POOL,
    cluster: str = "latent",
    crossed: str | None = "prompt_id",
    level: float = 0.95,
    n_permutations: int = 9_999,
    seed: int = 0,
) -> pd.DataFrame:
    """Excess of recovery over the redraw null: one row a measure.

    Measures: `success_rate` (of trials with several attempts, percent), `esr_rate` (of all trials,
    percent), `msi` (points). Columns: measure, unit, observed, null, excess (observed - null), low,
    high, level (interval of the excess), p_value, p_method (two-sided: observed and null exchanged
    within latents), status, n (trials in the denominator; of a sample, those drawn), n_latents,
    n_dropped (trials with several attempts and no other trial to be redrawn from, which are in no
    denominator).

    Args:
        scores: Scores of one arm.
        pool: Columns that the trials redrawn from have in common.
        cluster: Column of the first factor, and of the unit that is exchanged.
        crossed: Column of the second; None: prompts fixed.
        level: Of the intervals.
        n_permutations: Exchanges drawn if there are too many to enumerate.
        seed: Of these.

    Raises:
        EsrError: an invalid table, a column of `pool` that is missing, a missing cluster id.
    """
    check_scores(scores)
    absent = [name for name in pool if name not in scores]
    if absent:
        raise EsrError(f"recovery: no column {absent[0]!r} to pool by among {list(scores)}")
    null = redraw_null(scores, pool)
    several = as_float(scores, "multi_attempt") == 1
    dropped = several & null["null_change"].isna().to_numpy()
    counted = is_scored(scores) & ~dropped
    codes, count = cluster_codes(scores[cluster])
    factors = [codes] + ([cluster_codes(scores[crossed])[0]] if crossed else [])
    weights = weights_of(scores)
    rows = []
    for name, observed, expected in _pairs(scores, null, several, counted):
        sums = [cluster_sums(values, codes, count, weights) for values in (expected, observed)]
        test = paired_permutation(sums[0], sums[1], n_permutations, seed)
        tested = {"level": level, "p_value": test.p_value, "p_method": test.method}
        row = {"measure": name, "unit": "points" if name == "msi" else "percent"}
        row |= _excess(observed, expected, factors, level, weights, rare=name != "success_rate")
        rows.append(row | tested | {"n_dropped": int(dropped.sum())})
    return pd.DataFrame(rows, columns=COLUMNS)


def _excess(
    observed: Trials,
    expected: Trials,
    factors: Sequence[np.ndarray],
    level: float,
    weights: Trials | None,
    *,
    rare: bool,
) -> dict[str, Any]:
    """Observed, null, excess with its interval, status and sizes; `rare`: most trials have 0."""
    excess = observed - expected
    inside = ~np.isnan(excess)
    if rare:
        interval, status = mixture_mean(excess, factors, 0, -100, 100, level, weights)
    else:
        interval, status = crossed_mean(excess, factors, -100, 100, level, weights)
    means = [weighted_mean(np.where(inside, x, np.nan), weights) for x in (observed, expected)]
    values = {"observed": means[0], "null": means[1], "excess": means[0] - means[1]}
    sizes = {"n": int(inside.sum()), "n_latents": len(np.unique(factors[0][inside]))}
    return {**values, **interval._asdict(), "status": status, **sizes}


def _pairs(
    scores: pd.DataFrame, null: pd.DataFrame, several: np.ndarray, counted: np.ndarray
) -> list[tuple[str, Trials, Trials]]:
    """Measure, observed and expected values of each trial, NaN outside the denominator."""
    rows: list[tuple[str, Any, Any]] = []
    improved = 100 * as_float(scores, "improved")
    success = 100 * null["null_success"].to_numpy(float)
    change, redrawn = as_float(scores, "score_change"), null["null_change"].to_numpy(float)
    among = several & counted
    rows.append(("success_rate", np.where(among, improved, np.nan), success))
    for name, value, expected in (("esr_rate", improved, success), ("msi", change, redrawn)):
        observed = np.where(counted, value, np.nan)
        rows.append((name, observed, np.where(counted, np.where(among, expected, 0.0), np.nan)))
    return rows


def _others(
    first: Trials, codes: Int[np.ndarray, " trials"], weights: Trials
) -> tuple[Trials, Trials, Trials]:
    """For each trial, over the others of its pool: weight of those that score higher, of all, sum.

    Trials without a score have none, and are no other trial's.
    """
    present = np.flatnonzero(~np.isnan(first))
    order = present[np.lexsort((first[present], codes[present]))]
    pool, score, weight = codes[order], first[order], weights[order]
    starts = np.searchsorted(pool, pool, side="left")
    ends = np.searchsorted(pool, pool, side="right")
    last = np.append((np.diff(pool) != 0) | (np.diff(score) != 0), True)  # of equal scores
    after = np.flatnonzero(last[: len(order)]) + 1
    not_higher = np.repeat(after, np.diff(after, prepend=0))
    weight_before, sum_before = (
        np.concatenate([[0.0], np.cumsum(each)]) for each in (weight, weight * score)
    )
    found = np.zeros((3, len(first)))
    found[0, order] = weight_before[ends] - weight_before[not_higher]
    found[1, order] = weight_before[ends] - weight_before[starts] - weight
    found[2, order] = sum_before[ends] - sum_before[starts] - weight * score
    # A pool of one leaves rounding in place of nothing.
    found[:, order[ends - starts == 1]] = 0.0
    return found[0], found[1], found[2]


def with_excess(table: pd.DataFrame, recovered: pd.DataFrame, on: Sequence[str]) -> pd.DataFrame:
    """A table of measures with the columns `SHOWN`, missing for measures without a null.

    Args:
        table: One row a measure.
        recovered: As from `recovery`, with the columns `on`.
        on: Columns that identify a row in both.
    """
    shown = recovered[[*on, *SHOWN.values()]].rename(columns={b: a for a, b in SHOWN.items()})
    return table.merge(shown, on=list(on), how="left", validate="one_to_one")

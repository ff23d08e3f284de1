"""Comparisons of two arms on the ESR measures: paired (same trials replayed) and unpaired.

Paired arms share (latent, prompt_id, seed); every trial of either arm is used or counted as
dropped by reason. Differences are treatment - baseline in the unit of the measure, relative
changes in percent of the baseline. Formulas: docs/method.md.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from esr.errors import EsrError
from esr.measures import MEASURES, Measure, check_scores, find_measures
from esr.resampling import (
    TIE,
    Permutation,
    cluster_bootstrap,
    cluster_sums,
    is_sparse,
    paired_bootstrap,
    paired_permutation,
    percentile_interval,
    ratio,
    relative_change,
    unpaired_permutation,
)
from esr.statistics import NO_INTERVAL, cluster_codes, no_variation_interval

PAIR_KEY = ["latent", "prompt_id", "seed"]

Sums = Float[np.ndarray, "clusters 2"]
Replicates = Float[np.ndarray, " boot"]


def compare(
    baseline: pd.DataFrame,
    treatment: pd.DataFrame,
    measures: Sequence[str] = tuple(MEASURES),
    *,
    n_boot: int = 2000,
    n_permutations: int = 9_999,
    seed: int = 0,
    level: float = 0.95,
    cluster: str = "latent",
) -> pd.DataFrame:
    """Paired comparison, one row a measure; a pair is used if both trials are in its domain.

    Columns: measure, unit, baseline, treatment (values on the used pairs), difference, low, high,
    relative_change, relative_low, relative_high (percent), level, p_value, p_method, n_pairs,
    n_dropped, n_clusters (with values in both arms), status. Intervals: clusters resampled, the
    same in both arms. p: arms swapped within clusters. Status as in `summarise`: `undefined`,
    `too_few`, `no_variation`, `sparse`, `ok`.

    Raises:
        EsrError: an invalid table, a repeated pair key, an unknown measure, a missing cluster id.
    """
    _check_arms(baseline, treatment)
    rows = []
    for measure in find_measures(measures):
        pairs = match_trials(baseline, treatment, measure)
        used = pairs[pairs["reason"] == "used"]
        in_b, in_t = (used[f"row_{arm}"].to_numpy(int) for arm in ("baseline", "treatment"))
        codes = cluster_codes(baseline[cluster].to_numpy()[in_b])
        sums_b = cluster_sums(measure.values(baseline)[in_b], *codes)
        sums_t = cluster_sums(measure.values(treatment)[in_t], *codes)
        changes = ratio(sums_t) - ratio(sums_b)
        changes = changes[~np.isnan(changes)]
        row = _values(measure, sums_b, sums_t)
        if len(changes) > 1:
            test = paired_permutation(sums_b, sums_t, n_permutations, seed)
            replicates = paired_bootstrap(sums_b, sums_t, n_boot, seed)
            sparse = is_sparse(np.column_stack([changes, np.ones(len(changes))]))
            row |= _inference(measure, row, replicates, test, len(changes), sparse, level)
        counts = {"n_pairs": len(used), "n_dropped": len(pairs) - len(used)}
        rows.append(row | counts | {"n_clusters": len(changes), "level": level})
    return pd.DataFrame(rows)


def compare_unpaired(
    baseline: pd.DataFrame,
    treatment: pd.DataFrame,
    measures: Sequence[str] = tuple(MEASURES),
    *,
    n_boot: int = 2000,
    n_permutations: int = 9_999,
    seed: int = 0,
    level: float = 0.95,
    cluster: str = "latent",
) -> pd.DataFrame:
    """Comparison of independent arms (other latents, other models), one row a measure.

    Each arm's clusters are resampled on their own; p: whole clusters exchanged between the arms.
    Columns as in `compare`, with n_baseline and n_treatment (denominators) and n_clusters (the
    smaller arm's) in place of the pair counts. `sparse` if either arm is. If the arms share
    latents, use `compare`: here the interval would be needlessly wide.

    Raises:
        EsrError: an invalid table, an unknown measure, a missing cluster id.
    """
    _check_arms(baseline, treatment)
    arms = (baseline, treatment)
    codes = [cluster_codes(arm[cluster].to_numpy()) for arm in arms]
    seeds = np.random.SeedSequence(seed).generate_state(2)
    rows = []
    for measure in find_measures(measures):
        sums_b, sums_t = (
            cluster_sums(measure.values(arm), *code) for arm, code in zip(arms, codes, strict=True)
        )
        informative = min(int((sums[:, 1] > 0).sum()) for sums in (sums_b, sums_t))
        row = _values(measure, sums_b, sums_t)
        if informative > 1:
            test = unpaired_permutation(sums_b, sums_t, n_permutations, seed)
            replicates = tuple(
                cluster_bootstrap(measure.values(arm), arm[cluster].to_numpy(), n_boot, int(own))
                for arm, own in zip(arms, seeds, strict=True)
            )
            sparse = is_sparse(sums_b) or is_sparse(sums_t)
            row |= _inference(measure, row, replicates, test, informative, sparse, level)
        counts = {"n_baseline": int(sums_b[:, 1].sum()), "n_treatment": int(sums_t[:, 1].sum())}
        rows.append(row | counts | {"n_clusters": informative, "level": level})
    return pd.DataFrame(rows)


def match_trials(baseline: pd.DataFrame, treatment: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    """Every (latent, prompt_id, seed) of either arm, its row in each, and whether it is `used`.

    Columns: the key, row_baseline, row_treatment (positions, missing if absent), reason: `used`,
    `no_baseline_trial`, `no_treatment_trial`, or the arm and status that rule the pair out, such
    as `treatment:refused` (`no_response` for measures without a judge).
    """
    frames = []
    for name, arm in (("baseline", baseline), ("treatment", treatment)):
        repeated = arm[PAIR_KEY].duplicated()
        if repeated.any():
            key = arm.loc[repeated, PAIR_KEY].iloc[0].to_dict()
            raise EsrError(f"{name} has {int(repeated.sum())} repeated pair keys, e.g. {key}")
        frame = arm[PAIR_KEY].copy()
        frame[f"row_{name}"] = pd.array(range(len(arm)), "Int64")
        why = arm["status"] if measure.judged else pd.Series("no_response", arm.index)
        frame[f"why_{name}"] = why.mask(measure.in_domain(arm), "used")
        frames.append(frame)
    pairs = frames[0].merge(frames[1], on=PAIR_KEY, how="outer")
    pairs["reason"] = "used"
    for name in ("treatment", "baseline"):
        why = pairs.pop(f"why_{name}")
        dropped = why != "used"
        pairs.loc[dropped, "reason"] = f"{name}:" + why[dropped].astype(str)
        pairs.loc[pairs[f"row_{name}"].isna(), "reason"] = f"no_{name}_trial"
    return pairs


def pair_counts(
    baseline: pd.DataFrame, treatment: pd.DataFrame, measure: str = "first_score"
) -> pd.DataFrame:
    """Pairs used and dropped by reason: columns reason, n; `used` first, `total` last."""
    _check_arms(baseline, treatment)
    pairs = match_trials(baseline, treatment, *find_measures([measure]))
    counts = pairs["reason"].value_counts()
    order = sorted(counts.index, key=lambda reason: (reason != "used", reason))
    table = pd.DataFrame({"reason": order, "n": [int(counts[reason]) for reason in order]})
    both = int(pairs[["row_baseline", "row_treatment"]].notna().all(axis=1).sum())
    if table["n"].sum() != len(baseline) + len(treatment) - both:
        raise EsrError(f"{table['n'].sum()} pairs counted of {len(pairs)}: some have no reason")
    total = pd.DataFrame({"reason": ["total"], "n": [len(pairs)]})
    return pd.concat([table, total], ignore_index=True)


def _check_arms(baseline: pd.DataFrame, treatment: pd.DataFrame) -> None:
    for arm in (baseline, treatment):
        check_scores(arm)


def _values(measure: Measure, baseline: Sums, treatment: Sums) -> dict[str, Any]:
    """Both arms' values and their difference, before any inference."""
    value_b, value_t = (float(ratio(sums.sum(axis=0))) for sums in (baseline, treatment))
    missing = ("low", "high", "relative_low", "relative_high", "p_value")
    return {
        "measure": measure.name,
        "unit": measure.unit,
        "baseline": value_b,
        "treatment": value_t,
        "difference": value_t - value_b,
        "relative_change": 100 * float(relative_change(value_b, value_t)),
        **dict.fromkeys(missing, np.nan),
        "p_method": "undefined",
        "status": "undefined" if np.isnan(value_t - value_b) else "too_few",
    }


def _inference(
    measure: Measure,
    row: dict[str, Any],
    replicates: tuple[Replicates, ...],
    test: Permutation,
    n_clusters: int,
    sparse: bool,
    level: float,
) -> dict[str, Any]:
    """Intervals of the difference and the relative change, p-value and status."""
    base, treated = replicates
    relative = percentile_interval(100 * relative_change(base, treated), level)
    interval, status = percentile_interval(treated - base, level), "sparse" if sparse else "ok"
    if np.isnan(interval.low):
        status = "sparse"
    elif np.ptp(treated - base) < TIE:
        span = measure.highest - measure.lowest
        interval = no_variation_interval(row["difference"], n_clusters, -span, span, level)
        relative, status = NO_INTERVAL, "no_variation"
    return {
        **{"low": interval.low, "high": interval.high, "status": status},
        **{"relative_low": relative.low, "relative_high": relative.high},
        **{"p_value": test.p_value, "p_method": test.method},
    }

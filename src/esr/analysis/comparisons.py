"""Comparisons of arms: paired by trial, against random sets, and unpaired.

Units and definitions of the measures: `esr.analysis.measures`. Formulas: docs/method.md.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from esr.analysis.measures import MEASURES, Measure, as_percent, find_measures
from esr.analysis.statistics import (
    Contrast,
    SetsContrast,
    cluster_codes,
    cluster_sums,
    paired_contrast,
    ratio,
    relative_change,
    sets_contrast,
    unpaired_contrast,
)
from esr.arms.scores import check_scores, weights_of
from esr.errors import EsrError

PAIR_KEY = ["latent", "prompt_id", "seed"]
"""Columns that a replayed trial shares with the original."""
SIZES = ["n_baseline", "n_treatment"]
"""Columns with the trials in the denominators."""


def compare(
    baseline: pd.DataFrame,
    treatment: pd.DataFrame,
    measures: Sequence[str] = tuple(MEASURES),
    *,
    cluster: str = "latent",
    level: float = 0.95,
    n_boot: int = 2000,
    n_permutations: int = 9_999,
    seed: int = 0,
) -> pd.DataFrame:
    """Treatment against the baseline that it replays, paired by trial: one row a measure.

    A pair, the same (latent, prompt_id, seed) in both arms, is used if both trials are in the
    measure's domain. Samples (column `weight`) need no pairs: all their trials are used, weighted,
    and n_pairs and n_dropped are missing. Intervals: clusters drawn together in both arms. p: arms
    swapped within clusters. Columns: measure, unit, baseline, treatment (on the used pairs),
    difference, low, high, level, relative_change, relative_low, relative_high (percent of the
    baseline), p_value, p_method, status, n_pairs, n_dropped, n_baseline, n_treatment
    (denominators), n_clusters (with values in both arms).

    Args:
        baseline: Scores of the arm replayed.
        treatment: Scores of the arm that replays it.
        measures: Names in `MEASURES`.
        cluster: Column of the unit of resampling and swapping.
        level: Of the intervals.
        n_boot: Bootstrap resamples.
        n_permutations: Permutations drawn if there are too many to enumerate.
        seed: Of both.

    Raises:
        EsrError: an invalid table, a repeated pair key, an unknown measure, a missing cluster id.
    """
    check_scores(baseline)
    check_scores(treatment)
    draws = {"n_boot": n_boot, "n_permutations": n_permutations, "seed": seed}
    rows = []
    for measure in find_measures(measures):
        first, second, counts = paired_sums(baseline, treatment, measure, cluster)
        contrast = paired_contrast(first, second, measure.span, level=level, **draws)
        rows.append(_comparison(measure, first, second, contrast, level) | counts)
    return pd.DataFrame(rows)


class PairedSums(NamedTuple):
    """A measure's sums by cluster in two arms with the same clusters, and the trials behind them.

    `counts` has n_pairs, n_dropped (missing for samples, which need no pairs), n_baseline and
    n_treatment (trials with a value).
    """

    baseline: Float[np.ndarray, "clusters 2"]
    treatment: Float[np.ndarray, "clusters 2"]
    counts: dict[str, Any]


def paired_sums(
    baseline: pd.DataFrame, treatment: pd.DataFrame, measure: Measure, cluster: str = "latent"
) -> PairedSums:
    """Sums by cluster over the pairs of two arms (`match_trials`), or over two weighted samples."""
    if is_sample(baseline, treatment):
        codes, count = shared_codes([baseline, treatment], cluster)
        return _sample_sums(baseline, treatment, measure, codes, count)
    pairs = match_trials(baseline, treatment, measure)
    used = pairs[pairs["reason"].eq("used")]
    in_b, in_t = (used[f"row_{arm}"].to_numpy(int) for arm in ("baseline", "treatment"))
    coded = cluster_codes(baseline[cluster].iloc[in_b])
    first = cluster_sums(measure.values(baseline)[in_b], *coded)
    second = cluster_sums(measure.values(treatment)[in_t], *coded)
    counts = {"n_pairs": len(used), "n_dropped": len(pairs) - len(used)}
    return PairedSums(first, second, counts | _sizes(first, second))


def is_sample(*arms: pd.DataFrame) -> bool:
    """Whether trials are a sample with weights."""
    return any(weights_of(arm) is not None for arm in arms)


def shared_codes(
    arms: Sequence[pd.DataFrame], cluster: str
) -> tuple[list[Int[np.ndarray, " trials"]], int]:
    """Cluster index of the trials of each arm among the clusters of all, and their number."""
    codes, count = cluster_codes(pd.concat([arm[cluster] for arm in arms]))
    return np.split(codes, np.cumsum([len(arm) for arm in arms])[:-1]), count


def _sample_sums(
    baseline: pd.DataFrame,
    treatment: pd.DataFrame,
    measure: Measure,
    codes: Sequence[Int[np.ndarray, " trials"]],
    count: int,
) -> PairedSums:
    """Weighted sums of two samples by their shared clusters."""
    arms = baseline, treatment
    values = [measure.values(arm) for arm in arms]
    first, second = (
        cluster_sums(each, code, count, weights_of(arm))
        for each, code, arm in zip(values, codes, arms, strict=True)
    )
    sizes = [int((~np.isnan(each)).sum()) for each in values]
    counts = {"n_pairs": pd.NA, "n_dropped": pd.NA}
    return PairedSums(first, second, counts | dict(zip(SIZES, sizes, strict=True)))


def _sizes(first: np.ndarray, second: np.ndarray) -> dict[str, int]:
    """Trials in the denominators of unweighted sums."""
    return {name: int(sums[:, 1].sum()) for name, sums in zip(SIZES, (first, second), strict=True)}


def compare_sets(
    baseline: pd.DataFrame,
    treatments: Sequence[pd.DataFrame],
    measures: Sequence[str] = tuple(MEASURES),
    *,
    cluster: str = "latent",
    level: float = 0.95,
    n_boot: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Mean over several versions of a treatment (such as random sets) against their baseline.

    Paired as in `compare`; the intervals cover other clusters and other versions of the treatment
    (`esr.analysis.statistics.sets_contrast`). Columns: measure, unit, baseline, treatment (mean
    over versions), treatment_low, treatment_high, difference, low, high, level, relative_change,
    relative_low, relative_high, p_value, between (sd of the versions' differences), status, n_sets,
    and of all versions n_pairs, n_dropped, n_treatment.

    Raises:
        EsrError: an invalid table, a repeated pair key, an unknown measure, a missing cluster id.
    """
    for scores in (baseline, *treatments):
        check_scores(scores)
    sample = is_sample(baseline, *treatments)
    if sample:
        codes, count = shared_codes([baseline, *treatments], cluster)
    else:
        code, count = cluster_codes(baseline[cluster])
        codes = [code] * (1 + len(treatments))
    rows = []
    for measure in find_measures(measures):
        parts = [
            _sample_sums(baseline, treatment, measure, (codes[0], code), count)
            if sample
            else _set_sums(baseline, treatment, measure, codes[0], count)
            for treatment, code in zip(treatments, codes[1:], strict=True)
        ]
        firsts, seconds = (np.array([part[i] for part in parts]) for i in (0, 1))
        contrast = sets_contrast(
            firsts.reshape(-1, count, 2),
            seconds.reshape(-1, count, 2),
            level=level,
            n_boot=n_boot,
            seed=seed,
        )
        counts: dict[str, Any] = {"n_sets": len(treatments)}
        for name in ("n_pairs", "n_dropped", "n_treatment"):
            counts[name] = sum(part.counts[name] for part in parts)
        rows.append(_sets_row(measure, contrast, level) | counts)
    return pd.DataFrame(rows)


def _set_sums(
    baseline: pd.DataFrame,
    treatment: pd.DataFrame,
    measure: Measure,
    codes: Int[np.ndarray, " trials"],
    count: int,
) -> PairedSums:
    """Sums over the pairs of the baseline with one version, by all clusters of the baseline."""
    pairs = match_trials(baseline, treatment, measure)
    used = pairs[pairs["reason"].eq("used")]
    in_b, in_t = (used[f"row_{arm}"].to_numpy(int) for arm in ("baseline", "treatment"))
    arms = measure.values(baseline)[in_b], measure.values(treatment)[in_t]
    first, second = (cluster_sums(arm, codes[in_b], count) for arm in arms)
    counts = {"n_pairs": len(used), "n_dropped": len(pairs) - len(used)}
    return PairedSums(first, second, counts | _sizes(first, second))


def compare_unpaired(
    baseline: pd.DataFrame,
    treatment: pd.DataFrame,
    measures: Sequence[str] = tuple(MEASURES),
    *,
    cluster: str = "latent",
    level: float = 0.95,
    n_boot: int = 2000,
    n_permutations: int = 9_999,
    seed: int = 0,
) -> pd.DataFrame:
    """Comparison of independent arms (other latents, other models), one row a measure.

    Each arm's clusters are drawn on their own; p: whole clusters exchanged between the arms.
    Columns and arguments as for `compare`, less the pair counts; n_clusters is the smaller arm's.
    If the arms share latents, use `compare`: this interval would be too wide.

    Raises:
        EsrError: an invalid table, an unknown measure, a missing cluster id.
    """
    check_scores(baseline)
    check_scores(treatment)
    draws = {"n_boot": n_boot, "n_permutations": n_permutations, "seed": seed}
    coded = [(arm, cluster_codes(arm[cluster])) for arm in (baseline, treatment)]
    rows = []
    for measure in find_measures(measures):
        values = [measure.values(arm) for arm, _ in coded]
        first, second = (
            cluster_sums(each, *codes, weights_of(arm))
            for each, (arm, codes) in zip(values, coded, strict=True)
        )
        contrast = unpaired_contrast(first, second, measure.span, level=level, **draws)
        sizes = [int((~np.isnan(each)).sum()) for each in values]
        row = _comparison(measure, first, second, contrast, level)
        rows.append(row | dict(zip(SIZES, sizes, strict=True)))
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
            raise EsrError(
                f"{name} has {int(repeated.sum())} repeated pair keys, e.g. {key}; "
                "compare arms with one trial each, such as one boost of a sweep"
            )
        frame = arm[PAIR_KEY].astype({"latent": "Int64"}).reset_index(drop=True)
        frame[f"row_{name}"] = pd.array(range(len(arm)), "Int64")
        judged = measure.among != "responded"
        why = arm["status"].astype(object).to_numpy() if judged else "no_response"
        frame[f"why_{name}"] = np.where(measure.in_domain(arm), "used", why)
        frames.append(frame)
    pairs = frames[0].merge(frames[1], on=PAIR_KEY, how="outer", validate="one_to_one")
    pairs["reason"] = "used"
    for name in ("treatment", "baseline"):
        why = pairs.pop(f"why_{name}")
        dropped = why != "used"
        pairs.loc[dropped, "reason"] = f"{name}:" + why[dropped].astype(str)
    for name in ("treatment", "baseline"):
        pairs.loc[pairs[f"row_{name}"].isna(), "reason"] = f"no_{name}_trial"
    return pairs


def _comparison(
    measure: Measure, first: np.ndarray, second: np.ndarray, contrast: Contrast, level: float
) -> dict[str, Any]:
    """Values of both arms, their difference, its interval and its test."""
    base, treated = (float(ratio(sums.sum(axis=0))) for sums in (first, second))
    relative = as_percent(contrast.relative)
    return {
        "measure": measure.name,
        "unit": measure.unit,
        "baseline": base,
        "treatment": treated,
        "difference": treated - base,
        **contrast.difference._asdict(),
        "level": level,
        "relative_change": 100 * float(relative_change(base, treated)),
        "relative_low": relative.low,
        "relative_high": relative.high,
        "p_value": contrast.test.p_value,
        "p_method": contrast.test.method,
        "status": contrast.status,
        "n_clusters": contrast.n_clusters,
    }


def _sets_row(measure: Measure, contrast: SetsContrast, level: float) -> dict[str, Any]:
    """Mean over versions and its difference; its interval is cut to the range of a trial."""
    base, treated, relative = contrast.baseline, contrast.treatment, as_percent(contrast.relative)
    low, high = np.clip(
        contrast.treatment_interval,
        None if np.isnan(measure.lowest) else measure.lowest,
        None if np.isnan(measure.highest) else measure.highest,
    )
    return {
        "measure": measure.name,
        "unit": measure.unit,
        "baseline": base,
        "treatment": treated,
        "treatment_low": float(low),
        "treatment_high": float(high),
        "difference": treated - base,
        **contrast.difference._asdict(),
        "level": level,
        "relative_change": 100 * float(relative_change(base, treated)),
        "relative_low": relative.low,
        "relative_high": relative.high,
        "p_value": contrast.p_value,
        "between": contrast.between,
        "status": contrast.status,
    }

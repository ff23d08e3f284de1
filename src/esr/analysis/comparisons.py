"""Comparisons of arms: paired by trial, against random sets, and unpaired.

Units and definitions of the measures: `esr.analysis.measures`. Formulas: docs/method.md.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from esr.analysis.measures import MEASURES, Measure, as_percent, clusters_of, find_measures
from esr.analysis.statistics import (
    Contrast,
    SetsContrast,
    cluster_codes,
    cluster_sums,
    paired_permutation,
    ratio,
    relative_change,
    sets_contrast,
    unpaired_permutation,
)
from esr.analysis.statistics.contrasts import Arm, crossed_contrast, independent_contrast
from esr.arms.scores import check_scores, weights_of
from esr.errors import EsrError

PAIR_KEY = ["latent", "prompt_id", "seed"]
"""Columns that a replayed trial shares with the original."""
SIZES = ["n_baseline", "n_treatment"]
"""Columns with the trials in the denominators."""

Versions = Float[np.ndarray, "sets trials"]
Factors = list[Int[np.ndarray, " trials"]]


def compare(
    baseline: pd.DataFrame,
    treatment: pd.DataFrame,
    measures: Sequence[str] = tuple(MEASURES),
    *,
    level: float = 0.95,
    n_permutations: int = 9_999,
    seed: int = 0,
) -> pd.DataFrame:
    """Treatment against the baseline that it replays, paired by trial: one row a measure.

    A pair, the same (latent, prompt_id, seed) in both arms, is used if both trials are in the
    measure's domain. Samples (column `weight`) need no pairs: all their trials are used, weighted,
    and n_pairs and n_dropped are missing. Intervals: `crossed_contrast`, with latents and prompts
    random. p: arms swapped within latents. Columns: measure, unit, baseline, treatment (on the used
    pairs), difference, low, high, level, relative_change, relative_low, relative_high (percent of
    the baseline; the high end is infinite where the baseline may be 0), method, p_value, p_method,
    status, n_pairs, n_dropped, n_baseline, n_treatment (denominators), n_clusters (latents with
    values in both arms; prompts, where no trial has a latent).

    Args:
        baseline: Scores of the arm replayed.
        treatment: Scores of the arm that replays it.
        measures: Names in `MEASURES`.
        level: Of the intervals.
        n_permutations: Permutations drawn if there are too many to enumerate.
        seed: Of these.

    Raises:
        EsrError: an invalid table, a repeated pair key, an unknown measure, a missing cluster id.
    """
    check_scores(baseline)
    check_scores(treatment)
    rows = []
    for measure in find_measures(measures):
        pairs = pair_trials(baseline, [treatment], measure)
        first, second = pairs.sums()
        contrast = crossed_contrast(
            pairs.baseline[0],
            pairs.treatments[0],
            pairs.factors,
            measure.quantity,
            level,
            paired_permutation(first, second, n_permutations, seed),
            None if pairs.weights is None else (pairs.weights[0][0], pairs.weights[1][0]),
        )
        row = _comparison(measure, (first, second), contrast, level, "crossed_contrast")
        rows.append(row | pairs.counts())
    return pd.DataFrame(rows)


class Pairs(NamedTuple):
    """Values of a measure in a baseline and in the versions of a treatment, trial by trial.

    Attributes:
        baseline: NaN where the trial is outside the denominator, or not paired with the version.
        treatments: The same trials under each version.
        factors: Clusters of the trials: latents and prompts, or prompts alone.
        weights: Sampling weights of both, or None.
        used: Pairs of each version; missing for samples, which need no pairs.
        dropped: Pairs ruled out, likewise.
    """

    baseline: Versions
    treatments: Versions
    factors: Factors
    weights: tuple[Versions, Versions] | None
    used: list[Any]
    dropped: list[Any]

    def sums(self, version: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """(sum, number) of each cluster of the first factor, of the baseline and of a version."""
        count = int(self.factors[0].max(initial=-1)) + 1
        w = self.weights or (None, None)
        first, second = (
            cluster_sums(
                arm[version], self.factors[0], count, None if each is None else each[version]
            )
            for arm, each in zip((self.baseline, self.treatments), w, strict=True)
        )
        return first, second

    def counts(self) -> dict[str, Any]:
        """n_pairs, n_dropped, n_baseline and n_treatment over all versions."""
        sizes = [int((~np.isnan(arm)).sum()) for arm in (self.baseline, self.treatments)]
        pairs = {"n_pairs": sum(self.used), "n_dropped": sum(self.dropped)}
        if self.weights is not None:
            pairs = dict.fromkeys(pairs, pd.NA)
        return pairs | dict(zip(SIZES, sizes, strict=True))


def pair_trials(
    baseline: pd.DataFrame, treatments: Sequence[pd.DataFrame], measure: Measure
) -> Pairs:
    """A measure over the pairs of a baseline with each version, or over weighted samples.

    Raises:
        EsrError: a repeated pair key, a missing cluster id.
    """
    arms = [baseline, *treatments]
    _check_keys(baseline, "baseline")
    for treatment in treatments:
        _check_keys(treatment, "treatment")
    keys = pd.concat([arm[PAIR_KEY].astype({"latent": "Int64"}) for arm in arms])
    codes = keys.groupby(PAIR_KEY, sort=True, dropna=False).ngroup().to_numpy(np.int64)
    trials = keys.assign(code=codes).drop_duplicates("code").sort_values("code")
    factors = [cluster_codes(trials[column])[0] for column in clusters_of(*arms)]
    places = np.split(codes, np.cumsum([len(arm) for arm in arms])[:-1])
    sample = is_sample(*arms)
    values = [measure.values(arm) for arm in arms]
    shape = len(treatments), len(trials)
    out = [np.full(shape, np.nan) for _ in range(2)]
    weights = [np.zeros(shape) for _ in range(2)]
    used, dropped = [], []
    for version, treatment in enumerate(treatments):
        rows = [np.arange(len(baseline)), np.arange(len(treatment))]
        if not sample:
            pairs = match_trials(baseline, treatment, measure)
            kept = pairs[pairs["reason"].eq("used")]
            rows = [kept[f"row_{arm}"].to_numpy(int) for arm in ("baseline", "treatment")]
            used.append(len(kept))
            dropped.append(len(pairs) - len(kept))
        for side, arm in enumerate((0, version + 1)):
            at = places[arm][rows[side]]
            out[side][version, at] = values[arm][rows[side]]
            w = weights_of(arms[arm])
            weights[side][version, at] = 1.0 if w is None else w[rows[side]]
    shared = (weights[0], weights[1]) if sample else None
    return Pairs(out[0], out[1], factors, shared, used, dropped)


def is_sample(*arms: pd.DataFrame) -> bool:
    """Whether trials are a sample with weights."""
    return any(weights_of(arm) is not None for arm in arms)


def paired_sums(
    baseline: pd.DataFrame, treatment: pd.DataFrame, measure: Measure
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """(sum, number) by cluster over the pairs of two arms, and the counts of `Pairs`."""
    pairs = pair_trials(baseline, [treatment], measure)
    return *pairs.sums(), pairs.counts()


def compare_sets(
    baseline: pd.DataFrame,
    treatments: Sequence[pd.DataFrame],
    measures: Sequence[str] = tuple(MEASURES),
    *,
    level: float = 0.95,
) -> pd.DataFrame:
    """Mean over several versions of a treatment (such as random sets) against their baseline.

    Paired as in `compare`; the intervals cover other latents, other prompts and other versions of
    the treatment (`esr.analysis.statistics.sets_contrast`). Columns: measure, unit, baseline,
    treatment (mean over versions), treatment_low, treatment_high, difference, low, high, level,
    relative_change, relative_low, relative_high, method, p_value, between (sd of the versions'
    differences), status, n_sets, and of all versions n_pairs, n_dropped, n_treatment.

    Raises:
        EsrError: an invalid table, a repeated pair key, an unknown measure, a missing cluster id.
    """
    for scores in (baseline, *treatments):
        check_scores(scores)
    rows = []
    for measure in find_measures(measures):
        pairs = pair_trials(baseline, treatments, measure)
        contrast = sets_contrast(
            pairs.baseline,
            pairs.treatments,
            pairs.factors,
            measure.quantity,
            level=level,
            weights=pairs.weights,
        )
        counts = pairs.counts()
        del counts["n_baseline"]
        rows.append(_sets_row(measure, contrast, level) | {"n_sets": len(treatments)} | counts)
    return pd.DataFrame(rows)


def compare_unpaired(
    baseline: pd.DataFrame,
    treatment: pd.DataFrame,
    measures: Sequence[str] = tuple(MEASURES),
    *,
    level: float = 0.95,
    n_permutations: int = 9_999,
    seed: int = 0,
) -> pd.DataFrame:
    """Comparison of independent arms (other latents, other models), one row a measure.

    Intervals: `independent_contrast`; p: whole latents exchanged between the arms. Columns and
    arguments as for `compare`, less the pair counts; n_clusters is the smaller arm's. If the arms
    share latents, use `compare`: this interval would be too wide.

    Raises:
        EsrError: an invalid table, an unknown measure, a missing cluster id.
    """
    check_scores(baseline)
    check_scores(treatment)
    rows = []
    for measure in find_measures(measures):
        arms = [
            Arm(
                measure.values(arm),
                [cluster_codes(arm[column])[0] for column in clusters_of(arm)],
                weights_of(arm),
            )
            for arm in (baseline, treatment)
        ]
        first, second = (
            cluster_sums(
                arm.values, arm.factors[0], int(arm.factors[0].max(initial=-1)) + 1, arm.weights
            )
            for arm in arms
        )
        test = unpaired_permutation(first, second, n_permutations, seed)
        contrast = independent_contrast(arms[0], arms[1], measure.quantity, level, test)
        sizes = [int((~np.isnan(arm.values)).sum()) for arm in arms]
        row = _comparison(measure, (first, second), contrast, level, "independent_contrast")
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
        _check_keys(arm, name)
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


def _check_keys(arm: pd.DataFrame, name: str) -> None:
    repeated = arm[PAIR_KEY].duplicated()
    if repeated.any():
        key = arm.loc[repeated, PAIR_KEY].iloc[0].to_dict()
        raise EsrError(
            f"{name} has {int(repeated.sum())} repeated pair keys, e.g. {key}; "
            "compare arms with one trial each, such as one boost of a sweep"
        )


def _comparison(
    measure: Measure,
    sums: tuple[np.ndarray, np.ndarray],
    contrast: Contrast,
    level: float,
    method: str,
) -> dict[str, Any]:
    """Values of both arms, their difference, its interval and its test."""
    base, treated = (float(ratio(each.sum(axis=0))) for each in sums)
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
        "method": method,
        "p_value": contrast.test.p_value,
        "p_method": contrast.test.method,
        "status": contrast.status,
        "n_clusters": contrast.n_clusters,
    }


def _sets_row(measure: Measure, contrast: SetsContrast, level: float) -> dict[str, Any]:
    """Mean over versions and its difference."""
    base, treated, relative = contrast.baseline, contrast.treatment, as_percent(contrast.relative)
    low, high = contrast.treatment_interval
    return {
        "measure": measure.name,
        "unit": measure.unit,
        "baseline": base,
        "treatment": treated,
        "treatment_low": low,
        "treatment_high": high,
        "difference": treated - base,
        **contrast.difference._asdict(),
        "level": level,
        "relative_change": 100 * float(relative_change(base, treated)),
        "relative_low": relative.low,
        "relative_high": relative.high,
        "method": "sets_contrast",
        "p_value": contrast.p_value,
        "between": contrast.between,
        "status": contrast.status,
    }

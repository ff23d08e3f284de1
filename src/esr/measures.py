"""The ESR measures on tables of scores: estimates, intervals, comparisons, exclusions.

The one place where measures are computed; every figure, table and claim reads them from here.
A scores table has one row a trial (`COLUMNS`). Only trials with status `ok` are scored; the
others are counted by reason and never enter as 0. Rates are in percent (0-100), scores and their
changes in points (0-100), attempts in attempts. Definitions and formulas: docs/method.md.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from esr.errors import EsrError
from esr.scores import check_columns, check_scores, is_scored, numbers_of
from esr.statistics import (
    Contrast,
    Estimate,
    Factor,
    Interval,
    SetsContrast,
    bootstrap_weights,
    cluster_codes,
    cluster_sums,
    is_sparse,
    paired_contrast,
    percentile_interval,
    ratio,
    relative_change,
    resample,
    resampled_mean,
    sets_contrast,
    trial_mean,
    trial_rate,
    unpaired_contrast,
)

PAIR_KEY = ["latent", "prompt_id", "seed"]  # what a replayed trial shares with the original
TIE = 1e-9  # values of a measure this close count as equal

Trials = Float[np.ndarray, " trials"]
Group = tuple[dict[str, Any], pd.DataFrame]


@dataclass(frozen=True)
class Measure:
    """The mean of a column of scores over some of the trials.

    `among` names the denominator: `scored` (status ok), `multi` (scored, two attempts or more) or
    `responded` (any response; needs no judge). A rate, whose unit is percent, is the mean of a
    flag. `lowest` and `highest` are the ends of a trial's range in `unit` (NaN: unbounded).
    """

    name: str
    label: str
    unit: Literal["percent", "points", "attempts"]
    definition: str
    column: str
    among: Literal["scored", "multi", "responded"] = "scored"
    lowest: float = 0
    highest: float = 100

    @property
    def is_rate(self) -> bool:
        """Whether the measure is a share of trials."""
        return self.unit == "percent"

    @property
    def span(self) -> float:
        """Width of the range of a trial's value."""
        return self.highest - self.lowest

    def values(self, scores: pd.DataFrame) -> Trials:
        """One number a trial in `unit` (a rate: 0 or 100), NaN outside the denominator."""
        values = numbers_of(scores, self.column) * (100 if self.is_rate else 1)
        inside = self.in_domain(scores)
        if self.among == "multi":
            inside = inside & (numbers_of(scores, "multi_attempt") == 1)
        return np.where(inside, values, np.nan)

    def in_domain(self, scores: pd.DataFrame) -> Bool[np.ndarray, " trials"]:
        """Trials that could enter the denominator: scored, or with a response."""
        responded = ~np.isnan(numbers_of(scores, self.column))
        return responded if self.among == "responded" else is_scored(scores)


_REGISTERED = [
    Measure(
        "first_score",
        "First-attempt score",
        "points",
        "mean score of the first attempt",
        "first_score",
    ),
    Measure(
        "multi_attempt_rate",
        "Multi-attempt rate",
        "percent",
        "share of trials with two attempts or more",
        "multi_attempt",
    ),
    Measure(
        "esr_rate",
        "ESR rate",
        "percent",
        "share of trials with two attempts or more whose last scores higher than the first",
        "improved",
    ),
    Measure(
        "success_rate",
        "Improvement rate",
        "percent",
        "share of multi-attempt trials whose last attempt scores higher than the first",
        "improved",
        among="multi",
    ),
    Measure(
        "msi",
        "Mean score improvement",
        "points",
        "mean of last minus first score over all trials, 0 for a single attempt",
        "score_change",
        lowest=-100,
    ),
    Measure(
        "msi_multi",
        "Mean score improvement (multi-attempt)",
        "points",
        "mean of last minus first score over the multi-attempt trials",
        "score_change",
        among="multi",
        lowest=-100,
    ),
    Measure(
        "mean_attempts",
        "Attempts",
        "attempts",
        "mean number of attempts",
        "n_attempts",
        lowest=1,
        highest=np.nan,
    ),
    Measure(
        "degraded_rate",
        "Degraded responses",
        "percent",
        "share of responses in which a word is repeated five times or more in a row",
        "degraded",
        among="responded",
    ),
    Measure(
        "restart_rate",
        "Restart rate (no judge)",
        "percent",
        "share of responses in which the judge-free detector finds a restart",
        "restart_detected",
        among="responded",
    ),
]
MEASURES = {measure.name: measure for measure in _REGISTERED}


def find_measures(names: Sequence[str]) -> list[Measure]:
    """The registered measures of these names; raises EsrError on an unknown one."""
    unknown = [name for name in names if name not in MEASURES]
    if unknown:
        raise EsrError(f"unknown measures {unknown}; known are {list(MEASURES)}")
    return [MEASURES[name] for name in names]


def exclusions(scores: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """Trials by status, for each group of the columns `by`: nothing is dropped uncounted.

    Columns: those of `by`, status (`ok` first, `total` last), n, percent (of the group).

    Raises:
        EsrError: a trial has no status, so that trials in != trials out + trials dropped.
    """
    tables = []
    for group, trials in _groups(scores, by):
        counts = _counted(trials["status"], "ok", len(trials)).rename(columns={"reason": "status"})
        counts["percent"] = 100 * counts["n"] / max(len(trials), 1)
        tables.append(counts.assign(**group)[[*by, *counts.columns]])
    return pd.concat(tables, ignore_index=True)


def summarise(
    scores: pd.DataFrame,
    measures: Sequence[str] = tuple(MEASURES),
    *,
    by: Sequence[str] = (),
    n_boot: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    cluster: str = "latent",
    crossed: str | None = "prompt_id",
) -> pd.DataFrame:
    """Each measure of each group with its intervals: one row per (group, measure, method).

    Methods: `wilson` (rates) or `t` (means) and `wald` treat trials as independent;
    `cluster_bootstrap` resamples the ids in `cluster`; `two_way_bootstrap` also those in
    `crossed` (None: left out). Columns: those of `by`, measure, unit, estimate, low, high, level,
    method, status (`esr.statistics.estimates`), and of the trials in the denominator n, n_events
    (rates), n_latents, n_prompts. An undefined estimate is NaN, with n = 0.

    Args:
        scores: Scores of an arm, or of several told apart by the columns `by`.
        measures: Names in `MEASURES`.
        by: Columns whose combinations are the groups, in order of appearance.
        n_boot: Bootstrap resamples; all measures of a group share them.
        seed: Of the resamples; each group is drawn as if it were alone.
        level: Of the intervals.
        cluster: Column of the unit of resampling; `prompt_id` for trials without a latent.
        crossed: Column of the second factor.

    Raises:
        EsrError: an invalid table, an unknown measure, a missing id in `cluster` or `crossed`, or
            `level` in `by`.
    """
    found = find_measures(measures)
    if "level" in by:
        raise EsrError("`level` is that of the intervals; group a boost sweep by its `boost`")
    rows = []
    for group, trials in _groups(scores, by):
        check_scores(trials)
        columns = [column for column in (cluster, crossed) if column]
        factors = [
            resample(trials[column], n_boot, [seed, order]) for order, column in enumerate(columns)
        ]
        for measure in found:
            values = measure.values(trials)
            shared = group | _point(measure, values, trials)
            for method, (interval, status) in _estimates(measure, values, factors, level).items():
                ends = interval._asdict() | {"level": level}
                rows.append(shared | ends | {"method": method, "status": status})
    order = [*by, "measure", "unit", "estimate", "low", "high", "level", "method", "status"]
    order += ["n", "n_events", "n_latents", "n_prompts"]
    return pd.DataFrame(rows, columns=order).astype({"n_events": "Int64"})


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
    """Treatment against baseline where it replays the same trials: one row a measure.

    A pair, the same (latent, prompt_id, seed) in both arms, is used if both trials are in the
    measure's domain. Intervals: clusters drawn together in both arms. p: arms swapped within
    clusters. Columns: measure, unit, baseline, treatment (on the used pairs), difference, low,
    high, level, relative_change, relative_low, relative_high (percent of the baseline), p_value,
    p_method, status, n_pairs, n_dropped, n_baseline, n_treatment (denominators), n_clusters (with
    values in both arms).

    Args:
        baseline: Scores of the arm replayed.
        treatment: Scores of the arm that replays it.
        measures: Names in `MEASURES`.
        cluster: Column of the unit that is drawn and swapped.
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
        pairs, first, second = paired_sums(baseline, treatment, measure, cluster)
        used = pairs[pairs["reason"].eq("used")]
        contrast = paired_contrast(first, second, measure.span, level=level, **draws)
        counts = {"n_pairs": len(used), "n_dropped": len(pairs) - len(used)}
        rows.append(_comparison(measure, first, second, contrast, level) | counts)
    return pd.DataFrame(rows)


def paired_sums(
    baseline: pd.DataFrame, treatment: pd.DataFrame, measure: Measure, cluster: str = "latent"
) -> tuple[pd.DataFrame, Float[np.ndarray, "clusters 2"], Float[np.ndarray, "clusters 2"]]:
    """Pairs of two arms (`match_trials`), and a measure's sums by cluster over the used ones.

    Returns:
        The pairs; then, for baseline and treatment, sum and number of values of every cluster.
    """
    pairs = match_trials(baseline, treatment, measure)
    used = pairs[pairs["reason"].eq("used")]
    in_b, in_t = (used[f"row_{arm}"].to_numpy(int) for arm in ("baseline", "treatment"))
    codes = cluster_codes(baseline[cluster].iloc[in_b])
    first = cluster_sums(measure.values(baseline)[in_b], *codes)
    second = cluster_sums(measure.values(treatment)[in_t], *codes)
    return pairs, first, second


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
    """Mean over several versions of a treatment (random sets, say) against what they all replay.

    Paired as in `compare`; the intervals cover other clusters and other versions of the treatment
    (`esr.statistics.sets_contrast`). Columns: measure, unit, baseline, treatment (mean over
    versions), treatment_low, treatment_high, difference, low, high, level, relative_change,
    relative_low, relative_high, between (sd of the versions' differences), status, n_sets, n_pairs
    (of all versions), n_dropped.

    Raises:
        EsrError: an invalid table, a repeated pair key, an unknown measure, a missing cluster id.
    """
    for scores in (baseline, *treatments):
        check_scores(scores)
    codes, count = cluster_codes(baseline[cluster])
    rows = []
    for measure in find_measures(measures):
        sums: list[tuple[np.ndarray, np.ndarray]] = []
        n_used = n_all = 0
        values = measure.values(baseline)
        for treatment in treatments:
            pairs = match_trials(baseline, treatment, measure)
            used = pairs[pairs["reason"].eq("used")]
            in_b, in_t = (used[f"row_{arm}"].to_numpy(int) for arm in ("baseline", "treatment"))
            arms = values[in_b], measure.values(treatment)[in_t]
            first, second = (cluster_sums(arm, codes[in_b], count) for arm in arms)
            sums.append((first, second))
            n_used, n_all = n_used + len(used), n_all + len(pairs)
        firsts, seconds = (
            np.array([pair[i] for pair in sums]).reshape(-1, count, 2) for i in (0, 1)
        )
        contrast = sets_contrast(firsts, seconds, level=level, n_boot=n_boot, seed=seed)
        counts = {"n_sets": len(treatments), "n_pairs": n_used, "n_dropped": n_all - n_used}
        rows.append(_sets_row(measure, contrast, level) | counts)
    return pd.DataFrame(rows)


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
    If the arms share latents, use `compare`: here the interval would be needlessly wide.

    Raises:
        EsrError: an invalid table, an unknown measure, a missing cluster id.
    """
    check_scores(baseline)
    check_scores(treatment)
    draws = {"n_boot": n_boot, "n_permutations": n_permutations, "seed": seed}
    coded = [(arm, cluster_codes(arm[cluster])) for arm in (baseline, treatment)]
    rows = []
    for measure in find_measures(measures):
        first, second = (cluster_sums(measure.values(arm), *codes) for arm, codes in coded)
        contrast = unpaired_contrast(first, second, measure.span, level=level, **draws)
        rows.append(_comparison(measure, first, second, contrast, level))
    return pd.DataFrame(rows)


def peak(
    scores: pd.DataFrame,
    measure: str,
    *,
    over: str = "level",
    cluster: str = "latent",
    level: float = 0.95,
    n_boot: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Where along the column `over` a measure is largest, by plain maximum over its values.

    Whole clusters are drawn, with all their trials at all values of `over`; the interval is that of
    the replicates' maxima. A tie within a replicate is broken by lot.

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
    column = numbers_of(scores, over)
    places = np.unique(column[~np.isnan(column)])
    sums = [cluster_sums(np.where(column == at, values, np.nan), codes, count) for at in places]
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
    weights = bootstrap_weights(count, n_boot, rng)
    replicates = np.column_stack([ratio(weights @ each) for each in sums])
    interval = percentile_interval(_place_of_maximum(replicates, places, rng), level)
    sparse = np.isnan(interval.low) or is_sparse(np.sum(sums, axis=0))
    status = "tied" if tied else "sparse" if sparse else "ok"
    return found | interval._asdict() | {"status": status}


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


def pair_counts(
    baseline: pd.DataFrame, treatment: pd.DataFrame, measure: str = "first_score"
) -> pd.DataFrame:
    """Pairs used and dropped by reason: columns reason, n; `used` first, `total` last."""
    check_scores(baseline)
    check_scores(treatment)
    pairs = match_trials(baseline, treatment, *find_measures([measure]))
    both = int(pairs[["row_baseline", "row_treatment"]].notna().all(axis=1).sum())
    return _counted(pairs["reason"], "used", len(baseline) + len(treatment) - both)


def _groups(scores: pd.DataFrame, by: Sequence[str]) -> Iterator[Group]:
    """The rows of each combination of the columns `by`, missing values included."""
    check_columns(scores, by)
    if not by:
        yield {}, scores
        return
    for keys, trials in scores.groupby(list(by), sort=False, dropna=False):
        yield dict(zip(by, keys, strict=True)), trials


def _counted(reasons: pd.Series, first: str, expected: int) -> pd.DataFrame:
    """Counts by reason, `first` first and `total` last, after checking that they add up."""
    counts = reasons.value_counts()
    order = sorted(counts.index, key=lambda reason: (reason != first, -counts[reason], reason))
    table = pd.DataFrame({"reason": order, "n": [int(counts[reason]) for reason in order]})
    if table["n"].sum() != expected:
        raise EsrError(
            f"{table['n'].sum()} of {expected} trials are counted: give each a status or reason"
        )
    total = pd.DataFrame({"reason": ["total"], "n": [expected]})
    return pd.concat([table, total], ignore_index=True)


def _place_of_maximum(
    curves: Float[np.ndarray, "boot places"],
    places: Float[np.ndarray, " places"],
    rng: np.random.Generator,
) -> Float[np.ndarray, " boot"]:
    """Where each curve is highest; NaN where it has one height only, and so no peak."""
    lot = curves + rng.uniform(0, TIE, curves.shape)
    found = places[np.argmax(np.where(np.isnan(lot), -np.inf, lot), axis=1)]
    lowest = np.where(np.isnan(curves), np.inf, curves).min(axis=1)
    highest = np.where(np.isnan(curves), -np.inf, curves).max(axis=1)
    return np.where(highest - lowest > TIE, found, np.nan)


def _point(measure: Measure, values: Trials, scores: pd.DataFrame) -> dict[str, Any]:
    """The estimate and the size of its denominator."""
    inside = ~np.isnan(values)
    return {
        "measure": measure.name,
        "unit": measure.unit,
        "estimate": float(values[inside].mean()) if inside.any() else np.nan,
        "n": int(inside.sum()),
        "n_events": int((values[inside] > 0).sum()) if measure.is_rate else pd.NA,
        "n_latents": scores["latent"][inside].nunique(),
        "n_prompts": scores["prompt_id"][inside].nunique(),
    }


def _estimates(
    measure: Measure, values: Trials, factors: list[Factor], level: float
) -> dict[str, Estimate]:
    """Intervals by method, in the unit of the measure."""
    present = values[~np.isnan(values)]
    if measure.is_rate:
        fractions = trial_rate(int((present > 0).sum()), len(present), level)
        found = {name: Estimate(_percent(end), status) for name, (end, status) in fractions.items()}
    else:
        found = trial_mean(present, measure.lowest, measure.highest, level)
    resampled = partial(
        resampled_mean, values, lowest=measure.lowest, highest=measure.highest, level=level
    )
    for count, method in enumerate(["cluster_bootstrap", "two_way_bootstrap"][: len(factors)], 1):
        found[method] = resampled(factors[:count])
    return found


def _comparison(
    measure: Measure, first: np.ndarray, second: np.ndarray, contrast: Contrast, level: float
) -> dict[str, Any]:
    """Both arms' values, their difference and what can be said of it."""
    base, treated = (float(ratio(sums.sum(axis=0))) for sums in (first, second))
    relative = _percent(contrast.relative)
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
        "n_baseline": int(first[:, 1].sum()),
        "n_treatment": int(second[:, 1].sum()),
        "n_clusters": contrast.n_clusters,
    }


def _sets_row(measure: Measure, contrast: SetsContrast, level: float) -> dict[str, Any]:
    """What can be said of the mean over versions; a mean cannot leave the range of its trials."""
    base, treated, relative = contrast.baseline, contrast.treatment, _percent(contrast.relative)
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
        "between": contrast.between,
        "status": contrast.status,
    }


def _percent(interval: Interval) -> Interval:
    return interval.scaled(100)

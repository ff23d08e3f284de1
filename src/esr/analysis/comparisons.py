"""Comparisons of arms: paired by trial, against random sets, and unpaired.

Units and definitions of the measures: `esr.analysis.measures`. Formulas: docs/method.md.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from esr.analysis.measures import (
    MEASURES,
    Measure,
    as_percent,
    clusters_of,
    find_measures,
    measured_columns,
)
from esr.analysis.pairing import SIZES, align, pair_trials
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
    aligned = align(baseline, [treatment])
    rows = []
    for measure in find_measures(measures):
        pairs = pair_trials(aligned, measure)
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


def compare_sets(
    baseline: pd.DataFrame,
    treatments: Sequence[pd.DataFrame],
    measures: Sequence[str] = tuple(MEASURES),
    *,
    level: float = 0.95,
    test: bool = True,
) -> pd.DataFrame:
    """Mean over several versions of a treatment (such as random sets) against their baseline.

    Paired as in `compare`; the intervals cover other latents, other prompts and other versions of
    the treatment (`esr.analysis.statistics.sets_contrast`). Columns: measure, unit, baseline,
    treatment (mean over versions), treatment_low, treatment_high, difference, low, high, level,
    relative_change, relative_low, relative_high, method, p_value, between (sd of the versions'
    differences), status, n_sets, and of all versions n_pairs, n_dropped, n_treatment. Without
    `test`, p_value is NaN: its search takes most of the time.

    Raises:
        EsrError: an invalid table, a repeated pair key, an unknown measure, a missing cluster id.
    """
    for scores in (baseline, *treatments):
        check_scores(scores)
    aligned = align(baseline, treatments)
    rows = []
    for measure in find_measures(measures):
        pairs = pair_trials(aligned, measure)
        contrast = sets_contrast(
            pairs.baseline,
            pairs.treatments,
            pairs.factors,
            measure.quantity,
            level=level,
            weights=pairs.weights,
            test=test,
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
    both = [
        (measured_columns(arm), [cluster_codes(arm[column])[0] for column in clusters_of(arm)])
        for arm in (baseline, treatment)
    ]
    rows = []
    for measure in find_measures(measures):
        arms = [
            Arm(measure.values(columns), factors, weights_of(columns)) for columns, factors in both
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

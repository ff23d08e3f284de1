"""Intervals of measures by other methods than that of the results: the table of robustness.

The results show one interval a measure (`esr.analysis.measures.summarise`). These say how much it
depends on the method.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd

from esr.analysis.measures import (
    MEASURES,
    Measure,
    Trials,
    as_percent,
    clusters_of,
    find_measures,
    groups,
    point_estimate,
)
from esr.analysis.statistics import (
    Estimate,
    Factor,
    cluster_codes,
    resample,
    resampled_mean,
    trial_mean,
    trial_rate,
)
from esr.analysis.statistics.contrasts import crossed_interval
from esr.arms.scores import check_scores, weights_of

FIXED_PROMPTS = "prompts fixed"
"""The method of the results, with latents as the only random factor."""
BOOTSTRAPS = ["cluster_bootstrap", "two_way_bootstrap"]


def alternatives(
    scores: pd.DataFrame,
    measures: Sequence[str] = tuple(MEASURES),
    *,
    by: Sequence[str] = (),
    n_boot: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> pd.DataFrame:
    """Each measure of each group by other methods: one row per (group, measure, method).

    Methods: `wilson` (rates) or `t` (means) and `wald` treat trials as independent; `prompts fixed`
    is the method of the results with latents as the only random factor; `cluster_bootstrap`
    resamples latents (prompts, where no trial has a latent); `two_way_bootstrap` also prompts.
    Columns and weights as for `summarise`; with weights, methods for independent trials are left
    out.

    Args:
        scores: Scores of an arm, or of several that the columns `by` distinguish.
        measures: Names in `MEASURES`.
        by: Columns whose combinations are the groups, in order of appearance.
        n_boot: Bootstrap resamples; all measures of a group share them.
        seed: Of the resamples; each group is drawn as if it were alone.
        level: Of the intervals.

    Raises:
        EsrError: an invalid table, an unknown measure, some trials without a latent.
    """
    found = find_measures(measures)
    rows = []
    for group, trials in groups(scores, by):
        check_scores(trials)
        factors = [
            resample(trials[column], n_boot, [seed, order])
            for order, column in enumerate(clusters_of(trials))
        ]
        first = cluster_codes(trials[clusters_of(trials)[0]])[0]
        weights = weights_of(trials)
        for measure in found:
            values = measure.values(trials)
            shared = group | point_estimate(measure, values, trials)
            estimates = {} if weights is not None else _independent(measure, values, level)
            estimates[FIXED_PROMPTS] = crossed_interval(
                values, [first], measure.quantity, level, weights
            )
            estimates |= _bootstraps(measure, values, factors, level, weights)
            for method, (interval, status) in estimates.items():
                ends = interval._asdict() | {"level": level}
                rows.append(shared | ends | {"method": method, "status": status})
    order = [*by, "measure", "unit", "estimate", "low", "high", "level", "method", "status"]
    order += ["n", "n_events", "n_latents", "n_prompts"]
    return pd.DataFrame(rows, columns=order).astype({"n_events": "Int64"})


def _bootstraps(
    measure: Measure, values: Trials, factors: list[Factor], level: float, weights: Trials | None
) -> dict[str, Estimate]:
    resampled = partial(
        resampled_mean,
        values,
        lowest=measure.lowest,
        highest=measure.highest,
        level=level,
        weights=weights,
    )
    methods = BOOTSTRAPS[: len(factors)]
    return {method: resampled(factors[:count]) for count, method in enumerate(methods, 1)}


def _independent(measure: Measure, values: Trials, level: float) -> dict[str, Estimate]:
    """Intervals that treat trials as independent."""
    values = values[~np.isnan(values)]
    if not measure.is_rate:
        return trial_mean(values, measure.lowest, measure.highest, level)
    fractions = trial_rate(int((values > 0).sum()), len(values), level)
    return {name: Estimate(as_percent(end), status) for name, (end, status) in fractions.items()}

"""Cross-judge agreement on a stratified sample that all judges grade.

The primary judge has graded every trial of the arms; its result is the stratum of a trial and sets
the weight of a sampled trial. The judge-free restart detector takes part as a rater of one
question: whether a response has several attempts. Methods: docs/method.md.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import combinations, product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from esr.agreement.sample import DETECTOR, Scores, sheet_weights, with_detector
from esr.analysis.measures import MEASURES
from esr.analysis.statistics import (
    NO_INTERVAL,
    Factor,
    Resampled,
    bootstrap_weights,
    cluster_codes,
    cluster_sums,
    is_sparse,
    no_variation_interval,
    percentile_interval,
)
from esr.analysis.statistics import agreement as formulas
from esr.analysis.statistics.resampling import TIE
from esr.arms.scores import Columns, as_float, is_scored
from esr.config import StatisticsConfig
from esr.errors import EsrError


def draw_clusters(sample: pd.DataFrame, n_boot: int, seed: int) -> Factor:
    """Resamples of the latents of each model; prompts stand in where an arm has no latents."""
    unit = sample["latent"].astype("string").fillna("prompt " + sample["prompt_id"])
    codes, count = cluster_codes(sample["model"].astype("string") + " " + unit)
    weights = np.zeros((n_boot, count))
    for order, model in enumerate(sorted(sample["model"].unique())):
        mine = np.unique(codes[sample["model"].eq(model).to_numpy()])
        rng = np.random.default_rng([seed, order])
        weights[:, mine] = bootstrap_weights(len(mine), n_boot, rng)
    return Factor(codes, weights)


class Statistic(NamedTuple):
    """A statistic of ratings, and the range of its values (NaN: unknown)."""

    compute: Callable[[formulas.Ratings, formulas.Weights], formulas.Result]
    lowest: float = np.nan
    highest: float = np.nan


class Quantity(NamedTuple):
    """A column of scores, its summary for one judge, and the statistics of a pair.

    `among_multi`: only trials in which each of the judges found several attempts.
    """

    column: str
    single: str
    pair: tuple[str, ...]
    among_multi: bool = False


def _mean(ratings: formulas.Ratings, weights: formulas.Weights) -> formulas.Result:
    return formulas.weighted_mean(ratings[:, 0], weights)


def _limit(end: int, ratings: formulas.Ratings, weights: formulas.Weights) -> formulas.Result:
    return formulas.limits_of_agreement(ratings, weights)[end]


STATISTICS = {
    "rate": Statistic(_mean, 0, 1),
    "mean": Statistic(_mean),
    "agreement": Statistic(formulas.observed_agreement, 0, 1),
    "kappa": Statistic(formulas.cohen_kappa),
    "positive_agreement": Statistic(formulas.positive_agreement, 0, 1),
    "alpha": Statistic(formulas.krippendorff_alpha),
    "icc": Statistic(formulas.intraclass_correlation),
    "correlation": Statistic(formulas.correlation),
    "bias": Statistic(formulas.mean_difference),
    "limit_low": Statistic(partial(_limit, 0)),
    "limit_high": Statistic(partial(_limit, 1)),
}


FLAGS = ("agreement", "kappa", "positive_agreement", "alpha")


POINTS = ("icc", "alpha", "correlation", "bias", "limit_low", "limit_high")


QUANTITIES = {
    "multi_attempt": Quantity("multi_attempt", "rate", FLAGS),
    "direction": Quantity("improved", "rate", FLAGS, among_multi=True),
    "n_attempts": Quantity("n_attempts", "mean", ("agreement", "icc", "alpha")),
    "first_score": Quantity("first_score", "mean", POINTS),
    "score_change": Quantity("score_change", "mean", POINTS),
}


WEIGHTINGS = ("population", "sample")


ALL = "all"
"""In the column `arm`: all sampled arms together."""
BY_ARM = "multi_attempt"
"""The quantity that is also compared arm by arm, in the population."""


def compare_judges(
    sample: pd.DataFrame, scores: Scores, settings: StatisticsConfig
) -> pd.DataFrame:
    """Statistics of each judge, of every pair and of all judges: the table `agreement`.

    Args:
        sample: Table `sample`.
        scores: Scores of the sample by judge (`esr.agreement.sample.by_judge`).
        settings: Of the intervals.

    Raises:
        EsrError: the scores are of other trials than the sample.
    """
    for name, table in scores.items():
        if table["trial_id"].tolist() != sample["trial_id"].tolist():
            raise EsrError(f"scores by {name} are not those of the sample; judge it again")
    factor = draw_clusters(sample, settings.bootstrap, settings.seed)
    rows = []
    for name, quantity in QUANTITIES.items():
        raters = with_detector(scores) if name == "multi_attempt" else scores
        ratings = {rater: ratings_of(table, quantity) for rater, table in raters.items()}
        for judge_a, judge_b, group, statistics in _groups(list(ratings), quantity):
            columns = np.column_stack([ratings[rater] for rater in group])
            common = {"quantity": name, "judge_a": judge_a, "judge_b": judge_b}
            weights = sheet_weights(sample, scores, group if judge_a is not None else ())
            parts = _by_arm(sample, columns) if name == BY_ARM else {}
            for arm, part in {ALL: columns, **parts}.items():
                used = WEIGHTINGS if arm == ALL else WEIGHTINGS[:1]
                found = _estimates(part, statistics, used, weights, factor, settings.level)
                rows += [{"arm": arm} | common | row for row in found]
    return pd.DataFrame(rows)


def _by_arm(sample: pd.DataFrame, ratings: formulas.Ratings) -> dict[str, formulas.Ratings]:
    """Ratings arm by arm; those of other arms are missing."""
    return {
        str(arm): np.where(sample["arm"].eq(arm).to_numpy()[:, None], ratings, np.nan)
        for arm in sample["arm"].unique()
    }


def _groups(
    raters: list[str], quantity: Quantity
) -> Iterator[tuple[str | None, str | None, tuple[str, ...], tuple[str, ...]]]:
    """Each rater, each pair, and all (judges missing): names, raters, statistics."""
    for rater in raters:
        yield rater, rater, (rater,), (quantity.single,)
    for pair in combinations(raters, 2):
        yield *pair, pair, quantity.pair
    if len(raters) > 1:
        yield None, None, tuple(raters), ("alpha",)


def ratings_of(scores: pd.DataFrame | Columns, quantity: Quantity) -> Float[np.ndarray, " units"]:
    """A judge's ratings; NaN: none."""
    inside = is_scored(scores)
    if quantity.among_multi:
        inside = inside & (as_float(scores, "multi_attempt") == 1)
    return np.where(inside, as_float(scores, quantity.column), np.nan)


def _estimates(
    ratings: formulas.Ratings,
    statistics: Sequence[str],
    weightings: Sequence[str],
    sampled: Float[np.ndarray, " units"],
    factor: Factor,
    level: float,
) -> list[dict[str, Any]]:
    """Statistics on the units that the rater, both raters, or (alpha of all) two or more rated."""
    rated = (~np.isnan(ratings)).sum(axis=1) >= min(ratings.shape[1], 2)
    rows = []
    for weighting, name in product(weightings, statistics):
        used = rated
        if name == "positive_agreement":  # units that neither rater flags do not enter
            used = rated & ratings.any(axis=1)
        weights = sampled ** (weighting == "population")
        facts, _ = estimate_statistic(
            STATISTICS[name], ratings[used], weights[used], factor, factor.codes[used], level
        )
        rows.append({"statistic": name, "weighting": weighting} | facts)
    return rows


def estimate_statistic(
    statistic: Statistic,
    ratings: formulas.Ratings,
    weights: Float[np.ndarray, " units"],
    factor: Factor,
    codes: Int[np.ndarray, " units"],
    level: float,
) -> tuple[dict[str, Any], Float[np.ndarray, " boot"]]:
    """A statistic with its cluster bootstrap interval, status and replicates."""
    value = float(statistic.compute(ratings, weights))
    clusters, own = np.unique(codes, return_inverse=True)
    facts = {"estimate": value, "n": len(ratings), "n_clusters": len(clusters)}
    if np.isnan(value) or len(clusters) < 2:
        status = "undefined" if np.isnan(value) else "too_few"
        facts |= NO_INTERVAL._asdict() | {"status": status}
        return facts, np.full(len(factor.weights), np.nan)
    drawn = Resampled(Factor(codes, factor.weights), weights)
    replicates = statistic.compute(ratings, drawn)
    if np.nanmax(replicates) - np.nanmin(replicates) < TIE:
        ends = no_variation_interval(
            value, len(clusters), statistic.lowest, statistic.highest, level
        )
        return facts | ends._asdict() | {"status": "no_variation"}, replicates
    ends = percentile_interval(replicates, level)
    lowest = np.nanmin(ratings, axis=1) if ratings.shape[1] > 1 else 0
    spread = cluster_sums(np.nanmax(ratings, axis=1) - lowest, own, len(clusters))
    sparse = np.isnan(ends.low) or is_sparse(spread)
    return facts | ends._asdict() | {"status": "sparse" if sparse else "ok"}, replicates


def rank_models(
    sample: pd.DataFrame, scores: Scores, measures: Sequence[str], settings: StatisticsConfig
) -> pd.DataFrame:
    """Population values of measures by judge and model, and the ranks of the models.

    Columns: judge, model, measure, value, low, high (unit of the measure), n, status, rank (1 =
    highest; equal values share the better rank), rank_low, rank_high (bootstrap). The status is
    `not_rated` where a measure needs scores and the rater gives none.
    """
    factor = draw_clusters(sample, settings.bootstrap, settings.seed)
    rows = []
    for (judge, table), name in product(with_detector(scores).items(), measures):
        measure = MEASURES[name]
        statistic = Statistic(_mean, measure.lowest, measure.highest)
        ratings = measure.values(table)
        known = judge != DETECTOR or measure.column == "multi_attempt"
        found = {}
        for model in dict.fromkeys(sample["model"]):
            mine = sample["model"].eq(model).to_numpy() & ~np.isnan(ratings) & known
            weights = sheet_weights(sample, scores, (judge,))[mine]
            found[model] = estimate_statistic(
                statistic,
                ratings[mine][:, None],
                weights,
                factor,
                factor.codes[mine],
                settings.level,
            )
        ranks = _ranks(np.array([[facts["estimate"] for facts, _ in found.values()]]))[0]
        drawn = _ranks(np.column_stack([replicates for _, replicates in found.values()]))
        for at, (model, (facts, _)) in enumerate(found.items()):
            ends = percentile_interval(drawn[:, at], settings.level)
            if not known:
                facts["status"] = "not_rated"
            row = {"judge": judge, "model": model, "measure": name, **facts, "rank": ranks[at]}
            rows.append(row | {"rank_low": ends.low, "rank_high": ends.high})
    return pd.DataFrame(rows).rename(columns={"estimate": "value"})


def _ranks(values: Float[np.ndarray, "boot models"]) -> Float[np.ndarray, "boot models"]:
    """1 + number of models with a higher value; NaN where there is no value."""
    higher = (values[:, None, :] > values[:, :, None] + TIE).sum(axis=2)
    return np.where(np.isnan(values), np.nan, 1.0 + higher)

"""Measures over the share of self-corrections that models were fine-tuned on.

Several trainings at a share (`finetune.seeds`) are a random factor: what a conclusion about the
share has to carry is the spread between them. With one training at every share that spread is
unknown. The rows then have status `one_training`, no p-value, and intervals over latents alone,
which hold for the models as trained.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from scipy.stats import rankdata

from esr.analysis.comparisons import compare_sets
from esr.analysis.measures import Measure, find_measures
from esr.analysis.rows import differences, peaks
from esr.analysis.statistics import (
    bootstrap_weights,
    cluster_codes,
    cluster_sums,
    is_sparse,
    percentile_interval,
    ratio,
    two_sided_p,
)
from esr.analysis.statistics.resampling import TIE
from esr.analysis.sweeps import place_of_maximum
from esr.analysis.trends import BOOTSTRAP, PAIRED, slope_of
from esr.arms.scores import weights_of
from esr.config import FineTuned, StatisticsConfig

ONE_TRAINING = "one_training"
"""Status of rows about shares that were trained once each."""

Curve = Float[np.ndarray, " models"]


class Models(NamedTuple):
    """A measure of models on the same latents: one point a model, in order of share.

    Attributes:
        shares: Percent of self-corrections.
        trained: Whether the model was fine-tuned; the base was not.
        curve: The measure.
        replicates: The curve on latents drawn with replacement, plus what other trainings would
            add (`training_noise`).
        sums: (sum, number) of the measure by model and latent.
        repeated: Whether some share was trained several times.
    """

    shares: Curve
    trained: Bool[np.ndarray, " models"]
    curve: Curve
    replicates: Float[np.ndarray, "boot models"]
    sums: Float[np.ndarray, "models latents 2"]
    repeated: bool


def with_share(scores: pd.DataFrame, base: str, finetuned: Mapping[str, FineTuned]) -> pd.DataFrame:
    """Scores of a base and of the models made from it, in ascending order of `share`.

    Columns added: share (the base has 0, unless a mixture has that share) and training (from 1; 0
    is the base).
    """
    models = {name: (made.share, made.training) for name, made in finetuned.items()}
    models = {name: place for name, place in models.items() if finetuned[name].base == base}
    if 0 not in {share for share, _ in models.values()}:
        models[base] = (0, 0)
    mine = scores[scores["model"].isin(models)]
    places = pd.DataFrame(
        [models[name] for name in mine["model"]], columns=["share", "training"], index=mine.index
    )
    mine = mine.assign(share=places["share"], training=places["training"])
    return mine.sort_values(["share", "training"], kind="stable", ignore_index=True)


def training_noise(
    curve: Curve, shares: Curve, trained: Bool[np.ndarray, " models"], boot: int, seed: int
) -> Float[np.ndarray, "boot models"] | None:
    """What other trainings would add to each fine-tuned model's measure; None if unknown.

    s T, where s is the sd between trainings of one share, pooled over shares with their degrees of
    freedom, and T = Z / sqrt(chi2 / df) with one chi2 a replicate: every linear statistic of the
    curve has Student's t with df = trainings - shares. s contains chance of single trials, which
    the bootstrap over latents varies, too, so that intervals err on the wide side.
    """
    rng = np.random.default_rng([seed, 7])
    groups = [curve[trained & (shares == share)] for share in np.unique(shares[trained])]
    freedom = sum(len(group) - 1 for group in groups)
    if freedom < 1:
        return None
    squares = sum(float(np.sum((group - group.mean()) ** 2)) for group in groups)
    scale = np.sqrt(squares / rng.chisquare(freedom, (boot, 1)))
    return np.where(trained, scale * rng.standard_normal((boot, len(curve))), 0.0)


def share_trends(
    scores: pd.DataFrame, settings: StatisticsConfig, measures: Sequence[str] = PAIRED
) -> pd.DataFrame:
    """How measures change with the share of self-corrections in a model's training data.

    Statistics: `rank_correlation` (Spearman) and `slope` over all models, and `slope_upper` over
    the upper half of the trained shares (their median or more), where a plateau would show; slopes
    are least-squares, per 10 points of share. Replicates draw latents, each with its trials in all
    models, and trainings (`training_noise`). p (of rank correlation and slope) is that of the
    slope's replicates; shares trained once each have none, and status `one_training`.

    Args:
        scores: Scores of an arm with columns `share` and `training` (`with_share`).
        settings: Of intervals and test.
        measures: Names in `MEASURES`.

    Returns:
        Columns measure, statistic, value, low, high, method, p_value, n (scored trials), status.
    """
    trained = np.unique(scores.loc[scores["training"].gt(0), "share"].to_numpy(float))
    middle = float(np.median(trained)) if len(trained) else np.inf
    rows = []
    for measure in find_measures(measures):
        models, n = _models(scores, measure, settings)
        found = _trends(models, middle, settings.level)
        rows += [{"measure": measure.name, **row, "n": n} for row in found]
    table = pd.DataFrame(rows).rename(columns={"difference": "value"})
    return table.assign(method=BOOTSTRAP)


def share_peaks(
    scores: pd.DataFrame, settings: StatisticsConfig, measures: Sequence[str] = PAIRED
) -> pd.DataFrame:
    """Share at which each measure is highest, as `esr.analysis.rows.peaks`, over trainings too.

    Of several trainings at a share their mean counts.
    """
    table = peaks(scores, measures, settings, over="share")
    rng = np.random.default_rng(settings.seed)
    for i, measure in enumerate(find_measures(measures)):
        models, _ = _models(scores, measure, settings)
        found = table.loc[i, "status"] in ("ok", "sparse", "tied")
        if not models.repeated:
            table.loc[i, "status"] = ONE_TRAINING if found else table.loc[i, "status"]
            continue
        shares = np.unique(models.shares)
        means = [models.replicates[:, models.shares == share].mean(axis=1) for share in shares]
        interval = percentile_interval(
            place_of_maximum(np.column_stack(means), shares, rng), settings.level
        )
        curve = np.array([models.curve[models.shares == share].mean() for share in shares])
        if found:
            table.loc[i, ["value", "low", "high"]] = [shares[np.argmax(curve)], *interval]
    return table


def share_differences(
    scores: pd.DataFrame, settings: StatisticsConfig, measures: Sequence[str] = PAIRED
) -> pd.DataFrame:
    """Every share minus the base, paired by trial: rows of `esr.analysis.rows.differences`.

    Several trainings count as versions of one treatment (`compare_sets`). The difference of a
    single training is that of the model as trained.
    """
    base = scores[scores["training"].eq(0)].reset_index(drop=True)
    parts = []
    for share, table in scores[scores["training"].gt(0)].groupby("share") if len(base) else ():
        versions = [one.reset_index(drop=True) for _, one in table.groupby("training")]
        if len(versions) == 1:
            found = differences(base, versions[0], measures, settings)
        else:
            names = {"difference": "value", "n_pairs": "n", "n_dropped": "dropped"}
            found = compare_sets(base, versions, measures, level=settings.level)
            found = found.rename(columns=names)
            found["n"] = found["n"].fillna(found["n_treatment"])
        parts.append(found.assign(share=share))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _models(
    scores: pd.DataFrame, measure: Measure, settings: StatisticsConfig
) -> tuple[Models, int]:
    """The measure of every model that has one, and the number of scored trials."""
    scores = scores.sort_values(["share", "training"], kind="stable")
    tables = [one for _, one in scores.groupby(["share", "training"])]
    codes, count = cluster_codes(scores["latent"])
    parts = np.split(codes, np.cumsum([len(table) for table in tables])[:-1])
    sums = np.array(
        [
            cluster_sums(measure.values(table), part, count, weights_of(table))
            for table, part in zip(tables, parts, strict=True)
        ]
    ).reshape(len(tables), count, 2)
    defined = sums[:, :, 1].sum(axis=1) > 0  # a base that never restarts has no success rate
    shares = np.array([table["share"].iloc[0] for table in tables], float)[defined]
    trained = np.array([table["training"].iloc[0] > 0 for table in tables], bool)[defined]
    sums = sums[defined]
    curve = ratio(sums.sum(axis=1))
    rng = np.random.default_rng(settings.seed)
    weights = bootstrap_weights(count, settings.bootstrap, rng)
    replicates = np.array([ratio(weights @ each) for each in sums])
    replicates = replicates.reshape(len(sums), len(weights)).T  # also if there is no model
    noise = training_noise(curve, shares, trained, len(weights), settings.seed)
    replicates = replicates if noise is None else replicates + noise
    n = sum(int((~np.isnan(measure.values(table))).sum()) for table in tables)
    return Models(shares, trained, curve, replicates, sums, noise is not None), n


def _trends(models: Models, middle: float, level: float) -> list[dict[str, Any]]:
    """The statistics of `share_trends` for one measure; the upper half begins at `middle`."""
    shares, curve, replicates = models.shares, models.curve, models.replicates
    sparse = is_sparse(np.sum(models.sums, axis=0))
    upper = shares >= middle
    slope = slope_of(shares / 10, curve, replicates, sparse, level)
    above = slope_of(shares[upper] / 10, curve[upper], replicates[:, upper], sparse, level)
    p_value = _p_of_slope(shares, replicates) if models.repeated else np.nan
    rows = [
        {"statistic": "rank_correlation"} | _rank(models, sparse, level) | {"p_value": p_value},
        {"statistic": "slope"} | slope | {"p_value": p_value},
        {"statistic": "slope_upper"} | above | {"p_value": np.nan},
    ]
    if not models.repeated:
        for row in rows:
            row["status"] = ONE_TRAINING if row["status"] in ("ok", "sparse") else row["status"]
    return rows


def _p_of_slope(shares: Curve, replicates: Float[np.ndarray, "boot models"]) -> float:
    """Two-sided p of no slope: the level at which its percentile interval touches 0."""
    return two_sided_p(replicates @ (shares - shares.mean())) if np.ptp(shares) else np.nan


def _rank(models: Models, sparse: bool, level: float) -> dict[str, Any]:
    """Spearman's correlation of the models' measure with their share, and its interval."""
    undefined = {"difference": np.nan, "low": np.nan, "high": np.nan, "status": "undefined"}
    if len(np.unique(models.shares)) < 3 or np.isnan(models.curve).any():
        return undefined
    if np.ptp(models.curve) < TIE:
        return undefined | {"status": "no_variation"}
    low, high = percentile_interval(_spearman(models.shares, models.replicates), level)
    status = "sparse" if sparse or np.isnan(low) else "ok"
    value = float(_spearman(models.shares, models.curve[None, :])[0])
    return {"difference": value, "low": low, "high": high, "status": status}


def _spearman(
    shares: Curve, curves: Float[np.ndarray, "boot models"]
) -> Float[np.ndarray, " boot"]:
    """Rank correlation of each curve with the shares; NaN for a flat or undefined curve."""
    ranks = rankdata(curves, axis=1, nan_policy="propagate")
    first = rankdata(shares)
    centred = first - first.mean()
    ranks = ranks - ranks.mean(axis=1, keepdims=True)
    norms = np.sqrt((centred**2).sum() * (ranks**2).sum(axis=1))
    return np.divide(ranks @ centred, norms, out=np.full(len(curves), np.nan), where=norms > 0)

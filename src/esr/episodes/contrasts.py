"""Activations of detectors and backtracking latents before, in and after a correction.

The unit of every test is the response, clustered by its steered latent. Activations of the latents
of a kind are summed at each token. Backtracking latents are tested only on episodes that were not
used to choose them. Formulas: docs/method.md; boundaries and groups: `esr.episodes.extract`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from esr.analysis.statistics import (
    Interval,
    benjamini_hochberg,
    bootstrap_weights,
    cluster_codes,
    cluster_sums,
    holm,
    paired_contrast,
    percentile_interval,
    ratio,
    relative_change,
    unpaired_contrast,
)
from esr.config import StatisticsConfig
from esr.episodes.traces import Traces, Values, trial_interval

KINDS = {"detector": "Off-topic detectors", "backtracking": "Backtracking latents"}
CELLS = {
    "off_topic": ("episode", "off_topic"),
    "correction": ("episode", "correction"),
    "on_topic": ("episode", "on_topic"),
    "baseline": ("baseline", "on_topic"),
    "unrestarted": ("unrestarted", "off_topic"),
}
"""Cells to compare: a group and a region of its responses."""
CONTRASTS = {
    "detector": [
        ("off_topic", "on_topic"),
        ("off_topic", "baseline"),
        ("off_topic", "unrestarted"),
        ("on_topic", "baseline"),
    ],
    "backtracking": [("correction", "off_topic"), ("correction", "on_topic")],
}
"""The confirmatory family of a model."""
NO_VALUES = pd.DataFrame(columns=["trial_id", "cluster", "cell", "value"])


def region_values(tokens: pd.DataFrame) -> pd.DataFrame:
    """Mean over the tokens of each trial in each of `CELLS`: trial_id, cluster, cell, value."""
    cells = {place: cell for cell, place in CELLS.items()}
    by = ["trial_id", "cluster", "group", "region"]
    means = tokens.dropna(subset="region").groupby(by, sort=False)["value"].mean().reset_index()
    places = zip(means["group"], means["region"], strict=True)
    means["cell"] = [cells.get(place) for place in places]
    return means[["trial_id", "cluster", "cell", "value"]]


def region_means(values: pd.DataFrame, settings: StatisticsConfig) -> pd.DataFrame:
    """Mean over trials of each of `CELLS`: cell, value, low, high, n, n_latents, status."""
    rows = []
    for cell in CELLS:
        mine = values[values["cell"].eq(cell)]
        value = mine["value"].mean() if len(mine) else np.nan
        ends, status = trial_interval(mine, settings)
        sizes = {"n": len(mine), "n_latents": mine["cluster"].nunique()}
        rows.append({"cell": cell, "value": value, **ends._asdict(), **sizes, "status": status})
    return pd.DataFrame(rows)


def contrast(
    values: pd.DataFrame, first: str, second: str, settings: StatisticsConfig
) -> dict[str, Any]:
    """First cell minus second: paired if both lie in the same episodes, else independent groups.

    Bootstrap and permutation resample steered latents. The effect is Cohen's d: the mean over the
    standard deviation of the differences if paired, otherwise over the pooled one. Keys: first,
    second, paired, n_first, n_second, n_latents, mean_first, mean_second, difference, low,
    high, relative_change, relative_low, relative_high (first over second, less 1, in percent),
    effect, effect_low, effect_high, p_value, status.
    """
    paired = CELLS[first][0] == CELLS[second][0]
    arms = [values[values["cell"].eq(cell)].set_index("trial_id") for cell in (second, first)]
    if paired:
        both = arms[0].index.intersection(arms[1].index)
        arms = [arm.loc[both] for arm in arms]
    numbers = [arm["value"].to_numpy(float) for arm in arms]
    coded = [cluster_codes(arm["cluster"]) for arm in arms]
    base, treated = (cluster_sums(n, *codes) for n, codes in zip(numbers, coded, strict=True))
    draws: dict[str, Any] = {
        "n_boot": settings.bootstrap,
        "seed": settings.seed,
        "level": settings.level,
    }
    test = (paired_contrast if paired else unpaired_contrast)(base, treated, np.nan, **draws)
    low, high = test.difference
    relative = test.relative.scaled(100)
    means = [float(ratio(each.sum(axis=0))) for each in (base, treated)]
    effect, (effect_low, effect_high) = effect_size(
        [(n, *codes) for n, codes in zip(numbers, coded, strict=True)], paired, **draws
    )
    return {
        **{"first": first, "second": second, "paired": paired},
        **{"n_first": len(numbers[1]), "n_second": len(numbers[0]), "n_latents": test.n_clusters},
        **{"mean_first": means[1], "mean_second": means[0], "difference": means[1] - means[0]},
        **{"low": low, "high": high},
        **{"relative_change": 100 * float(relative_change(means[0], means[1]))},
        **{"relative_low": relative.low, "relative_high": relative.high},
        **{"effect": effect, "effect_low": effect_low, "effect_high": effect_high},
        **{"p_value": test.test.p_value, "status": test.status},
    }


def model_contrasts(traces: Traces, settings: StatisticsConfig) -> pd.DataFrame:
    """The confirmatory family of a model: columns kind, those of `contrast`, p_holm.

    A contrast without responses has a row with status `undefined`; one without latents of its kind
    has the status `no_detectors` or `no_backtracking_latents`.
    """
    rows = []
    for kind, pairs in CONTRASTS.items():
        values = region_values(traces.tokens(kind))
        absent = {} if traces.latents(kind) else traces.status(kind)
        rows += [{"kind": kind} | contrast(values, *pair, settings) | absent for pair in pairs]
    table = pd.DataFrame(rows)
    return table.assign(p_holm=holm(table["p_value"]))


def latent_contrasts(traces: Traces, settings: StatisticsConfig) -> pd.DataFrame:
    """The contrasts of every latent by itself: columns kind, latent, those of `contrast`, p_bh.

    A screen: p_bh controls the false discovery rate over the latents of a kind, by contrast.
    """
    parts = []
    for kind, pairs in CONTRASTS.items():
        of_latent = {k: region_values(traces.tokens(kind, k)) for k in traces.latents(kind)}
        for pair in pairs:
            rows = [
                {"kind": kind, "latent": latent} | contrast(values, *pair, settings)
                for latent, values in of_latent.items()
            ]
            if rows:
                table = pd.DataFrame(rows)
                parts.append(table.assign(p_bh=benjamini_hochberg(table["p_value"])))
    columns = ["kind", "latent", *contrast(NO_VALUES, *CONTRASTS["detector"][0], settings), "p_bh"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def effect_size(
    arms: list[tuple[Values, np.ndarray, int]], paired: bool, n_boot: int, seed: int, level: float
) -> tuple[float, Interval]:
    """Cohen's d of the second arm against the first, with its clustered bootstrap interval.

    Args:
        arms: Values, cluster of each and number of clusters; in one order if paired.
        paired: Whether to use the sd of the differences (d_z) instead of the pooled sd.
        n_boot: Number of resamples.
        seed: Seed of the resamples.
        level: Confidence level.
    """
    if paired:
        (base, codes, count), (treated, _, _) = arms
        arms = [(treated - base, codes, count)]
    rng = np.random.default_rng(seed)
    moments = [
        np.column_stack([np.bincount(codes, values**power, count) for power in range(3)])
        for values, codes, count in arms
    ]
    weights = [bootstrap_weights(len(each), n_boot, rng) for each in moments]
    replicates = _cohen([w @ each for w, each in zip(weights, moments, strict=True)])
    value = _cohen([each.sum(axis=0) for each in moments])
    return float(value), percentile_interval(replicates, level)


def _cohen(moments: list[Float[np.ndarray, "*batch 3"]]) -> Float[np.ndarray, "*batch"]:
    """Cohen's d from (count, sum, sum of squares) of a sample of differences, or of two samples."""
    with np.errstate(divide="ignore", invalid="ignore"):
        counts, means, squares = zip(
            *((m[..., 0], m[..., 1] / m[..., 0], m[..., 2]) for m in moments), strict=True
        )
        deviations = [
            np.maximum(q - n * a**2, 0) for n, a, q in zip(counts, means, squares, strict=True)
        ]
        freedom = sum(n - 1 for n in counts)
        sd = np.sqrt(sum(deviations) / np.where(freedom > 0, freedom, np.nan))
        change = means[0] if len(moments) == 1 else means[1] - means[0]
        return np.where(sd > 1e-12, change / np.where(sd > 1e-12, sd, 1), np.nan)


def labels_of(labels: pd.DataFrame) -> Mapping[int, str]:
    """Label of each latent that has one."""
    known = labels.dropna(subset="label")
    return {int(k): str(v) for k, v in zip(known["latent"], known["label"], strict=True)}

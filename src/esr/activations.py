"""What detectors and backtracking latents do before, in and after a correction.

Unit of every test is the response, clustered by its steered latent; the activations of the latents
of a kind are summed at each token. Backtracking latents are looked at only in episodes that took no
part in choosing them. Formulas: docs/method.md; boundaries and groups: `esr.episodes`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from esr.config import Episodes, Statistics
from esr.episodes import GROUPS
from esr.statistics import (
    Factor,
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
    resample,
    resampled_mean,
    unpaired_contrast,
)
from esr.tables import read_table

KINDS = {"detector": "Off-topic detectors", "backtracking": "Backtracking latents"}
CELLS = {
    "off_topic": ("episode", "off_topic"),
    "correction": ("episode", "correction"),
    "on_topic": ("episode", "on_topic"),
    "baseline": ("baseline", "on_topic"),
    "unrestarted": ("unrestarted", "off_topic"),
}
"""Group and region of what is compared."""
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
FEW = 5  # fewer responses at a position are not averaged

Values = Float[np.ndarray, " trials"]


@dataclass(frozen=True)
class Traces:
    """Episodes and controls of a model that were read (status `ok`), and what was read on them."""

    episodes: pd.DataFrame
    activations: pd.DataFrame

    def tokens(self, kind: str, latent: int | None = None) -> pd.DataFrame:
        """Summed activation of a kind of latents (or of one of them) at every token with text.

        Columns: trial_id, group, cluster (steered latent), anchor (character), position, start,
        end, region, value.
        """
        rows = self.activations[self.activations["kind"].eq(kind)]
        rows = rows[rows["end"].gt(rows["start"])]
        if latent is not None:
            rows = rows[rows["latent"].eq(latent)]
        of_token = ["trial_id", "position", "start", "end", "region"]
        sums = rows.groupby(of_token, dropna=False, sort=False)["activation"].sum().reset_index()
        trials = self.episodes.rename(columns={"latent": "cluster"})
        if kind == "backtracking":
            trials = trials[trials["held_out"]]
        table = trials[["trial_id", "group", "cluster", "anchor"]].merge(sums, on="trial_id")
        numbers: dict[str, type] = dict.fromkeys(["position", "start", "end", "cluster"], int)
        numbers |= dict.fromkeys(["anchor", "activation"], float)
        return table.astype(numbers).rename(columns={"activation": "value"})

    def latents(self, kind: str) -> list[int]:
        """Latents of a kind, in the order in which they were read."""
        rows = self.activations["kind"].eq(kind)
        return [int(latent) for latent in self.activations.loc[rows, "latent"].unique()]

    def note(self, kind: str) -> str:
        """Why there is nothing to see of a kind of latents; empty if there is."""
        if not self.latents(kind) and len(self.episodes):
            return "no detectors found" if kind == "detector" else "no backtracking latents"
        table = self.tokens(kind)
        return "" if table["group"].eq("episode").any() else "no self-corrections"


def read_traces(
    models: Iterable[str], episodes: Iterable[str], activations: Iterable[str]
) -> dict[str, Traces]:
    """Traces by model, from the paths of their two tables in the order of the models."""
    found = {}
    for model, first, second in zip(models, episodes, activations, strict=True):
        table = read_table(Path(first), "episodes")
        sound = table[table["status"].eq("ok")].reset_index(drop=True)
        found[model] = Traces(sound, read_table(Path(second), "episode_activations"))
    return found


def region_values(tokens: pd.DataFrame) -> pd.DataFrame:
    """Mean over the tokens of each trial in each of `CELLS`: trial_id, cluster, cell, value."""
    cells = {place: cell for cell, place in CELLS.items()}
    by = ["trial_id", "cluster", "group", "region"]
    means = tokens.dropna(subset="region").groupby(by, sort=False)["value"].mean().reset_index()
    places = zip(means["group"], means["region"], strict=True)
    means["cell"] = [cells.get(place) for place in places]
    return means[["trial_id", "cluster", "cell", "value"]]


def region_means(values: pd.DataFrame, settings: Statistics) -> pd.DataFrame:
    """Mean over trials of each of `CELLS`: cell, value, low, high, n, n_latents, status."""
    rows = []
    for cell in CELLS:
        mine = values[values["cell"].eq(cell)]
        value = mine["value"].mean() if len(mine) else np.nan
        ends, status = _interval(mine, settings)
        sizes = {"n": len(mine), "n_latents": mine["cluster"].nunique()}
        rows.append({"cell": cell, "value": value, **ends._asdict(), **sizes, "status": status})
    return pd.DataFrame(rows)


def contrast(values: pd.DataFrame, first: str, second: str, settings: Statistics) -> dict[str, Any]:
    """First cell minus second: paired if both lie in the same episodes, else independent groups.

    Steered latents are drawn (bootstrap) and swapped (permutation) whole. The effect is Cohen's d:
    mean over standard deviation of the differences if paired, else over the pooled one. Keys:
    first, second, paired, n_first, n_second, n_latents, mean_first, mean_second, difference, low,
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


def model_contrasts(traces: Traces, settings: Statistics) -> pd.DataFrame:
    """The confirmatory family of a model: columns kind, those of `contrast`, p_holm.

    Contrasts of a kind without latents, or without responses, are undefined, not absent.
    """
    rows = []
    for kind, pairs in CONTRASTS.items():
        values = region_values(traces.tokens(kind))
        rows += [{"kind": kind} | contrast(values, *pair, settings) for pair in pairs]
    table = pd.DataFrame(rows)
    return table.assign(p_holm=holm(table["p_value"]))


def latent_contrasts(traces: Traces, settings: Statistics) -> pd.DataFrame:
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
        paired: d of the differences (d_z), or with the pooled standard deviation.
        n_boot: Resamples.
        seed: Of these.
        level: Of the interval.
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


def aligned(tokens: pd.DataFrame, window: int, settings: Statistics) -> pd.DataFrame:
    """Mean by position from the start of the correction: group, position, value, low, high, n, ...

    Only responses that have a token at a position are averaged there, never padding; positions with
    fewer than `FEW` of them have the status `too_few` and no value. Controls have no correction and
    are aligned at the start of a sentence (column `anchor` of the table `episodes`).
    """
    starts = anchors(tokens)
    offsets = np.arange(-window, window + 1)
    parts = []
    for number, group in enumerate(GROUPS):
        mine = tokens[tokens["group"].eq(group) & tokens["trial_id"].isin(starts.index)]
        offset = mine["position"] - mine["trial_id"].map(starts).astype(int)
        near = mine.assign(offset=offset)[offset.abs() <= window]
        wide = near.pivot_table("value", ["trial_id", "cluster"], "offset").reindex(columns=offsets)
        factor = resample(
            wide.index.get_level_values("cluster"), settings.bootstrap, [settings.seed, number]
        )
        for position, column in zip(offsets, wide.to_numpy(float).T, strict=True):
            row = {"group": group, "position": position}
            parts.append(row | _position_mean(column, factor, settings.level))
    return pd.DataFrame(parts)


def anchors(tokens: pd.DataFrame) -> pd.Series:
    """Token at which each response is aligned, by trial: the one that holds its anchor."""
    after = tokens[tokens["end"] > tokens["anchor"]]
    return after.groupby("trial_id", sort=True)["position"].min()


def lead_times(tokens: pd.DataFrame, settings: Episodes) -> pd.DataFrame:
    """When the detectors rise in each response: one row a trial.

    A rise is the first token at which the trailing mean of the summed activation, over
    `settings.smooth` tokens, exceeds the level that a share `settings.false_alarms` of the baseline
    responses ever exceed. Columns: trial_id, group, cluster, level, rise (token), correction
    (token), lead (correction - rise, where that is positive), status (`before` the correction,
    `after` its start, `never`; `risen` for controls; `no_baseline`).
    """
    rows = []
    start = tokens[tokens["region"].eq("correction")].groupby("trial_id")["position"].min()
    for (group, trial, cluster), mine in tokens.groupby(["group", "trial_id", "cluster"]):
        ordered = mine.sort_values("position")
        mean = ordered["value"].rolling(settings.smooth).mean().to_numpy()
        where = {"trial_id": trial, "group": group, "cluster": cluster}
        rows.append(where | {"mean": mean, "position": ordered["position"].to_numpy()})
    peaks = [np.nanmax(r["mean"]) for r in rows if r["group"] == "baseline" and _any(r["mean"])]
    level = (
        float(np.quantile(peaks, 1 - settings.false_alarms, method="higher")) if peaks else np.nan
    )
    for row in rows:
        above = np.flatnonzero(row.pop("mean") > level)
        position = row.pop("position")
        rise = float(position[above[0]]) if len(above) else np.nan
        correction = float(start.get(row["trial_id"], np.nan))
        before = rise < correction
        row |= {"level": level, "rise": rise, "correction": correction}
        row |= {"lead": correction - rise if before else np.nan}
        row["status"] = _when(row["group"], rise, before, level)
    columns = ["trial_id", "group", "cluster", "level", "rise", "correction", "lead", "status"]
    return pd.DataFrame(rows, columns=columns)


def lead_summary(leads: pd.DataFrame, settings: Statistics) -> pd.DataFrame:
    """How early the detectors rise, and how often: quantity, unit, value, low, high, n, status."""
    sound = leads[leads["status"].ne("no_baseline")]
    episodes = sound[sound["group"].eq("episode")]
    risen = episodes[episodes["status"].eq("before")]
    shares = {"rise before the correction": episodes.assign(value=episodes["status"].eq("before"))}
    for group in ("unrestarted", "baseline"):
        mine = sound[sound["group"].eq(group)]
        shares[f"rise in {group} responses"] = mine.assign(value=mine["rise"].notna())
    rows = []
    for quantity, table in shares.items():
        table = table.assign(value=100.0 * table["value"])
        rows.append({"quantity": quantity, "unit": "percent"} | _mean(table, settings, 0, 100))
    lead = risen.assign(value=risen["lead"])
    rows.append({"quantity": "mean lead", "unit": "tokens"} | _mean(lead, settings))
    rows.append({"quantity": "median lead", "unit": "tokens"} | _median(lead, settings))
    early = risen.assign(value=risen["rise"])
    rows.append({"quantity": "mean token of the rise", "unit": "tokens"} | _mean(early, settings))
    return pd.DataFrame(rows)


def _any(values: np.ndarray) -> bool:
    return not np.isnan(values).all()


def _when(group: str, rise: float, before: bool, level: float) -> str:
    if np.isnan(level):
        return "no_baseline"
    if np.isnan(rise):
        return "never"
    if group != "episode":
        return "risen"
    return "before" if before else "after"


def _interval(
    table: pd.DataFrame, settings: Statistics, lowest: float = np.nan, highest: float = np.nan
) -> tuple[Interval, str]:
    """Clustered bootstrap interval of the mean of a column `value`."""
    if table["cluster"].nunique() < 2:
        return Interval(np.nan, np.nan), "too_few" if len(table) else "undefined"
    factor = resample(table["cluster"], settings.bootstrap, settings.seed)
    values = table["value"].to_numpy(float)
    found = resampled_mean(values, [factor], lowest, highest, settings.level)
    return found.interval, found.status


def _mean(
    table: pd.DataFrame, settings: Statistics, lowest: float = np.nan, highest: float = np.nan
) -> dict[str, Any]:
    ends, status = _interval(table, settings, lowest, highest)
    value = table["value"].mean() if len(table) else np.nan
    return {"value": value, **ends._asdict(), "n": len(table), "status": status}


def _median(table: pd.DataFrame, settings: Statistics) -> dict[str, Any]:
    """Median with the interval of the same clustered bootstrap as `_mean`."""
    _, status = _interval(table, settings)
    row = {"value": table["value"].median() if len(table) else np.nan}
    row |= {"low": np.nan, "high": np.nan, "n": len(table), "status": status}
    if status not in ("too_few", "undefined"):
        factor = resample(table["cluster"], settings.bootstrap, settings.seed)
        values, drawn = table["value"].to_numpy(float), factor.weights[:, factor.codes].astype(int)
        medians = np.array([np.median(np.repeat(values, times)) for times in drawn])
        row |= percentile_interval(medians, settings.level)._asdict()
    return row


def _position_mean(column: Values, factor: Factor, level: float) -> dict[str, Any]:
    n = int((~np.isnan(column)).sum())
    if n < FEW:
        return {"value": np.nan, "low": np.nan, "high": np.nan, "n": n, "status": "too_few"}
    ends, status = resampled_mean(column, [factor], level=level)
    return {"value": np.nanmean(column), **ends._asdict(), "n": n, "status": status}


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

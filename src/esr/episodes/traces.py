"""Activation of detectors and backtracking latents at every token of an episode, and their lead.

Activations of the latents of a kind are summed at each token. Backtracking latents are evaluated
only on episodes that were not used to choose them. Formulas: docs/method.md.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from esr.analysis.statistics import (
    Factor,
    Interval,
    percentile_interval,
    resample,
    resampled_mean,
)
from esr.arms.scores import select
from esr.config import EpisodesConfig, StatisticsConfig
from esr.episodes.extract import GROUPS
from esr.tables import read_tables

Values = Float[np.ndarray, " trials"]

FEW = 5
"""Fewest responses that are averaged at a position."""


@dataclass(frozen=True)
class Traces:
    """Encoded episodes and controls of a model (status `ok`), and their activations."""

    episodes: pd.DataFrame
    activations: pd.DataFrame
    _tokens: dict[str, pd.DataFrame] = field(default_factory=dict, repr=False, compare=False)

    def tokens(self, kind: str, latent: int | None = None) -> pd.DataFrame:
        """Summed activation of a kind of latents (or of one of them) at every token with text.

        Columns: trial_id, group, cluster (steered latent), anchor (character), position, start,
        end, region, value.
        """
        if latent is not None:
            return self._summed(kind, latent)
        if kind not in self._tokens:
            self._tokens[kind] = self._summed(kind)
        return self._tokens[kind].copy(deep=False)  # a change copies what it changes

    def _summed(self, kind: str, latent: int | None = None) -> pd.DataFrame:
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
        """Why a kind of latents has no values; empty if it has."""
        if not self.latents(kind) and len(self.episodes):
            return "no detectors" if kind == "detector" else "no backtracking latents"
        table = self.tokens(kind)
        return "" if table["group"].eq("episode").any() else "no self-corrections"

    def status(self, kind: str) -> dict[str, str]:
        """The note as a status, if a kind of latents is missing; empty otherwise."""
        missing = not self.latents(kind) and len(self.episodes)
        return {"status": self.note(kind).replace(" ", "_")} if missing else {}


def read_traces(
    models: Iterable[str], episodes: Iterable[str], activations: Iterable[str]
) -> dict[str, Traces]:
    """Traces of each model, from the files of its two tables.

    Args:
        models: Models, in the order of the result; one without rows has empty traces.
        episodes: Files of the table `episodes`.
        activations: Files of the table `episode_activations`.
    """
    ok = select(read_tables(episodes, "episodes"), status="ok")
    tokens = read_tables(activations, "episode_activations")
    return {model: Traces(select(ok, model=model), select(tokens, model=model)) for model in models}


def aligned(tokens: pd.DataFrame, window: int, settings: StatisticsConfig) -> pd.DataFrame:
    """Mean by position from the start of the correction: group, position, value, low, high, n, ...

    A position averages the responses that have a token there. Positions with fewer than `FEW`
    responses have the status `too_few` and no value. Controls have no correction; they are aligned
    at the start of a sentence (column `anchor` of the table `episodes`).
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
    """Token that holds each response's anchor, by trial."""
    after = tokens[tokens["end"] > tokens["anchor"]]
    return after.groupby("trial_id", sort=True)["position"].min()


def lead_times(tokens: pd.DataFrame, settings: EpisodesConfig) -> pd.DataFrame:
    """First rise of the detectors in each response: one row a trial.

    A rise is the first token at which the trailing mean of the summed activation, over
    `settings.smoothing_window` tokens, exceeds the level that only a share
    `settings.false_alarms` of the baseline responses ever exceed. Columns: trial_id, group,
    cluster, level, rise (token), correction (token), lead (correction - rise, where that is
    positive), status (`before` the correction, `after` its start, `never`; `risen` for controls;
    `no_baseline`).
    """
    rows = []
    start = tokens[tokens["region"].eq("correction")].groupby("trial_id")["position"].min()
    for (group, trial, cluster), mine in tokens.groupby(["group", "trial_id", "cluster"]):
        ordered = mine.sort_values("position")
        mean = ordered["value"].rolling(settings.smoothing_window).mean().to_numpy()
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


def lead_summary(leads: pd.DataFrame, settings: StatisticsConfig) -> pd.DataFrame:
    """Lead and frequency of rises: quantity, unit, value, low, high, n, status."""
    known = leads[leads["status"].ne("no_baseline")]
    episodes = known[known["group"].eq("episode")]
    risen = episodes[episodes["status"].eq("before")]
    shares = {"rise before the correction": episodes.assign(value=episodes["status"].eq("before"))}
    for group in ("unrestarted", "baseline"):
        mine = known[known["group"].eq(group)]
        shares[f"rise in {group} responses"] = mine.assign(value=mine["rise"].notna())
    rows = []
    for quantity, table in shares.items():
        table = table.assign(value=100.0 * table["value"])
        rows.append(
            {"quantity": quantity, "unit": "percent"} | trial_mean_row(table, settings, 0, 100)
        )
    lead = risen.assign(value=risen["lead"])
    rows.append({"quantity": "mean lead", "unit": "tokens"} | trial_mean_row(lead, settings))
    rows.append({"quantity": "median lead", "unit": "tokens"} | _median(lead, settings))
    early = risen.assign(value=risen["rise"])
    rows.append(
        {"quantity": "mean token of the rise", "unit": "tokens"} | trial_mean_row(early, settings)
    )
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


def _median(table: pd.DataFrame, settings: StatisticsConfig) -> dict[str, Any]:
    """Median with the interval of the same clustered bootstrap as `trial_mean_row`."""
    _, status = trial_interval(table, settings)
    row = {"value": table["value"].median() if len(table) else np.nan}
    row |= {"low": np.nan, "high": np.nan, "n": len(table), "status": status}
    if status not in ("too_few", "undefined"):
        factor = resample(table["cluster"], settings.bootstrap, settings.seed)
        values = table["value"].to_numpy(float)
        drawn = factor.weights[:, factor.codes].astype(int)
        medians = np.array([np.median(np.repeat(values, times)) for times in drawn])
        row |= percentile_interval(medians, settings.level)._asdict()
    return row


def _position_mean(column: Values, factor: Factor, level: float) -> dict[str, Any]:
    n = int((~np.isnan(column)).sum())
    if n < FEW:
        return {"value": np.nan, "low": np.nan, "high": np.nan, "n": n, "status": "too_few"}
    ends, status = resampled_mean(column, [factor], level=level)
    return {"value": np.nanmean(column), **ends._asdict(), "n": n, "status": status}


def trial_interval(
    table: pd.DataFrame, settings: StatisticsConfig, lowest: float = np.nan, highest: float = np.nan
) -> tuple[Interval, str]:
    """Clustered bootstrap interval of the mean of a column `value`."""
    if table["cluster"].nunique() < 2:
        return Interval(np.nan, np.nan), "too_few" if len(table) else "undefined"
    factor = resample(table["cluster"], settings.bootstrap, settings.seed)
    values = table["value"].to_numpy(float)
    found = resampled_mean(values, [factor], lowest, highest, settings.level)
    return found.interval, found.status


def trial_mean_row(
    table: pd.DataFrame, settings: StatisticsConfig, lowest: float = np.nan, highest: float = np.nan
) -> dict[str, Any]:
    """Mean of a column `value` with its clustered interval: value, low, high, n, status."""
    ends, status = trial_interval(table, settings, lowest, highest)
    value = table["value"].mean() if len(table) else np.nan
    return {"value": value, **ends._asdict(), "n": len(table), "status": status}

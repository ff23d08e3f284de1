"""From the scores of all arms to tables."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from esr.analysis.comparisons import compare
from esr.analysis.measures import exclusions, summarise
from esr.analysis.statistics import holm
from esr.config import Config, StatisticsConfig
from esr.errors import EsrError
from esr.tables import read_table

CELL = ["model", "arm"]
METHOD = "cluster_bootstrap"
CONFIRMATORY = ["multi_attempt_rate", "msi"]
"""Measures whose tests are corrected together (Holm) over a model's replayed arms."""


def read_arms(paths: Iterable[str], cells: Iterable[Sequence[str]]) -> pd.DataFrame:
    """Stack scores files of several arms, with columns `model` and `arm` in front."""
    parts = [
        read_table(Path(path), "scores").assign(model=model, arm=arm)
        for path, (model, arm) in zip(paths, cells, strict=True)
    ]
    return pd.concat(parts, ignore_index=True)


def summary_table(scores: pd.DataFrame, settings: StatisticsConfig) -> pd.DataFrame:
    """Every measure of every model and arm: one row a measure, clustered by latent.

    Arms over prompts have no latent; their intervals are clustered by prompt (column `cluster`).
    """
    parts = []
    for (model, arm), cell in scores.groupby(CELL, sort=False):
        cluster = "prompt_id" if cell["latent"].isna().all() else "latent"
        table = summarise(
            cell,
            cluster=cluster,
            crossed=None,
            n_boot=settings.bootstrap,
            seed=settings.seed,
            level=settings.level,
        )
        table = table[table["method"].eq(METHOD)].drop(columns="method")
        parts.append(table.assign(model=model, arm=arm, cluster=cluster))
    table = pd.concat(parts, ignore_index=True)
    return table[CELL + [name for name in table.columns if name not in CELL]]


def comparison_table(
    scores: pd.DataFrame, replays: Mapping[str, str], settings: StatisticsConfig
) -> pd.DataFrame:
    """Every replayed arm against the arm that it replays, paired trial by trial.

    `p_holm` corrects the confirmatory measures over a model's arms; it is missing elsewhere.
    """
    parts = []
    for model, of_model in scores.groupby("model", sort=False):
        arms = dict(iter(of_model.groupby("arm", sort=False)))
        for arm, baseline in replays.items():
            if arm not in arms:
                continue
            table = compare(
                arms[baseline],
                arms[arm],
                n_boot=settings.bootstrap,
                seed=settings.seed,
                level=settings.level,
            )
            parts.append(table.assign(model=model, arm=arm, against=baseline))
    if not parts:
        raise EsrError("no arm replays another one: nothing to compare")
    table = pd.concat(parts, ignore_index=True)
    family = table["measure"].isin(CONFIRMATORY)
    for _, rows in table[family].groupby("model"):
        table.loc[rows.index, "p_holm"] = holm(rows["p_value"].to_numpy(float))
    first = [*CELL, "against"]
    return table[first + [name for name in table.columns if name not in first]]


def exclusion_table(scores: pd.DataFrame) -> pd.DataFrame:
    """Trials by status for every model and arm; counts in = counts out, asserted."""
    return exclusions(scores, by=CELL)


def replays_of(config: Config) -> dict[str, str]:
    """Arms that replay another one, and which."""
    return {name: arm.replay for name, arm in config.arms.items() if arm.replay is not None}


def with_interval(row: Mapping[str, Any], value: str = "estimate") -> str:
    """`24.5 [19.1, 30.0]`, or `n/a`."""
    if pd.isna(row[value]):
        return "n/a"
    if pd.isna(row["low"]):
        return f"{row[value]:.1f}"
    return f"{row[value]:.1f} [{row['low']:.1f}, {row['high']:.1f}]"


def write_tables(csv: Path, tex: Path, table: pd.DataFrame, shown: pd.DataFrame) -> None:
    """Write a table as CSV, in full, and as LaTeX, as shown in print."""
    table.to_csv(csv, index=False, float_format="%.6g")
    columns = "l" * len(shown.columns)
    escaped = shown.map(_escape).rename(columns=_escape)
    tex.write_text(escaped.to_latex(index=False, column_format=columns))


def _escape(value: Any) -> str:
    return re.sub(r"([%_&#$])", r"\\\1", str(value))

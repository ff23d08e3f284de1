"""Tables from the scores of all arms: measures, comparisons, exclusions."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from esr.analysis.comparisons import compare
from esr.analysis.measures import MEASURES, clusters_of, exclusions, summarise
from esr.arms.scores import NO_TRIALS, shared_reason
from esr.config import Config, StatisticsConfig

CELL = ["model", "arm"]
Cell = tuple[str, str]
"""A model and an arm."""
CHANCE = "other seeds (A/A)"
"""Check of differences that chance alone makes."""
RESPONSE = "generated tokens alone steered"
"""Check of how much the measures change if the prompt is not steered."""
COMPARED = [*CELL, "against", "measure", "unit", "baseline", "treatment", "difference", "low"]
COMPARED += ["high", "level", "relative_change", "relative_low", "relative_high", "method"]
COMPARED += ["p_value", "p_method", "status", "n_clusters", "n_pairs", "n_dropped", "n_baseline"]
COMPARED += ["n_treatment"]
"""Columns of `comparison_table`."""


def summary_table(
    scores: pd.DataFrame,
    settings: StatisticsConfig,
    measures: Sequence[str] = tuple(MEASURES),
    empty: Sequence[Cell] = (),
) -> pd.DataFrame:
    """Every measure of every model and arm: one row a measure; `empty` cells have `no_trials`.

    Column `clusters`: the random factors of its interval, `latent x prompt`, or `prompt` for an arm
    over prompts, which has no latents.
    """
    parts = []
    cells = [*scores.groupby(CELL, sort=False), *((key, scores.iloc[:0]) for key in empty)]
    for (model, arm), cell in cells:
        factors = " x ".join(name.removesuffix("_id") for name in clusters_of(cell))
        table = summarise(cell, measures, level=settings.level)
        table = _explained(table, shared_reason(cell))
        parts.append(table.assign(model=model, arm=arm, clusters=factors))
    table = pd.concat(parts, ignore_index=True)
    return table[CELL + [name for name in table.columns if name not in CELL]]


def comparison_table(
    scores: pd.DataFrame,
    replays: Mapping[str, str],
    settings: StatisticsConfig,
    measures: Sequence[str] = tuple(MEASURES),
    reseeded: Collection[str] = (),
    empty: Sequence[Cell] = (),
) -> pd.DataFrame:
    """Every replaying arm against the arm that it replays, paired trial by trial.

    Args:
        scores: Scores of all models and arms.
        replays: Replayed arm by replaying arm (`replays_of`).
        settings: Of the intervals.
        measures: Names in `MEASURES`.
        reseeded: Replaying arms with other seeds (`reseeded_of`), whose trials are paired by latent
            and prompt.
        empty: Models and arms without trials (`empty_cells`).

    Returns:
        Columns of `compare`, with model, arm and against (the replayed arm); status `no_trials`
        where either arm is empty. A model that lacks either arm has no row; without any pair of
        arms the table is empty.
    """
    parts = []
    models = dict(iter(scores.groupby("model", sort=False)))
    for model in dict.fromkeys([*models, *(model for model, _ in empty)]):
        arms = dict(iter(models.get(model, scores.iloc[:0]).groupby("arm", sort=False)))
        arms |= {arm: scores.iloc[:0] for name, arm in empty if name == model}
        for arm, baseline in replays.items():
            if arm not in arms or baseline not in arms:
                continue
            first, second = arms[baseline], arms[arm]
            if arm in reseeded:
                first, second = by_repetition(first), by_repetition(second)
            table = compare(
                first,
                second,
                measures,
                seed=settings.seed,
                level=settings.level,
            )
            reason = shared_reason(arms[arm]) or shared_reason(arms[baseline])
            table = _explained(table, reason)
            parts.append(table.assign(model=model, arm=arm, against=baseline))
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COMPARED)
    return table[COMPARED + [name for name in table.columns if name not in COMPARED]]


def _explained(table: pd.DataFrame, reason: str | None) -> pd.DataFrame:
    """Rows without a value, with the reason why no trial was scored as their status."""
    if reason is None:
        return table
    return table.assign(status=table["status"].mask(table["status"].eq("undefined"), reason))


def exclusion_table(scores: pd.DataFrame, empty: Sequence[Cell] = ()) -> pd.DataFrame:
    """Trials by status for every model and arm; counts in = counts out, asserted.

    Each of the `empty` cells has a row `no_trials`, so that it is listed.
    """
    rows = [
        dict(zip(CELL, cell, strict=True)) | {"status": status, "n": 0, "percent": 0.0}
        for cell in empty
        for status in ("ok", NO_TRIALS, "total")
    ]
    parts = [exclusions(scores, by=CELL)] if len(scores) else []
    parts += [pd.DataFrame(rows)] if rows else []
    return pd.concat(parts, ignore_index=True)


def empty_cells(scores: pd.DataFrame, arms: Mapping[str, Sequence[str]]) -> list[Cell]:
    """Models and arms of a study of which no trial was planned, such as no text to continue.

    Args:
        scores: Scores of all models and arms.
        arms: Arms that each model runs (`arms_by_model`).
    """
    found = set(scores[CELL].drop_duplicates().itertuples(index=False, name=None))
    cells = [(model, arm) for model, names in arms.items() for arm in names]
    return [cell for cell in cells if cell not in found]


def arms_by_model(config: Config) -> dict[str, list[str]]:
    """Arms that each model of a study runs."""
    return {model: config.arms_of(model) for model in config.models}


def replays_of(config: Config) -> dict[str, str]:
    """Replayed arm of every arm that replays one."""
    return {name: arm.replay for name, arm in config.arms.items() if arm.replay is not None}


def reseeded_of(config: Config) -> list[str]:
    """Arms that replay another one with other seeds."""
    return [name for name, arm in config.arms.items() if arm.seeds == "other"]


def chance_table(scores: pd.DataFrame, config: Config, measures: Sequence[str]) -> pd.DataFrame:
    """Differences of A/A arms from the arms that they replay, as rows of the table of robustness.

    Nothing but sampling seeds has changed, so that all differences are chance.
    """
    again = reseeded_of(config)
    return _changes(scores, config, measures, again, CHANCE, again)


def prompt_table(scores: pd.DataFrame, config: Config, measures: Sequence[str]) -> pd.DataFrame:
    """What changes if the generated tokens alone are steered, as rows of the table of robustness.

    Of arms that replay `steered` with the window `{start: 0}` and no other change
    (`Config.response_arms`), at the same boosts.
    """
    return _changes(scores, config, measures, config.response_arms, RESPONSE, ())


def _changes(
    scores: pd.DataFrame,
    config: Config,
    measures: Sequence[str],
    arms: Collection[str],
    check: str,
    reseeded: Collection[str],
) -> pd.DataFrame:
    """Differences of replays from the arms that they replay, as rows of a check."""
    replays = {arm: other for arm, other in replays_of(config).items() if arm in arms}
    table = comparison_table(scores, replays, config.statistics, measures, reseeded)
    units = [MEASURES[name].difference_unit for name in table["measure"]]
    table = table.assign(check=check, unit=units)
    named = {"measure": "quantity", "difference": "estimate", "n_pairs": "n"}
    columns = ["model", "check", "quantity", "unit", "estimate", "low", "high", "method", "n"]
    return table.rename(columns=named)[[*columns, "status"]]


def by_repetition(scores: pd.DataFrame) -> pd.DataFrame:
    """Scores of an arm with the number of a trial, among those of its latent and prompt, as seed.

    Arms with different seeds have the same numbers, so that their trials can be paired.
    """
    ordered = scores.sort_values("seed", kind="stable")
    number = ordered.groupby(["latent", "prompt_id"], dropna=False).cumcount()
    return scores.assign(seed=number.reindex(scores.index))


def with_interval(row: Mapping[str, Any], value: str = "estimate") -> str:
    """`24.5 [19.1, 30.0]`, or `n/a`."""
    if pd.isna(row[value]):
        return "n/a"
    if pd.isna(row["low"]):
        return f"{row[value]:.1f}"
    return f"{row[value]:.1f} [{row['low']:.1f}, {row['high']:.1f}]"


def write_tables(csv: Path, tex: Path, table: pd.DataFrame, shown: pd.DataFrame) -> None:
    """Write a table in full as CSV, and its printed form as LaTeX."""
    table.to_csv(csv, index=False, float_format="%.6g")
    columns = "l" * len(shown.columns)
    tex.write_text(
        shown.map(str).to_latex(index=False, escape=True, column_format=columns), encoding="utf-8"
    )

"""Effects of ablations: arms beside the arm that they replay, as tables and as drawings.

Rows are those of `esr.figures.tables`, with `kind` (`arm`, or `difference` of two) and `arm`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec

from esr.analysis.comparisons import compare_sets
from esr.analysis.measures import MEASURES
from esr.arms.scores import select
from esr.config import StatisticsConfig
from esr.figures import style
from esr.figures import tables as figures

SHOWN = ["first_score", "multi_attempt_rate", "esr_rate", "msi"]
"""Measures of the figures on ablation."""
STEERED, DETECTORS, RANDOM = "steered", "ablate-otd", "ablate-random"
LABELS = {STEERED: "steered", DETECTORS: "detectors ablated", RANDOM: "random sets ablated"}
COLOURS = {STEERED: style.STEERED, DETECTORS: style.RED, RANDOM: style.ORANGE}
CONTRASTS = {
    f"{DETECTORS} - {STEERED}": ("detectors - steered", style.RED, "o"),
    f"{RANDOM} - {STEERED}": ("random - steered", style.ORANGE, "s"),
    f"{RANDOM} - {DETECTORS}": ("random - detectors", style.GREY, "D"),
}
"""Label, colour and marker of the differences."""
PER_ROW = 3
"""Panels of single models beside each other."""


def compare_detectors(
    scores: pd.DataFrame, n_detectors: int, settings: StatisticsConfig
) -> pd.DataFrame:
    """The steered arm, the arm without detectors, and their paired difference, of one model.

    Args:
        scores: Scores of all arms of the model.
        n_detectors: Number of its detectors; 0 means that nothing was ablated.
        settings: Of the intervals.
    """
    steered, ablated = (select(scores, arm=arm) for arm in (STEERED, DETECTORS))
    if steered.empty or ablated.empty or not n_detectors:
        difference = figures.missing(SHOWN, _missing_status(n_detectors))
    else:
        difference = figures.differences(steered, ablated, SHOWN, settings)
    rows = [
        arm_rows(steered, settings, 1).assign(arm=STEERED),
        arm_rows(ablated, settings, n_detectors).assign(arm=DETECTORS),
        difference.assign(kind="difference", arm=f"{DETECTORS} - {STEERED}"),
    ]
    return pd.concat(rows, ignore_index=True)


def compare_random_sets(
    scores: pd.DataFrame, n_detectors: int, settings: StatisticsConfig
) -> pd.DataFrame:
    """Random sets of one model: each set (`ablate-random-0`), their mean, and differences.

    The intervals of mean and differences cover other latents and other sets (`compare_sets`).
    """
    names = [arm for arm in scores["arm"].unique() if arm.startswith(f"{RANDOM}-")]
    sets = [select(scores, arm=arm) for arm in names]
    rows = [
        arm_rows(table, settings, n_detectors).assign(arm=arm)
        for arm, table in zip(names, sets, strict=True)
    ]
    for other in (STEERED, DETECTORS):
        against = select(scores, arm=other)
        if against.empty or not sets or not n_detectors:
            status = _missing_status(n_detectors)
            mean, difference = (figures.missing(SHOWN, status) for _ in range(2))
        else:
            mean, difference = _mean_of_sets(against, sets, settings)
        if other == STEERED:
            rows.append(mean.assign(kind="arm", arm=RANDOM))
        rows.append(difference.assign(kind="difference", arm=f"{RANDOM} - {other}"))
    return pd.concat(rows, ignore_index=True)


def arm_rows(scores: pd.DataFrame, settings: StatisticsConfig, n_detectors: int) -> pd.DataFrame:
    """The measures of one arm, or rows with the reason as their status."""
    if scores.empty or not n_detectors:
        return figures.missing(SHOWN, _missing_status(n_detectors)).assign(kind="arm")
    return figures.estimates(scores, SHOWN, settings).assign(kind="arm")


def _missing_status(n_detectors: int) -> str:
    return "not_run" if n_detectors else "no_detectors"


def _mean_of_sets(
    against: pd.DataFrame, sets: Sequence[pd.DataFrame], settings: StatisticsConfig
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Mean of random sets, and its difference from an arm; n counts the trials of all sets."""
    table = compare_sets(against, sets, SHOWN, level=settings.level, test=False)
    table = table.rename(columns={"n_pairs": "n", "n_dropped": "dropped"})
    shared = ["measure", "n", "dropped", "between", "n_sets", "status"]
    mean = table[[*shared, "treatment", "treatment_low", "treatment_high"]].set_axis(
        [*shared, "value", "low", "high"], axis=1
    )
    names = ["baseline", "treatment", "difference", "low", "high"]
    difference = table[[*shared, *names]].rename(columns={"difference": "value"})
    return mean, difference


def model_panels(
    figure: Figure, row: SubplotSpec, count: int, columns: int | None = None
) -> list[Axes]:
    """Panels of single models, at most three in a row."""
    grid = row.subgridspec(count_rows(count), columns or min(count, PER_ROW))
    return [figure.add_subplot(grid[i // PER_ROW, i % PER_ROW]) for i in range(count)]


def count_rows(count: int) -> int:
    """Number of rows for the panels of `count` models."""
    return -(-count // PER_ROW)


def draw_measures(
    figure: Figure,
    rows: tuple[SubplotSpec, SubplotSpec],
    table: pd.DataFrame,
    arms: Sequence[str],
    contrasts: Sequence[str],
) -> None:
    """Draw bars of arms and, beneath them, their paired differences; one column a measure.

    Args:
        figure: To draw in.
        rows: Places of the bars and of the differences.
        table: Rows of `compare_detectors` and `compare_random_sets`, with columns model and label.
        arms: Arms to draw, in order.
        contrasts: Differences to draw, in order.
    """
    models = list(dict.fromkeys(table["model"]))
    upper, lower = (row.subgridspec(1, len(SHOWN)) for row in rows)
    handles: list[Any] = []
    for column, name in enumerate(SHOWN):
        measure = MEASURES[name]
        of_measure = table[table["measure"].eq(name)]
        above, beneath = (figure.add_subplot(row[column]) for row in (upper, lower))
        _draw_bars(above, of_measure, models, arms)
        _draw_differences(beneath, of_measure, models, contrasts)
        above.set(title=measure.label, xlabel=measure.unit_label)
        beneath.set_xlabel(f"difference ({measure.difference_unit})")
        for axes, kind, unit in ((above, "arm", "trials"), (beneath, "difference", "pairs")):
            labels = [] if column else [_label(table, model, kind, unit) for model in models]
            axes.set_yticks(range(len(models)), labels, fontsize=8)
            axes.tick_params(axis="y", left=column == 0)
        if name == "msi":
            above.axvline(0, color=style.INK, lw=0.8)
        else:
            above.set_xlim(0, max(5, above.get_xlim()[1]))
        handles = [*above.containers, *beneath.containers]
    named = [each for each in handles if not str(each.get_label()).startswith("_")]
    figure.legend(handles=named, loc="outside upper center", ncols=min(len(named), 3))


def _label(table: pd.DataFrame, model: str, kind: str, unit: str) -> str:
    """Label of a model, with the trials of its first arm or the pairs of its first difference."""
    row = table[table["model"].eq(model) & table["kind"].eq(kind)].iloc[0]
    return f"{row['label']}\n{row['n']:.0f} {unit}"


def _draw_bars(axes: Axes, table: pd.DataFrame, models: Sequence[str], arms: Sequence[str]) -> None:
    """Bars of every model, arms side by side; single sets as circles on the bar of their mean."""
    height = 0.8 / len(arms)
    for arm, offset in zip(arms, style.dodge(len(arms), 0.8), strict=True):
        rows = table[table["kind"].eq("arm") & table["arm"].eq(arm)].set_index("model").loc[models]
        ends = rows["value"], rows["low"], rows["high"]
        style.bars(axes, *ends, COLOURS[arm], offset=offset, height=0.9 * height)
        axes.barh([0], [0], color=COLOURS[arm], label=LABELS[arm])  # for the legend
        singles = table[table["arm"].str.startswith(f"{arm}-") & table["kind"].eq("arm")]
        places = [models.index(model) + offset for model in singles["model"]]
        looks: dict[str, Any] = {"color": "none", "edgecolors": style.INK, "s": 14, "zorder": 4}
        axes.scatter(singles["value"], places, **looks)
    axes.set_ylim(len(models) - 0.45, -0.55)


def _draw_differences(
    axes: Axes, table: pd.DataFrame, models: Sequence[str], contrasts: Sequence[str]
) -> None:
    """Differences of every model as points, one contrast below the other."""
    axes.axvline(0, color=style.INK, lw=0.8)
    for arm, offset in zip(contrasts, style.dodge(len(contrasts), 0.8), strict=True):
        name, colour, marker = CONTRASTS[arm]
        of_arm = table["kind"].eq("difference") & table["arm"].eq(arm)
        rows = table[of_arm].set_index("model").loc[models]
        places = np.arange(len(models)) + offset
        ends = rows["value"], rows["low"], rows["high"]
        style.points(axes, places, *ends, colour, horizontal=True, marker=marker, label=name)
        for place in places[rows["value"].isna()]:
            axes.text(0, place, " n/a", va="center", color=style.GREY)
    axes.set_ylim(len(models) - 0.45, -0.55)
    axes.margins(x=0.15)
    axes.grid(axis="x")

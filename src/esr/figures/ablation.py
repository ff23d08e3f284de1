"""What ablations change: tables of arms beside the arm they replay, and how they are drawn.

Rows are those of `esr.figures.tables`, with `kind` (`arm`, or `difference` of two) and `arm`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec

from esr.analysis.comparisons import compare_sets
from esr.analysis.measures import MEASURES
from esr.config import StatisticsConfig
from esr.figures import style
from esr.figures import tables as figures

PANELS = ["first_score", "multi_attempt_rate", "esr_rate", "msi"]
STEERED, DETECTORS, RANDOM = "steered", "ablate-otd", "ablate-random"
LABELS = {STEERED: "steered", DETECTORS: "detectors ablated", RANDOM: "random sets ablated"}
COLOURS = {STEERED: style.STEERED, DETECTORS: style.RED, RANDOM: style.ORANGE}
VERSUS = {
    f"{DETECTORS} - {STEERED}": ("detectors - steered", style.RED, "o"),
    f"{RANDOM} - {STEERED}": ("random - steered", style.ORANGE, "s"),
    f"{RANDOM} - {DETECTORS}": ("random - detectors", style.GREY, "D"),
}
PER_ROW = 3
"""Panels of single models beside each other."""


def detector_arms(
    scores: Mapping[str, figures.Scores], model: str, found: int, settings: StatisticsConfig
) -> pd.DataFrame:
    """The steered arm, that without detectors, and their paired difference, of one model.

    Args:
        scores: By arm and model.
        model: Which one.
        found: Number of its detectors; if there are none, nothing was ablated, and rows say so.
        settings: Of the intervals.
    """
    arms = {arm: scores.get(arm, {}).get(model) for arm in (STEERED, DETECTORS)}
    rows = [
        arm_rows(table, arm, settings, found if arm == DETECTORS else 1)
        for arm, table in arms.items()
    ]
    baseline, treatment = arms.values()
    name = f"{DETECTORS} - {STEERED}"
    if baseline is None or treatment is None or not found:
        difference = figures.missing(PANELS, _why(found))
    else:
        difference = figures.differences(baseline, treatment, PANELS, settings)
    return pd.concat([*rows, difference.assign(kind="difference", arm=name)], ignore_index=True)


def random_arms(
    scores: Mapping[str, figures.Scores], model: str, found: int, settings: StatisticsConfig
) -> pd.DataFrame:
    """Random sets of one model: each on its own (`ablate-random-0`), their mean, differences.

    The intervals of mean and differences cover other latents and other sets (`compare_sets`).
    """
    sets = {
        arm: of_arm[model]
        for arm, of_arm in scores.items()
        if arm.startswith(f"{RANDOM}-") and model in of_arm
    }
    rows = [arm_rows(table, arm, settings, found) for arm, table in sets.items()]
    for other in (STEERED, DETECTORS):
        against = scores.get(other, {}).get(model)
        if against is None or not sets or not found:
            why = _why(found)
            mean, difference = figures.missing(PANELS, why), figures.missing(PANELS, why)
        else:
            mean, difference = _of_sets(against, list(sets.values()), settings)
        if other == STEERED:
            rows.append(mean.assign(kind="arm", arm=RANDOM))
        rows.append(difference.assign(kind="difference", arm=f"{RANDOM} - {other}"))
    return pd.concat(rows, ignore_index=True)


def arm_rows(
    scores: pd.DataFrame | None, arm: str, settings: StatisticsConfig, found: int
) -> pd.DataFrame:
    """The measures of one arm, or rows that say why there are none."""
    if scores is None or scores.empty or not found:
        table = figures.missing(PANELS, _why(found))
    else:
        table = figures.estimates(scores, PANELS, settings)
    return table.assign(kind="arm", arm=arm)


def _why(found: int) -> str:
    return "not_run" if found else "no_detectors"


def _of_sets(
    against: pd.DataFrame, sets: Sequence[pd.DataFrame], settings: StatisticsConfig
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Mean of random sets, and its difference from an arm; n counts the trials of all sets."""
    table = compare_sets(
        against,
        sets,
        PANELS,
        n_boot=settings.bootstrap,
        seed=settings.seed,
        level=settings.level,
    ).rename(columns={"measure": "panel", "n_pairs": "n", "n_dropped": "dropped"})
    shared = ["panel", "n", "dropped", "between", "n_sets", "status"]
    mean = table[[*shared, "treatment", "treatment_low", "treatment_high"]].set_axis(
        [*shared, "value", "low", "high"], axis=1
    )
    names = ["baseline", "treatment", "difference", "low", "high"]
    difference = table[[*shared, *names]].rename(columns={"difference": "value"})
    return mean, difference


def model_panels(
    figure: Figure, row: SubplotSpec, count: int, columns: int | None = None
) -> list[Axes]:
    """Panels of single models, three in a row (or as many as there are)."""
    grid = row.subgridspec(rows_of_panels(count), columns or min(count, PER_ROW))
    return [figure.add_subplot(grid[i // PER_ROW, i % PER_ROW]) for i in range(count)]


def rows_of_panels(count: int) -> int:
    """Rows that the panels of so many models take."""
    return -(-count // PER_ROW)


def draw_measures(
    figure: Figure,
    rows: tuple[SubplotSpec, SubplotSpec],
    table: pd.DataFrame,
    arms: Sequence[str],
    versus: Sequence[str],
) -> None:
    """Draw bars of arms and, beneath them, their paired differences; one column a measure.

    Args:
        figure: To draw in.
        rows: Where bars and where differences go.
        table: Rows of `detector_arms` and `random_arms`, with columns model and label.
        arms: Arms to draw, in order.
        versus: Differences to draw, in order.
    """
    models = list(dict.fromkeys(table["model"]))
    upper, lower = (row.subgridspec(1, len(PANELS)) for row in rows)
    handles: list[Any] = []
    for column, panel in enumerate(PANELS):
        of_panel = table[table["panel"].eq(panel)]
        above, beneath = (figure.add_subplot(row[column]) for row in (upper, lower))
        _draw_bars(above, of_panel, models, arms)
        _draw_differences(beneath, of_panel, models, versus)
        above.set(title=figures.TITLES[panel], xlabel=figures.UNITS[panel])
        unit = "% points" if MEASURES[panel].is_rate else "points"
        beneath.set_xlabel(f"difference ({unit})")
        for axes, kind, unit in ((above, "arm", "trials"), (beneath, "difference", "pairs")):
            names = [_label(table, model, kind, unit) for model in models]
            axes.set_yticks(range(len(models)), [] if column else names, fontsize=8)
            axes.tick_params(axis="y", left=column == 0)
        if panel == "msi":
            above.axvline(0, color=style.INK, lw=0.8)
        else:
            above.set_xlim(0, max(5, above.get_xlim()[1]))
        handles = [*above.containers, *beneath.containers]
    named = [each for each in handles if not str(each.get_label()).startswith("_")]
    figure.legend(handles=named, loc="outside upper center", ncols=min(len(named), 3))


def _label(table: pd.DataFrame, model: str, kind: str, unit: str) -> str:
    """Name of a model, and of how many trials or pairs its first arm or difference is."""
    row = table[table["model"].eq(model) & table["kind"].eq(kind)].iloc[0]
    return f"{row['label']}\n{row['n']:.0f} {unit}"


def _draw_bars(axes: Axes, table: pd.DataFrame, models: Sequence[str], arms: Sequence[str]) -> None:
    """Bars of every model, arms side by side; single sets as circles on the bar of their mean."""
    height = 0.8 / len(arms)
    table = style.drop_degenerate_intervals(table)
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
    axes: Axes, table: pd.DataFrame, models: Sequence[str], versus: Sequence[str]
) -> None:
    """Differences of every model as points, contrasts one below the other."""
    axes.axvline(0, color=style.INK, lw=0.8)
    table = style.drop_degenerate_intervals(table)
    for arm, offset in zip(versus, style.dodge(len(versus), 0.8), strict=True):
        name, colour, marker = VERSUS[arm]
        of_arm = table["kind"].eq("difference") & table["arm"].eq(arm)
        rows = table[of_arm].set_index("model").loc[models]
        places = np.arange(len(models)) + offset
        ends = rows["value"], rows["low"], rows["high"]
        style.points(axes, places, *ends, colour, lying=True, marker=marker, label=name)
        for place in places[rows["value"].isna()]:
            axes.text(0, place, " n/a", va="center", color=style.GREY)
    axes.set_ylim(len(models) - 0.45, -0.55)
    axes.margins(x=0.15)
    axes.grid(axis="x")

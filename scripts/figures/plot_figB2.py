"""Make figures/figB2.{pdf,png,csv}: arms that steer or ablate in another way.

CSV, one row a mark: model, label, kind (`arm`, or `difference`: an arm minus the one that it
replays, paired), arm, against, measure, value (percent or points), low, high, method of the
interval, n (trials of the denominator, or pairs), status. The figure shows the arms; the
differences are in the CSV.
"""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from esr.analysis.engines import read_scores_to_pair
from esr.analysis.measures import MEASURES
from esr.analysis.summaries import replays_of
from esr.arms.scores import select
from esr.config import StatisticsConfig
from esr.figures import style
from esr.figures import tables as figures
from esr.job import config_of, start

SHOWN = ["first_score", "multi_attempt_rate", "success_rate", "esr_rate"]
STEERED = "steered"
NOTE: dict[str, Any] = {"fontsize": 7, "color": style.GREY, "ha": "center", "va": "center"}
COLUMNS = ["model", "label", "kind", "arm", "against", "measure", "value", "low", "high", "method"]
COLUMNS += ["n", "status"]


def arm_rows(scores: pd.DataFrame, settings: StatisticsConfig) -> pd.DataFrame:
    """Measures of an arm; `not_run` if the model does not have it."""
    if scores.empty:
        return figures.missing(SHOWN, "not_run").assign(kind="arm")
    return figures.estimates(scores, SHOWN, settings).assign(kind="arm")


def figure_table(
    scores: pd.DataFrame,
    models: Mapping[str, Mapping[str, Any]],
    replays: Mapping[str, str | None],
    settings: StatisticsConfig,
) -> pd.DataFrame:
    """Everything that is plotted, models from large to small.

    Args:
        scores: Scores of `steered` and of the controls, of all models.
        models: Label and size by model.
        replays: The controls in the order in which they are shown, with the arm of `scores` that
            each replays, if it replays one.
        settings: Of the intervals.
    """
    rows = []
    for model in figures.large_to_small(models):
        facts = {"model": model, "label": models[model]["label"]}
        mine = {arm: select(scores, model=model, arm=arm) for arm in (STEERED, *replays)}
        for arm, table in mine.items():
            rows.append(arm_rows(table, settings).assign(arm=arm, **facts))
            base = replays.get(arm)
            if base in mine and not table.empty and not mine[base].empty:
                change = figures.differences(mine[base], table, SHOWN, settings)
                rows.append(change.assign(kind="difference", arm=arm, against=base, **facts))
    return pd.concat(rows, ignore_index=True).reindex(columns=COLUMNS)


def draw_measure(axes: Axes, table: pd.DataFrame, name: str) -> None:
    """Draw one measure of one model: a point an arm, and a line at the steered arm."""
    rows = style.drop_degenerate_intervals(table[table["measure"].eq(name)])
    places = np.arange(len(rows))
    is_steered = rows["arm"].eq(STEERED).to_numpy()
    for chosen, colour in ((is_steered, style.STEERED), (~is_steered, style.ORANGE)):
        value, low, high = rows.loc[chosen, ["value", "low", "high"]].to_numpy(float).T
        style.points(axes, places[chosen], value, low, high, colour, horizontal=True)
    steered = rows.loc[is_steered, "value"].astype(float)
    if steered.notna().any():
        axes.axvline(steered.iloc[0], color=style.STEERED, lw=0.8, ls=":")
    for place, row in enumerate(rows.itertuples()):
        if pd.isna(row.value):
            note = str(row.status).replace("_", " ")
            axes.text(0.5, place, note, transform=axes.get_yaxis_transform(), **NOTE)
    axes.set(title=MEASURES[name].label, ylim=(len(rows) - 0.5, -0.5))
    axes.xaxis.set_major_locator(MaxNLocator(4))


def draw(table: pd.DataFrame, title: str, level: float) -> Figure:
    """Draw the figure: a row of panels a model, a column a measure, an arm a line."""
    arms = table[table["kind"].eq("arm")]
    models = list(dict.fromkeys(arms["model"]))
    names = list(dict.fromkeys(arms["arm"]))
    height = 0.9 + len(models) * (0.8 + 0.24 * len(names))
    size = (style.WIDTH, height)
    looks: dict[str, Any] = {"sharex": "col", "sharey": True, "squeeze": False}
    figure, grid = plt.subplots(len(models), len(SHOWN), figsize=size, **looks)
    for line, model in zip(grid, models, strict=True):
        mine = arms[arms["model"].eq(model)]
        for axes, name in zip(line, SHOWN, strict=True):
            draw_measure(axes, mine, name)
        line[0].set_yticks(range(len(names)), names)
        line[0].set_ylabel(mine["label"].iloc[0])
    for axes, name in zip(grid[-1], SHOWN, strict=True):
        axes.set_xlabel(MEASURES[name].unit_label)
    note = f"{title}. {style.interval_note(level)}. {style.NO_VARIATION_NOTE}"
    if len(names) == 1:
        note += " No arm steers or ablates in another way."
    style.footnote(figure, note)
    return figure


def main(job: Any) -> None:
    """Write the figure and its data."""
    config = config_of(job)
    scores = read_scores_to_pair(job.input.scores, replays_of(config))
    replays = {arm: config.arms[arm].replay for arm in job.params.controls}
    table = figure_table(scores, dict(job.params.models), replays, config.statistics)
    figures.write_figure(job, table, draw)


if __name__ == "__main__":
    main(start(snakemake))

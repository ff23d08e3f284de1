"""Make figures/figB3.{pdf,png,csv}: what follows a prefix that was cut from another arm's text.

CSV, one row a mark: model, label (of the model), arm, where (what the prefix is), steered (whether
the continuation is), cut (characters of the prefix; missing: all cuts together), measure
(`multi_attempt_rate`: percent that restart; `first_score`: points of the attempt that the prefix is
in; both also by a prefix's cut), value, low, high, method of the interval, n (trials), status.
"""

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from esr.analysis.measures import MEASURES
from esr.arms.scores import select
from esr.config import StatisticsConfig
from esr.figures import style
from esr.figures import tables as figures
from esr.job import config_of, start
from esr.tables import read_tables

SHOWN = {"multi_attempt_rate": "Restarts", "first_score": "Score of the continued attempt"}
COLUMNS = ["model", "label", "arm", "where", "steered", "cut", "measure", "value", "low", "high"]
COLUMNS += ["method", "n", "status"]
STEERED = {True: style.STEERED, False: style.UNSTEERED}
ROW = 0.32
"""Height of an arm (inches)."""


def arm_rows(scores: pd.DataFrame, settings: StatisticsConfig) -> pd.DataFrame:
    """Both measures of an arm over all its prefixes, and at each cut if there are several."""
    where = scores["prefix_where"].iloc[0]
    table = figures.estimates(scores, list(SHOWN), settings).assign(where=where)
    cuts = scores["prefix_cut"].dropna().unique()
    if len(cuts) < 2:
        return table
    each = figures.estimates(scores, list(SHOWN), settings, by=["prefix_cut"])
    each = each.rename(columns={"prefix_cut": "cut"}).assign(where=where)
    return pd.concat([table, each], ignore_index=True)


def figure_table(
    scores: pd.DataFrame,
    arms: dict[str, dict[str, Any]],
    models: dict[str, dict[str, Any]],
    settings: StatisticsConfig,
) -> pd.DataFrame:
    """Everything that is plotted, models from large to small; `not_run` without any prefix."""
    parts = []
    for name in figures.large_to_small(models):
        facts = {"model": name, "label": models[name]["label"]}
        found = [
            arm_rows(trials, settings).assign(arm=arm, **arms[arm], **facts)
            for arm in arms
            if len(trials := select(scores, model=name, arm=arm))
        ]
        parts += found or [figures.missing(list(SHOWN), "not_run").assign(**facts)]
    return pd.concat(parts, ignore_index=True).reindex(columns=COLUMNS)


def draw_measure(axes: Axes, table: pd.DataFrame, name: str) -> None:
    """Draw one measure of a model: an arm a line, a small mark each cut."""
    measure = MEASURES[name]
    axes.set(title=SHOWN[name], xlabel=measure.unit_label, xlim=(-2, 102))
    rows = style.drop_degenerate_intervals(table[table["measure"].eq(name)])
    arms = list(rows["arm"].unique())
    for steered, colour in STEERED.items():
        mine = rows[rows["steered"].eq(steered)]
        for whole, looks in ((True, {"ms": 5.5}), (False, {"ms": 2.5, "lw": 0.6, "alpha": 0.6})):
            part = mine[mine["cut"].isna().eq(whole)]
            shift = 0.0 if whole else 0.22
            places = [arms.index(arm) + shift for arm in part["arm"]]
            values = (part["value"], part["low"], part["high"])
            style.points(axes, places, *values, colour, horizontal=True, **looks)
    axes.set_yticks(range(len(arms)), arms)
    axes.set_ylim(len(arms) - 0.4, -0.6)
    axes.grid(axis="x")
    if measure.is_rate:
        axes.set_xlim(-0.5, max(10, 1.15 * float(rows[["value", "high"]].max(axis=None))))


def draw(table: pd.DataFrame, title: str, level: float) -> Figure:
    """Draw the figure: a row of two panels a model."""
    models = list(dict.fromkeys(table["model"]))
    sizes = [max(table.loc[table["model"].eq(name), "arm"].nunique(), 2) for name in models]
    figure, grid = plt.subplots(
        len(models),
        len(SHOWN),
        figsize=(style.WIDTH, ROW * sum(sizes) + 1.0 * len(models) + 0.6),
        squeeze=False,
        sharey="row",
        gridspec_kw={"height_ratios": sizes},
    )
    for row, model in zip(grid, models, strict=True):
        mine = table[table["model"].eq(model)]
        row[0].set_ylabel(mine["label"].iloc[0])
        if mine["arm"].isna().all():
            for axes in row:
                style.empty_panel(axes, "not run:\nno arm continues texts")
            continue
        for axes, name in zip(row, SHOWN, strict=True):
            draw_measure(axes, mine, name)
    for steered, colour in STEERED.items():
        label = "steered" if steered else "not steered"
        grid[0][0].plot([], [], marker="o", ls="none", color=colour, label=label)
    style.legend_above(figure, grid[0][0])
    note = "Small marks: prefixes of one length"
    style.footnote(figure, f"{title}. {style.interval_note(level)}. {note}.")
    return figure


def main(job: Any) -> None:
    """Write the figure and its data."""
    config = config_of(job)
    scores = read_tables(job.input.scores, "scores")
    table = figure_table(scores, dict(job.params.arms), dict(job.params.models), config.statistics)
    figures.write_figure(job, table, draw)


if __name__ == "__main__":
    main(start(snakemake))

"""Make figures/figA8.{pdf,png,csv}: scores of first attempts with and without steering.

CSV, one row a histogram bin (measure `histogram`: value in percent of the arm's scored trials), a
mean (measure `first_score`, kind `arm`) or a paired difference (kind `difference`, steered minus
unsteered; points): model, label, kind, arm, measure, left, right (bin, points), value, low, high,
method of the interval, n (trials, or pairs), events (multi-attempt trials), status.
"""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from esr.arms.scores import select
from esr.config import StatisticsConfig
from esr.figures import style
from esr.figures import tables as figures
from esr.job import config_of, start
from esr.tables import read_tables

BINS = np.linspace(0, 100, 21)


def histogram(scores: pd.DataFrame) -> pd.DataFrame:
    """Distribution of the first attempts' scores, in percent of the scored trials."""
    scored = scores[scores["status"].eq("ok")]
    table = pd.DataFrame({"left": BINS[:-1], "right": BINS[1:], "measure": "histogram"})
    table = table.assign(kind="arm", value=np.nan, n=len(scored))
    if scored.empty:
        return table.assign(status="not_run" if scores.empty else "undefined")
    counts, _ = np.histogram(scored["first_score"].astype(float), BINS)
    return table.assign(value=100 * counts / len(scored), status="ok")


def figure_table(
    scores: pd.DataFrame, models: dict[str, dict[str, Any]], settings: StatisticsConfig
) -> pd.DataFrame:
    """Everything that is plotted, models from large to small."""
    means = figures.no_steering(scores, models, ["first_score"], settings)
    bins = [
        histogram(select(scores, model=model, arm=arm)).assign(
            model=model, label=models[model]["label"], arm=arm
        )
        for model in figures.large_to_small(models)
        for arm in style.ARM_BARS
    ]
    table = pd.concat([means, *bins], ignore_index=True)
    columns = list(means.columns)
    place = columns.index("value")
    return table[[*columns[:place], "left", "right", *columns[place:]]]


def draw_histogram(axes: Axes, table: pd.DataFrame) -> None:
    """Draw one model's first attempts, one arm over the other."""
    notes = []
    for arm, (colour, _) in reversed(style.ARM_BARS.items()):
        rows = table[table["measure"].eq("histogram") & table["arm"].eq(arm)]
        n = rows["n"].iloc[0]
        notes.append(f"{n} {arm}" if n else f"{arm}: n/a")
        if n:
            edges = [*rows["left"], rows["right"].iloc[-1]]
            axes.stairs(rows["value"], edges, fill=arm == "unsteered", color=colour, lw=1.4)
    axes.set(xlim=(0, 100), ylabel="% of trials")
    axes.set_title(f"{table['label'].iloc[0]}: {', '.join(reversed(notes))}", fontsize=8)


def draw(table: pd.DataFrame, title: str, level: float) -> Figure:
    """Draw the figure: a histogram a model, and the means beside them."""
    models = list(table["model"].unique())
    figure = plt.figure(figsize=(style.WIDTH, 1.3 + 1.15 * len(models)))
    grid = figure.add_gridspec(len(models), 2, width_ratios=[1.2, 1])
    for row, model in enumerate(models):
        axes = figure.add_subplot(grid[row, 0])
        draw_histogram(axes, table[table["model"].eq(model)])
        axes.tick_params(labelbottom=row == len(models) - 1)
    axes.set_xlabel("score of the first attempt (points)")
    means = figure.add_subplot(grid[:, 1])
    style.arm_bars(means, table[table["measure"].eq("first_score")])
    means.set(title="First attempt", xlabel="mean score (points)", xlim=(0, 125))
    means.set_xticks(range(0, 101, 25))
    for arm, (colour, _) in style.ARM_BARS.items():
        means.bar(0, 0, color=colour, label=arm)
    style.legend_above(figure, means)
    style.footnote(figure, f"{title}. {style.interval_note(level)}.")
    return figure


def main(job: Any) -> None:
    """Write the figure and its data."""
    config = config_of(job)
    scores = read_tables(job.input.scores, "scores")
    table = figure_table(scores, dict(job.params.models), config.statistics)
    figures.write_figure(job, table, draw)


if __name__ == "__main__":
    main(start(snakemake))

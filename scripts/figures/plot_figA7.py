"""Make figures/figA7.{pdf,png,csv}: attempts and improvement with and without steering.

CSV, one row a bar (kind `arm`) or a paired difference written under the bars (kind `difference`,
steered minus unsteered): model, label, kind, arm, measure, value (percent or points), low, high,
method of the interval, n (trials, or pairs), events (multi-attempt trials), status.
"""

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from esr.analysis.measures import MEASURES
from esr.config import StatisticsConfig
from esr.figures import style
from esr.figures import tables as figures
from esr.job import config_of, start
from esr.tables import read_tables

SHOWN = ["multi_attempt_rate", "esr_rate", "msi"]


def figure_table(
    scores: pd.DataFrame, models: dict[str, dict[str, Any]], settings: StatisticsConfig
) -> pd.DataFrame:
    """Everything that is plotted, models from large to small."""
    return figures.no_steering(scores, models, SHOWN, settings)


def text_of(row: Any) -> str:
    """Text at the end of a bar: its value, or 0 with its upper bound."""
    if row.status != "no_variation" or row.value != 0 or row.measure == "msi":
        return style.number(row.value)
    return f"{row.value:.0f} of {row.n} (below {row.high:.2g} %)"


def draw_measure(axes: Axes, table: pd.DataFrame, name: str) -> None:
    """Draw one measure: two bars a model, and their difference under them."""
    style.arm_bars(axes, table[table["measure"].eq(name)], text_of)
    axes.axvline(0, color=style.INK, lw=0.8)
    measure = MEASURES[name]
    axes.set(title=measure.label, xlabel=measure.unit_label)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    if measure.is_rate:
        axes.set_xlim(0, max(10, 1.1 * axes.get_xlim()[1]))


def draw(table: pd.DataFrame, title: str, level: float) -> Figure:
    """Draw the figure: a column a measure, two bars a model."""
    height = 1.4 + 0.75 * table["model"].nunique()
    figure, grid = plt.subplots(1, len(SHOWN), figsize=(style.WIDTH, height), sharey=True)
    for axes, name in zip(grid, SHOWN, strict=True):
        draw_measure(axes, table, name)
    for arm, (colour, _) in style.ARM_BARS.items():
        grid[0].bar(0, 0, color=colour, label=arm)
    style.legend_above(figure, grid[0])
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

"""Make figures/figA7.{pdf,png,csv}: nothing corrects itself without steering.

CSV, one row a bar (kind `arm`) or a paired difference written under the bars (kind `difference`,
steered minus unsteered): model, label, kind, arm, panel, value (percent or points), low, high,
method of the interval, n (trials, or pairs), events (multi-attempt trials), status.
"""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from esr.analysis.measures import MEASURES
from esr.analysis.statistics import rule_of_three
from esr.config import StatisticsConfig
from esr.figures import style
from esr.figures import tables as figures
from esr.job import config_of, start

PANELS = ["multi_attempt_rate", "esr_rate", "msi"]


def bound_no_restarts(table: pd.DataFrame, level: float) -> pd.DataFrame:
    """Give unsteered arms without any second attempt the bound of the rule of three.

    At most that share of trials has one, and each of these changes by at most 100 points, either
    way. Trials count as independent, as in the paper.
    """
    table = table.copy()
    none = table["arm"].eq("unsteered") & table["events"].eq(0) & table["n"].gt(0)
    bound = 100 * table.loc[none, "n"].map(lambda n: rule_of_three(n, level))
    rate = table.loc[none, "panel"].map(lambda panel: MEASURES[panel].is_rate).astype(bool)
    table.loc[none, "high"] = bound
    table.loc[none, "low"] = np.where(rate, 0.0, -bound)
    table.loc[none, "method"] = "rule_of_three"
    return table


def figure_table(
    scores: dict[str, figures.Scores], models: dict[str, dict[str, Any]], settings: StatisticsConfig
) -> pd.DataFrame:
    """Everything that is plotted, models from large to small."""
    table = figures.no_steering(scores, models, PANELS, settings)
    return bound_no_restarts(table, settings.level)


def text_of(row: Any) -> str:
    """What is written at the end of a bar: its value, or 0 and how much it might be."""
    if row.method != "rule_of_three" or row.panel == "msi":
        return style.number(row.value)
    return f"{row.value:.0f} of {row.n} (below {row.high:.2g} %)"


def draw_panel(axes: Axes, table: pd.DataFrame, panel: str) -> None:
    """Draw one measure: two bars a model, and their difference under them."""
    style.arm_bars(axes, table[table["panel"].eq(panel)], text_of)
    axes.axvline(0, color=style.INK, lw=0.8)
    axes.set(title=figures.TITLES[panel], xlabel=figures.UNITS[panel])
    axes.xaxis.set_major_locator(MaxNLocator(4))
    if MEASURES[panel].is_rate:
        axes.set_xlim(0, max(10, 1.1 * axes.get_xlim()[1]))


def draw(table: pd.DataFrame, title: str, level: float) -> Figure:
    """Draw the figure: a column a measure, two bars a model."""
    height = 1.4 + 0.75 * table["model"].nunique()
    figure, grid = plt.subplots(1, len(PANELS), figsize=(style.WIDTH, height), sharey=True)
    for axes, panel in zip(grid, PANELS, strict=True):
        draw_panel(axes, table, panel)
    for arm, (colour, _) in style.ARM_BARS.items():
        grid[0].bar(0, 0, color=colour, label=arm)
    style.legend_above(figure, grid[0])
    interval = f"{100 * level:.0f} % intervals: bootstrap"
    style.footnote(
        figure, f"{title}. {interval}; unsteered without any event: rule of three. {style.ALIKE}"
    )
    return figure


def main(job: Any) -> None:
    """Write the figure and its data."""
    config = config_of(job)
    scores = figures.read_scores(job.input.scores)
    table = figure_table(scores, dict(job.params.models), config.statistics)
    figures.write_figure(job, table, draw)


if __name__ == "__main__":
    main(start(snakemake))

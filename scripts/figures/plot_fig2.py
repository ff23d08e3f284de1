"""Make figures/fig2.{pdf,png,csv}: score change, multi-attempt rate, ESR rate and MSI by model.

CSV, one row a bar: model, label, measure, left and right (points; bins of `score_change`), value
(percent of multi-attempt trials in a bin; else percent or points), low, high (interval), n
(trials), status; null (value if last attempts were redrawn), excess over it, excess_low and
excess_high.
"""

from textwrap import fill
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from esr.analysis.measures import MEASURES
from esr.analysis.recovery import SHOWN, recovery, with_excess
from esr.arms.scores import select
from esr.config import StatisticsConfig
from esr.figures import style
from esr.figures.tables import estimates, large_to_small, write_figure
from esr.job import config_of, start
from esr.tables import read_tables

RATES = ["multi_attempt_rate", "esr_rate", "msi"]
COLOURS = dict(zip(RATES, (style.BLUE, style.GREEN, style.ORANGE), strict=True))
BINS = (np.arange(32) - 15.5) * 20 / 3
"""Bins of 6.67 points, one of them centred on 0 (paper, Figure 2)."""
MARGIN = 1.1
"""Height of titles, ticks and footnote (inches)."""
LETTER = 0.075
"""Width of a letter of a model's label (inches)."""
REDRAW = "Diamonds: with last attempts redrawn."


def histogram(scores: pd.DataFrame) -> pd.DataFrame:
    """Distribution of score changes among multi-attempt trials, in percent of them."""
    multi = scores[scores["multi_attempt"].fillna(False).astype(bool)]
    counts, _ = np.histogram(multi["score_change"].astype(float), BINS)
    value = 100 * counts / len(multi) if len(multi) else np.full(len(counts), np.nan)
    columns = {"measure": "score_change", "left": BINS[:-1], "right": BINS[1:], "value": value}
    return pd.DataFrame(columns).assign(n=len(multi), status="ok" if len(multi) else "undefined")


def figure_table(
    scores: pd.DataFrame, models: dict[str, dict[str, Any]], settings: StatisticsConfig
) -> pd.DataFrame:
    """Everything that is plotted, models from large to small."""
    parts = []
    for name in large_to_small(models):
        mine = select(scores, model=name)
        values = estimates(mine, ["success_rate", *RATES], settings)
        redrawn = recovery(mine, level=settings.level, seed=settings.seed)
        rows = [histogram(mine), with_excess(values, redrawn, ["measure"])]
        parts.append(pd.concat(rows).assign(model=name, label=models[name]["label"]))
    columns = ["model", "label", "measure", "left", "right", "value", "low", "high", "n", "status"]
    columns += SHOWN
    return pd.concat(parts, ignore_index=True)[columns]


def draw_histogram(axes: Axes, table: pd.DataFrame, height: float) -> None:
    """Draw one model's score changes in a row of so many inches, with its label beside it."""
    bins = table[table["measure"].eq("score_change")]
    n = int(bins["n"].iloc[0])
    trials = table["n"].max()
    if n:
        widths = bins["right"] - bins["left"]
        axes.bar(bins["left"], bins["value"], widths, align="edge", color=style.SKY)
        success = table[table["measure"].eq("success_rate")].iloc[0]
        note = f"{success['value']:.0f} % improved\n"
        if pd.notna(success["low"]):
            note += f"[{success['low']:.0f}, {success['high']:.0f}] %\n"
        if pd.notna(success["null"]):
            note += f"redraw: {success['null']:.0f} %\n"
        note += f"{n} of {trials} trials"
    else:
        note = f"none of {trials} trials"
    axes.axvline(0, color=style.RED, lw=1)
    axes.text(0.02, 0.95, note, transform=axes.transAxes, va="top", fontsize=7.5)
    axes.set(xlim=(BINS[0], BINS[-1]), yticks=[])
    label = fill(table["label"].iloc[0], int(height / LETTER), max_lines=3, placeholder=" …")
    axes.set_ylabel(label, fontsize=8)
    axes.spines["left"].set_visible(False)


def bar_text(bar: Any) -> str:
    """Text at the end of a bar: the value, or the upper bound of a rate with no event."""
    no_event = bar.status == "no_variation" and bar.value == 0 and bar.measure != "msi"
    return f"≤ {style.number(bar.high)}" if no_event else style.number(bar.value)


def draw(table: pd.DataFrame, title: str, level: float) -> Figure:
    """Draw the figure: a row of histograms beside bars, a column a measure."""
    models = list(dict.fromkeys(table["model"]))
    height = max(2.6, 0.95 * len(models) + MARGIN)
    figure = plt.figure(figsize=(style.WIDTH, height))
    grid = figure.add_gridspec(len(models), 4, width_ratios=[1.35, 1, 1, 1])
    for row, model in enumerate(models):
        axes = figure.add_subplot(grid[row, 0])
        draw_histogram(axes, table[table["model"].eq(model)], (height - MARGIN) / len(models))
        if row == 0:
            axes.set_title("Multi-attempt trials")
        if row < len(models) - 1:
            axes.set_xticklabels([])
        else:
            axes.set_xlabel("last - first score (points)")
    for column, measure in enumerate(RATES, start=1):
        axes = figure.add_subplot(grid[:, column])
        bars = table[table["measure"].eq(measure)].set_index("model").loc[models]
        texts = [bar_text(bar) for bar in bars.itertuples()]
        ends = (bars["value"], bars["low"], bars["high"])
        style.bars(axes, *ends, COLOURS[measure], texts=texts)
        redrawn = bars["null"].mask(bars["null"].eq(0) & bars["value"].eq(0))
        style.null_marks(axes, np.arange(len(models)), redrawn, horizontal=True)
        axes.set(title=MEASURES[measure].label, xlabel=MEASURES[measure].unit_label, yticks=[])
        axes.xaxis.set_major_locator(MaxNLocator(3, min_n_ticks=2))
        axes.tick_params(axis="x", labelsize=8)
        axes.set_ylim(len(models) - 0.5, -0.5)
        if measure == "msi":
            axes.axvline(0, color=style.INK, lw=0.8)
        else:
            axes.set_xlim(0, max(10, axes.get_xlim()[1]))
    style.footnote(figure, f"{title}. {style.interval_note(level)}. {REDRAW}")
    return figure


def main(job: Any) -> None:
    """Write the figure and its data."""
    config = config_of(job)
    scores = read_tables(job.input.scores, "scores")
    table = figure_table(scores, dict(job.params.models), config.statistics)
    write_figure(job, table, draw)


if __name__ == "__main__":
    main(start(snakemake))

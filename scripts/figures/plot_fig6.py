"""Make figures/fig6.{pdf,png,csv}: effects of fine-tuning on self-corrections, by their share.

CSV, one row a value: model (that was fine-tuned), label, kind, arm, measure, statistic, share
(percent of self-corrections; 0 is the model itself), training (from 1; 0 is the model itself),
value (in the unit of the measure), low, high, method (of the interval), p_value, n, status. Kinds:
`point` (a measure of one model), `difference` (paired, share minus base), `trend` (statistics of
`esr.analysis.shares.share_trends`), `peak` (share of the highest value). Points of steered trials
have null (value if last attempts were redrawn), excess over it, excess_low, excess_high.
"""

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from esr.analysis.measures import MEASURES
from esr.analysis.shares import ONE_TRAINING
from esr.figures import style
from esr.figures import tables as figures
from esr.figures.finetuning import SHOWN, figure_table
from esr.job import config_of, start
from esr.tables import read_tables


def draw_measure(axes: Axes, table: pd.DataFrame, name: str) -> None:
    """Draw one measure over the share: steered in colour, unsteered in grey, base dashed."""
    models = list(table["model"].dropna().unique())
    looks = style.model_looks(models)
    measure = MEASURES[name]
    axes.set(title=measure.label, ylabel=measure.unit_label)
    if not models:
        style.empty_panel(axes, "not run")
        return
    points = table[table["measure"].eq(name) & table["kind"].eq("point")]
    for model in models:
        mine = points[points["model"].eq(model)]
        colour, marker = looks[model]
        for arm, hue in (("unsteered", style.GREY), ("steered", colour)):
            rows = mine[mine["arm"].eq(arm) & mine["share"].gt(0)]
            base = mine[mine["arm"].eq(arm) & mine["share"].eq(0)]
            if rows.empty:
                continue
            line: dict[str, Any] = {
                "linestyle": "-",
                "marker": marker,
                "label": f"{mine['label'].iloc[0]}, {arm}",
            }
            if rows["training"].max() > 1:  # several models at a share: no line joins them
                line["linestyle"] = "none"
            style.points(axes, rows["share"], rows["value"], rows["low"], rows["high"], hue, **line)
            if arm == "steered":
                style.null_marks(axes, rows["share"], rows["null"])
            for row in base.itertuples():
                axes.axhline(row.value, color=hue, ls="--", lw=1)
                if arm == "steered":
                    axes.axhspan(row.low, row.high, color=hue, alpha=0.12, lw=0)
    axes.text(0.02, 0.98, trend_text(table, name), transform=axes.transAxes, va="top", fontsize=7)
    axes.set_xlim(0, 100)
    axes.grid(axis="y")
    if measure.is_rate:
        axes.set_ylim(0, max(10.0, 1.25 * axes.get_ylim()[1]))
        axes.set_yticks([tick for tick in axes.get_yticks() if tick <= 100])
    else:
        low, high = axes.get_ylim()
        axes.set_ylim(low, high + 0.2 * (high - low))


def trend_text(table: pd.DataFrame, measure: str) -> str:
    """Rank correlation with the share, and slope over the upper half of shares, of every base."""
    lines = []
    rows = table[table["kind"].eq("trend") & table["measure"].eq(measure)].set_index("statistic")
    for label, mine in rows.groupby("label", sort=False):
        rank = mine.loc["rank_correlation"]
        upper = mine.loc["slope_upper"]
        first = style.with_interval(rank["value"], rank["low"], rank["high"], digits=2)
        second = style.with_interval(upper["value"], upper["low"], upper["high"], digits=2)
        prefix = f"{label}: " if len(rows["label"].unique()) > 1 else ""
        lines.append(f"{prefix}rank correlation {first}\nupper half, per 10 points: {second}")
        if rank["status"] == ONE_TRAINING:
            lines.append("one training a share: no test")
    return "\n".join(lines)


def draw(table: pd.DataFrame, title: str, level: float) -> Figure:
    """Draw the figure: four measures over the share of self-corrections."""
    figure, grid = plt.subplots(2, 2, figsize=(style.WIDTH, 5.6), sharex=True)
    for axes, name in zip(grid.flat, SHOWN, strict=True):
        draw_measure(axes, table, name)
    for axes in grid[1]:
        axes.set_xlabel("self-corrections in the training data (%)")
    if table["null"].notna().any():
        grid[0, 0].plot([], [], label="redrawn last attempt", **style.NULL)
    style.legend_above(figure, grid[0, 0])
    note = f"{style.interval_note(level)}; of trends: bootstrap over latents"
    style.footnote(figure, f"{title}. {note}; dashed: not fine-tuned; hollow: too few.")
    return figure


def main(job: Any) -> None:
    """Write the figure and its data."""
    config = config_of(job)
    scores = read_tables(job.input.scores, "scores")
    labels = {name: model.label for name, model in config.models.items()}
    table = figure_table(scores, config.finetuned, labels, config.statistics)
    figures.write_figure(job, table, draw)


if __name__ == "__main__":
    main(start(snakemake))

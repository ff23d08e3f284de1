"""Make figures/fig6_losses.{pdf,png,csv}: losses of training the adapters.

CSV, one row a point: model, label, share (percent of self-corrections), step, epoch, measure
(`loss` of a step, `eval_loss` on the held-out rows), value (nats per trained token).
"""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from esr.config import Config
from esr.figures import style
from esr.figures import tables as figures
from esr.job import config_of, start

LOSSES = {"loss": "Training loss", "eval_loss": "Validation loss"}
COLUMNS = ["model", "label", "share", "step", "epoch", "measure", "value"]


def read_curves(config: Config, paths: list[str]) -> pd.DataFrame:
    """Losses of all fine-tuned models, one row a point."""
    parts = []
    for (name, made), path in zip(config.finetuned.items(), paths, strict=True):
        table = pd.read_csv(Path(path)).melt(
            ["step", "epoch"], list(LOSSES), var_name="measure", value_name="value"
        )
        facts = {"model": name, "label": config.models[name].label, "share": made.share}
        parts.append(table.dropna(subset="value").assign(**facts))
    empty = pd.DataFrame(columns=COLUMNS)
    return pd.concat(parts, ignore_index=True)[COLUMNS] if parts else empty


def draw_loss(axes: Axes, table: pd.DataFrame, name: str) -> None:
    """Draw the losses of every model; darker is a larger share."""
    axes.set(title=LOSSES[name], xlabel="epoch", ylabel="nats per trained token")
    if table.empty:
        style.empty_panel(axes, "not run")
        return
    colours = plt.get_cmap("viridis_r")
    for label, rows in table[table["measure"].eq(name)].groupby("label", sort=False):
        colour = colours(0.1 + 0.9 * rows["share"].iloc[0] / 100)
        marker = "o" if name == "eval_loss" else ""
        axes.plot(rows["epoch"], rows["value"], color=colour, marker=marker, ms=4, label=label)
    axes.grid(axis="y")


def draw(table: pd.DataFrame, title: str, level: float) -> Figure:
    """Draw the figure: training loss by step, and validation loss."""
    del level  # nothing here has an interval
    figure, grid = plt.subplots(1, 2, figsize=(style.WIDTH, 3.4), sharey=True)
    for axes, name in zip(grid, LOSSES, strict=True):
        draw_loss(axes, table, name)
    style.legend_above(figure, grid[0])
    style.footnote(
        figure, f"{title}. The loss counts corrections, answers and ends of turns alone."
    )
    return figure


def main(job: Any) -> None:
    """Write the figure and its data."""
    figures.write_figure(job, read_curves(config_of(job), list(job.input.curves)), draw)


if __name__ == "__main__":
    main(start(snakemake))

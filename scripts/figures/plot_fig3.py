"""Make figures/fig3.{pdf,png,csv}: how ESR depends on the boost, and where it peaks.

CSV, one row a mark: model, label, kind (`point`, or `peak` of a curve), measure, sweep_level (sd of
the model's thresholds from their mean), boost (decoder units), value (percent or points; of a peak,
its level in sd), low, high (interval), n (trials; of a peak, over all levels), latents, status.
"""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
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

SHOWN = ["multi_attempt_rate", "success_rate", "msi", "esr_rate"]
PEAKS = ["multi_attempt_rate", "msi", "esr_rate"]
"""Curves whose maximum is located; success rates rest on too few trials where restarts are rare."""
NO_PEAK = {
    "tied": "tied",
    "flat": "no steeper than by chance",
    "no_variation": "flat: no maximum",
}
LEVEL_LABEL = "boost (sd of thresholds from their mean)"
COLUMNS = ["model", "label", "kind", "measure", "sweep_level", "boost", "value", "low", "high"]
COLUMNS += ["n", "latents", "status"]


def sweep_table(scores: pd.DataFrame, settings: StatisticsConfig) -> pd.DataFrame:
    """Curves and peaks of one model; without trials, one row a measure with status `not_run`."""
    if scores.empty:
        return figures.missing(SHOWN, "not_run").assign(kind="point", latents=0)
    curves = figures.estimates(scores, SHOWN, settings, by=["sweep_level", "boost"])
    curves = curves.sort_values("sweep_level", kind="stable").assign(kind="point")
    both = pd.concat([curves, figures.peaks(scores, PEAKS, settings).assign(kind="peak")])
    return both.assign(latents=scores["latent"].nunique())


def figure_table(
    scores: pd.DataFrame, models: dict[str, dict[str, Any]], settings: StatisticsConfig
) -> pd.DataFrame:
    """Everything that is plotted, models from large to small."""
    parts = [
        sweep_table(select(scores, model=name), settings).assign(
            model=name, label=models[name]["label"]
        )
        for name in figures.large_to_small(models)
    ]
    return pd.concat(parts, ignore_index=True).reindex(columns=COLUMNS)


def legend_label(table: pd.DataFrame) -> str:
    """Label of a model, with its latents and its trials a level."""
    label = table["label"].iloc[0]
    latents = table["latents"].iloc[0]
    if not latents:
        return f"{label}: not run"
    points = table[table["kind"].eq("point")]
    n = points.loc[points["measure"].eq("multi_attempt_rate"), "n"]
    trials = f"{n.min()}" if n.min() == n.max() else f"{n.min()} to {n.max()}"
    restarted = points.loc[points["measure"].eq("success_rate"), "value"].notna().any()
    note = "" if restarted else "\n(no multi-attempt trial)"
    return f"{label}: {latents} latents,\n{trials} trials a level{note}"


def draw_curves(axes: Axes, table: pd.DataFrame, name: str) -> None:
    """Draw the curves of one measure, models side by side."""
    models = list(dict.fromkeys(table["model"]))
    looks = style.model_looks(models)
    offsets = style.dodge(len(models), 0.06 * len(models))
    axes.axvline(0, color=style.GREY, lw=0.8, ls=":")
    for model, offset in zip(models, offsets, strict=True):
        mine = table[table["model"].eq(model)]
        rows = mine[mine["measure"].eq(name) & mine["kind"].eq("point")]
        style.points(
            axes,
            rows["sweep_level"] + offset,
            *(rows["value"], rows["low"], rows["high"]),
            looks[model][0],
            marker=looks[model][1],
            linestyle="-",
            label=legend_label(mine),
        )
    measure = MEASURES[name]
    axes.set(title=measure.label, ylabel=measure.unit_label)
    axes.grid(axis="y")
    if measure.is_rate:
        top = 105 if name == "success_rate" else max(5, axes.get_ylim()[1])
        axes.set_ylim(-0.04 * top, top)
    else:
        axes.axhline(0, color=style.INK, lw=0.8)


def draw_peaks(axes: Axes, table: pd.DataFrame) -> None:
    """Draw the level at which each curve is highest."""
    models = list(dict.fromkeys(table["model"]))
    looks = style.model_looks(models)
    offsets = style.dodge(len(models), 0.7)
    axes.axvline(0, color=style.GREY, lw=0.8, ls=":")
    for model, offset in zip(models, offsets, strict=True):
        rows = table[table["model"].eq(model) & table["kind"].eq("peak")].set_index("measure")
        rows = rows.reindex(PEAKS)
        places = np.arange(len(PEAKS)) + offset
        colour, marker = looks[model]
        ends = (rows["value"], rows["low"], rows["high"])
        style.points(axes, places, *ends, colour, horizontal=True, marker=marker)
        for place, row in zip(places, rows.itertuples(), strict=True):
            text = NO_PEAK.get(str(row.status), "")
            if row.status == "tied" and not np.isnan(row.low):
                text += f" ({row.low:.1f} to {row.high:.1f})"
            note: dict[str, Any] = {"ha": "right", "va": "center", "color": colour, "fontsize": 7.5}
            axes.text(1, place, text, transform=axes.get_yaxis_transform(), **note)
    axes.set_yticks(range(len(PEAKS)), [MEASURES[name].label for name in PEAKS])
    axes.set(title="Level of the maximum", ylim=(len(PEAKS) - 0.5, -0.5))


def draw(table: pd.DataFrame, title: str, level: float) -> Figure:
    """Draw the figure: four curves over the levels, their maxima, and the legend."""
    strip = max(1.5, 0.12 * len(PEAKS) * table["model"].nunique())
    figure, grid = plt.subplots(
        3, 2, figsize=(style.WIDTH, 4.8 + strip), sharex=True, height_ratios=[1.75, 1.75, strip]
    )
    for axes, name in zip(grid[:2].flat, SHOWN, strict=True):
        draw_curves(axes, table, name)
    draw_peaks(grid[2, 0], table)
    grid[2, 1].axis("off")
    grid[2, 1].legend(*grid[0, 0].get_legend_handles_labels(), loc="center", fontsize=8)
    for axes in (grid[1, 1], grid[2, 0]):
        axes.tick_params(labelbottom=True)
        axes.set_xlabel(LEVEL_LABEL)
    note = f"{style.interval_note(level)}; of maxima: bootstrap over latents"
    style.footnote(figure, f"{title}. {note}; hollow: too few.")
    return figure


def main(job: Any) -> None:
    """Write the figure and its data."""
    config = config_of(job)
    scores = read_tables(job.input.scores, "scores")
    table = figure_table(scores, dict(job.params.models), config.statistics)
    figures.write_figure(job, table, draw)


if __name__ == "__main__":
    main(start(snakemake))

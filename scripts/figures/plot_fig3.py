"""Make figures/fig3.{pdf,png,csv}: how ESR depends on the boost, and where it peaks.

CSV, one row a point: model, label, kind (`level`, or `peak` of a curve), panel, level (sd of the
model's thresholds from their mean), boost (decoder units), value (percent or points; of a peak, its
level), low, high (interval), n (trials; of a peak, all levels), latents, status.
"""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from esr.analysis.measures import MEASURES
from esr.config import StatisticsConfig
from esr.figures import style
from esr.figures import tables as figures
from esr.job import config_of, start

PANELS = ["multi_attempt_rate", "success_rate", "msi", "esr_rate"]
PEAKS = ["multi_attempt_rate", "msi", "esr_rate"]
"""Curves whose maximum is located; a success rate is of too few trials where hardly any restart."""
NO_PEAK = {"tied": "tied ({row.low:.1f} to {row.high:.1f})", "no_variation": "flat: no maximum"}
LEVEL = "boost (sd of thresholds from their mean)"
COLUMNS = ["model", "label", "kind", "panel", "level", "boost", "value", "low", "high", "n"]
COLUMNS += ["latents", "status"]


def sweep_table(scores: pd.DataFrame | None, settings: StatisticsConfig) -> pd.DataFrame:
    """Curves and peaks of one model; one row a panel that says so if there are no trials."""
    if scores is None or scores.empty:
        return figures.missing(PANELS, "not_run").assign(kind="level", latents=0)
    curves = figures.estimates(scores, PANELS, settings, by=["boost"]).assign(kind="level")
    levels = scores.drop_duplicates("boost").set_index("boost")["level"]
    curves = curves.assign(level=curves["boost"].map(levels)).sort_values("level", kind="stable")
    both = pd.concat([curves, figures.peaks(scores, PEAKS, settings).assign(kind="peak")])
    return both.assign(latents=scores["latent"].nunique())


def figure_table(
    scores: figures.Scores, models: dict[str, dict[str, Any]], settings: StatisticsConfig
) -> pd.DataFrame:
    """Everything that is plotted, models from large to small."""
    parts = [
        sweep_table(scores.get(name), settings).assign(model=name, label=models[name]["label"])
        for name in figures.large_to_small(models)
    ]
    return pd.concat(parts, ignore_index=True).reindex(columns=COLUMNS)


def legend_label(table: pd.DataFrame) -> str:
    """Name of a model, with what its points rest on."""
    label, latents = table["label"].iloc[0], table["latents"].iloc[0]
    if not latents:
        return f"{label}: not run"
    points = table[table["kind"].eq("level")]
    n = points.loc[points["panel"].eq("multi_attempt_rate"), "n"]
    trials = f"{n.min()}" if n.min() == n.max() else f"{n.min()} to {n.max()}"
    restarted = points.loc[points["panel"].eq("success_rate"), "value"].notna().any()
    note = "" if restarted else "\n(no multi-attempt trial)"
    return f"{label}: {latents} latents,\n{trials} trials a level{note}"


def draw_curves(axes: Axes, table: pd.DataFrame, panel: str) -> None:
    """Draw the curves of one measure, models side by side."""
    models = list(dict.fromkeys(table["model"]))
    looks, offsets = style.model_looks(models), style.dodge(len(models), 0.06 * len(models))
    axes.axvline(0, color=style.GREY, lw=0.8, ls=":")
    for model, offset in zip(models, offsets, strict=True):
        mine = table[table["model"].eq(model)]
        rows = mine[mine["panel"].eq(panel) & mine["kind"].eq("level")]
        rows = style.drop_degenerate_intervals(rows)
        style.points(
            axes,
            rows["level"] + offset,
            *(rows["value"], rows["low"], rows["high"]),
            looks[model][0],
            marker=looks[model][1],
            linestyle="-",
            label=legend_label(mine),
        )
    axes.set(title=figures.TITLES[panel], ylabel=figures.UNITS[panel])
    axes.grid(axis="y")
    if MEASURES[panel].is_rate:
        top = 105 if panel == "success_rate" else max(5, axes.get_ylim()[1])
        axes.set_ylim(-0.04 * top, top)
    else:
        axes.axhline(0, color=style.INK, lw=0.8)


def draw_peaks(axes: Axes, table: pd.DataFrame) -> None:
    """Draw where each curve is highest."""
    models = list(dict.fromkeys(table["model"]))
    looks, offsets = style.model_looks(models), style.dodge(len(models), 0.7)
    axes.axvline(0, color=style.GREY, lw=0.8, ls=":")
    for model, offset in zip(models, offsets, strict=True):
        rows = table[table["model"].eq(model) & table["kind"].eq("peak")].set_index("panel")
        rows = rows.reindex(PEAKS)
        places, (colour, marker) = np.arange(len(PEAKS)) + offset, looks[model]
        ends = (rows["value"], rows["low"], rows["high"])
        style.points(axes, places, *ends, colour, lying=True, marker=marker)
        for place, row in zip(places, rows.itertuples(), strict=True):
            text = NO_PEAK.get(str(row.status), "").format(row=row)
            note: dict[str, Any] = {"ha": "right", "va": "center", "color": colour, "fontsize": 7.5}
            axes.text(1, place, text, transform=axes.get_yaxis_transform(), **note)
    axes.set_yticks(range(len(PEAKS)), [figures.TITLES[panel] for panel in PEAKS])
    axes.set(title="Level of the maximum", ylim=(len(PEAKS) - 0.5, -0.5))


def draw(table: pd.DataFrame, title: str, level: float) -> Figure:
    """Draw the figure: four curves over the levels, where they are highest, the legend."""
    strip = max(1.5, 0.12 * len(PEAKS) * table["model"].nunique())
    figure, grid = plt.subplots(
        3, 2, figsize=(style.WIDTH, 4.8 + strip), sharex=True, height_ratios=[1.75, 1.75, strip]
    )
    for axes, panel in zip(grid[:2].flat, PANELS, strict=True):
        draw_curves(axes, table, panel)
    draw_peaks(grid[2, 0], table)
    grid[2, 1].axis("off")
    grid[2, 1].legend(*grid[0, 0].get_legend_handles_labels(), loc="center", fontsize=8)
    for axes in (grid[1, 1], grid[2, 0]):
        axes.tick_params(labelbottom=True)
        axes.set_xlabel(LEVEL)
    interval = f"{100 * level:.0f} % intervals: bootstrap over latents"
    style.footnote(figure, f"{title}. {interval}; hollow: trials all alike, or too few.")
    return figure


def main(job: Any) -> None:
    """Write the figure and its data."""
    config = config_of(job)
    scores = figures.read_scores(job.input.scores).get("boost-sweep", {})
    table = figure_table(scores, dict(job.params.models), config.statistics)
    figures.write_figure(job, table, draw)


if __name__ == "__main__":
    main(start(snakemake))

"""Make figures/figA5.{pdf,png,csv}: activations around the start of the correction.

CSV, one row a model, kind of latents, group and token position (from the start of the correction):
value, low, high (mean over responses of the summed activation, SAE units; interval clustered by
steered latent), n (responses with a token there), status (`too_few` to average, ...).
"""

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from esr.config import Config
from esr.episodes.contrasts import KINDS
from esr.episodes.extract import GROUPS
from esr.episodes.traces import Traces, aligned, read_traces
from esr.figures import style
from esr.figures.tables import write_figure
from esr.job import config_of, start

LABELS = {
    "episode": "self-corrected",
    "unrestarted": "off topic, never restarted",
    "baseline": "on topic, never off",
}


def figure_table(traces: dict[str, Traces], config: Config) -> pd.DataFrame:
    """Everything that is plotted; a missing kind of latents has one row, with a status."""
    parts = []
    for model, found in traces.items():
        for kind in KINDS:
            note = found.note(kind)
            if note:
                part = pd.DataFrame([{"n": 0, "status": note.replace(" ", "_")}])
            else:
                tokens = found.tokens(kind)
                part = aligned(tokens, config.episodes.window, config.statistics)
            parts.append(part.assign(model=model, label=config.models[model].label, kind=kind))
    columns = ["model", "label", "kind", "group", "position", "value", "low", "high", "n", "status"]
    return pd.concat(parts, ignore_index=True).reindex(columns=columns)


def draw_curves(axes: Axes, table: pd.DataFrame) -> None:
    """Draw the means of the groups with their intervals."""
    for group in GROUPS:
        mine = table[table["group"].eq(group)].dropna(subset="value")
        looks: dict[str, Any] = {"color": style.GROUPS[group], "label": LABELS[group]}
        axes.plot(mine["position"], mine["value"], lw=1.4, ls=style.LINES[group], **looks)
        axes.fill_between(
            mine["position"], mine["low"], mine["high"], color=looks["color"], alpha=0.2, lw=0
        )
    axes.axvline(0, color=style.INK, lw=0.8)
    axes.grid(axis="y")
    axes.set_ylim(bottom=0)


def draw_counts(axes: Axes, table: pd.DataFrame) -> None:
    """Draw the number of responses with a token at each position."""
    for group in GROUPS:
        mine = table[table["group"].eq(group)]
        looks: dict[str, Any] = {"color": style.GROUPS[group], "ls": style.LINES[group]}
        axes.plot(mine["position"], mine["n"], lw=1, drawstyle="steps-mid", **looks)
    axes.axvline(0, color=style.INK, lw=0.8)
    axes.set_ylim(bottom=0)


def draw(table: pd.DataFrame, title: str, level: float) -> Figure:
    """Draw the figure: a row a model, a column a kind of latents, counts under the curves."""
    models = list(dict.fromkeys(table["model"]))
    known = table.dropna(subset="position")["model"]
    heights = [inches for m in models for inches in ((2, 0.7) if m in set(known) else (0.5, 0.1))]
    size = (style.WIDTH, sum(heights) + 0.5 * len(models) + 0.4)
    figure, panels = plt.subplots(
        len(heights), 2, figsize=size, height_ratios=heights, squeeze=False
    )
    for row, model in enumerate(models):
        for column, (kind, name) in enumerate(KINDS.items()):
            mine = table[table["model"].eq(model) & table["kind"].eq(kind)]
            top, bottom = panels[2 * row, column], panels[2 * row + 1, column]
            top.set_title(f"{mine['label'].iloc[0]}: {name.lower()}")
            if mine["position"].isna().all():
                style.empty_panel(top, str(mine["status"].iloc[0]).replace("_", " "))
                bottom.set_axis_off()
                continue
            draw_curves(top, mine)
            draw_counts(bottom, mine)
            bottom.set_xlim(mine["position"].min(), mine["position"].max())
            top.sharex(bottom)
            top.tick_params(labelbottom=False)
            if column == 0:
                top.set_ylabel("summed activation")
                bottom.set_ylabel("responses")
            bottom.set_xlabel("tokens from the start of the correction")
    drawn = [axes for axes in panels[::2].flat if axes.get_legend_handles_labels()[0]]
    if drawn:
        style.legend_above(figure, drawn[0])
    bands = f"Bands: {100 * level:.0f} %, bootstrap over steered latents"
    style.footnote(figure, f"{title}.\n{bands}.")
    return figure


def main(job: Any) -> None:
    """Write the figure and its data."""
    config = config_of(job)
    traces = read_traces(config.base_models, job.input.episodes, job.input.activations)
    table = figure_table(traces, config)
    write_figure(job, table, draw)


if __name__ == "__main__":
    main(start(snakemake))

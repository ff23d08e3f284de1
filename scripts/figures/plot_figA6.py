"""Make figures/figA6.{pdf,png,csv}: activations by region of the response, and their contrasts.

CSV, one row a mark. Bars (statistic `mean`): mean over responses of the summed activation in a cell
(SAE units). Points (statistic `effect`): Cohen's d between two cells, with p_value and p_holm. Both
with low, high (interval clustered by steered latent), n (responses; of the smaller group), status.
"""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from esr.config import Config
from esr.episodes.contrasts import CELLS, KINDS, model_contrasts, region_means, region_values
from esr.episodes.traces import Traces, read_traces
from esr.figures import style
from esr.figures.tables import write_figure
from esr.job import config_of, start

LABELS = {
    "off_topic": "off topic",
    "correction": "correction",
    "on_topic": "recovered",
    "baseline": "never off",
    "unrestarted": "no restart",
}


def figure_table(traces: dict[str, Traces], config: Config) -> pd.DataFrame:
    """Everything that is plotted."""
    parts = []
    for model, found in traces.items():
        for kind in KINDS:
            means = region_means(region_values(found.tokens(kind)), config.statistics)
            means = means.assign(statistic="mean", kind=kind, mark=means["cell"])
            if not found.latents(kind):
                means["status"] = "no_latents"
            parts.append(means.assign(model=model))
        effects = model_contrasts(found, config.statistics)
        effects = effects.drop(columns=["low", "high"]).rename(
            columns={"effect": "value", "effect_low": "low", "effect_high": "high"}
        )
        marks = effects["first"] + " - " + effects["second"]
        smaller = effects[["n_first", "n_second"]].min(axis=1)
        parts.append(effects.assign(statistic="effect", mark=marks, n=smaller, model=model))
    table = pd.concat(parts, ignore_index=True)
    table["label"] = [config.models[model].label for model in table["model"]]
    columns = ["model", "label", "kind", "statistic", "mark", "value", "low", "high"]
    return table[[*columns, "p_value", "p_holm", "n", "status"]]


def draw_means(axes: Axes, table: pd.DataFrame) -> None:
    """Draw the bars of one kind of latents."""
    table = table.set_index("mark").loc[list(CELLS)]
    colours = [style.GROUPS[CELLS[cell][0]] for cell in CELLS]
    for place, (colour, (_, row)) in enumerate(zip(colours, table.iterrows(), strict=True)):
        text = [f"{row['value']:.3g} (n={row['n']:.0f})"]
        ends = ([row["value"]], [row["low"]], [row["high"]])
        style.bars(axes, *ends, colour, offset=place, texts=text)
        axes.texts[-1].set_fontsize(7.5)
    axes.set_yticks(range(len(CELLS)), [LABELS[cell] for cell in CELLS])
    axes.set_ylim(len(CELLS) - 0.5, -0.5)
    axes.set_xlim(0, max(1e-3, float(np.nanmax([1e-3, *table["high"], *table["value"]]))) * 1.9)
    axes.set_xlabel("summed activation")
    if table["value"].isna().all():
        none = table["status"].eq("no_latents").all()
        axes.set(xticks=[], xlabel="no latents found" if none else "nothing to average")


def draw_effects(axes: Axes, table: pd.DataFrame) -> None:
    """Draw the contrasts of both kinds, with their p-values."""
    names = [" - ".join(LABELS[cell] for cell in mark.split(" - ")) for mark in table["mark"]]
    places = np.arange(len(table))
    for kind, colour in (("detector", style.BLUE), ("backtracking", style.ORANGE)):
        mine = table["kind"].eq(kind).to_numpy()
        value, low, high = (table.loc[mine, name] for name in ("value", "low", "high"))
        looks: dict[str, Any] = {"horizontal": True, "label": KINDS[kind]}
        style.points(axes, places[mine], value, low, high, colour, **looks)
    for place, (_, row) in zip(places, table.iterrows(), strict=True):
        p = "n/a" if pd.isna(row["p_holm"]) else f"p={row['p_holm']:.2g}"
        p = "p<0.001" if row["p_holm"] < 0.001 else p
        where = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": 7.5}
        axes.annotate(p, (1.02, place), annotation_clip=False, **where)
    axes.axvline(0, color=style.INK, lw=0.8)
    axes.set_yticks(places, names, fontsize=8)
    axes.set_ylim(len(table) - 0.5, -0.5)
    axes.set_xlabel("Cohen's d (p: Holm)")
    if table["value"].isna().all():
        axes.set(xticks=[], xlabel="nothing to compare")
    axes.grid(axis="x")


def draw(table: pd.DataFrame, title: str, level: float) -> Figure:
    """Draw the figure: a row a model; bars of both kinds of latents, then the contrasts."""
    models = list(dict.fromkeys(table["model"]))
    figure, panels = plt.subplots(
        len(models),
        3,
        figsize=(style.WIDTH, 2.2 * len(models) + 0.4),
        width_ratios=[1, 1, 0.8],
        squeeze=False,
    )
    for row, model in zip(panels, models, strict=True):
        mine = table[table["model"].eq(model)]
        for axes, (kind, name) in zip(row, KINDS.items(), strict=False):
            draw_means(axes, mine[mine["statistic"].eq("mean") & mine["kind"].eq(kind)])
            axes.set_title(name)
        row[1].set_yticklabels([])
        row[0].set_ylabel(mine["label"].iloc[0])
        draw_effects(row[2], mine[mine["statistic"].eq("effect")])
        row[2].set_title("Contrasts")
    style.legend_above(figure, panels[0, 2])
    interval = f"{100 * level:.0f} % intervals: bootstrap over steered latents"
    style.footnote(figure, f"{title}.\n{interval}.")
    return figure


def main(job: Any) -> None:
    """Write the figure and its data."""
    config = config_of(job)
    traces = read_traces(config.base_models, job.input.episodes, job.input.activations)
    table = figure_table(traces, config)
    write_figure(job, table, draw)


if __name__ == "__main__":
    main(start(snakemake))

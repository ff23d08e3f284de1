"""Make figures/figA9.{pdf,png,csv}: ablating random sets of latents in place of the detectors.

CSV, one row a mark: model, label, kind (`arm`, `difference` of paired arms, `matching` of a latent
with a detector, `sum` over a set), arm (`ablate-random-<i>` is one set, `ablate-random` the mean of
all), measure (also `frequency`, `mean` activation on steered text), latent, detector, value
(percent or points; share or activation), target (the same of the detectors), low, high (interval;
over other latents and, for the mean, other sets), p_value, between (sd between sets), n (trials;
latents), n_sets, dropped (pairs), status.
"""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, StrMethodFormatter

from esr.analysis.engines import read_scores_to_pair
from esr.analysis.summaries import replays_of
from esr.arms.scores import select
from esr.detectors.controls import summarise_sets
from esr.figures import style
from esr.figures import tables as figures
from esr.figures.ablation import (
    CONTRASTS,
    DETECTORS,
    PER_ROW,
    RANDOM,
    STEERED,
    compare_detectors,
    compare_random_sets,
    count_rows,
    draw_measures,
    model_panels,
)
from esr.job import config_of, start
from esr.tables import read_tables

COLUMNS = ["model", "label", "kind", "arm", "measure", "latent", "detector", "value", "target"]
COLUMNS += ["low", "high", "p_value", "between", "n", "n_sets", "dropped", "status"]
KINDS = ["frequency", "mean"]


def matching_rows(controls: pd.DataFrame) -> pd.DataFrame:
    """Activity of each drawn latent beside its detector, and of each set beside all detectors."""
    parts = []
    summary = summarise_sets(controls).rename(columns={"latents": "n"})
    for kind in KINDS:
        names = {kind: "value", f"detector_{kind}": "target"}
        rows = controls[["set", "latent", "detector", *names]].rename(columns=names)
        sums = summary[["set", "n", *names]].rename(columns=names)
        for table, name in ((rows.assign(n=1), "matching"), (sums, "sum")):
            arm = f"{RANDOM}-" + table["set"].astype(str)
            parts.append(table.assign(kind=name, measure=kind, arm=arm, status="ok"))
    return pd.concat(parts, ignore_index=True).drop(columns="set")


def relative_activity(table: pd.DataFrame, kind: str) -> str:
    """Summed activity of a set in percent of that of all detectors, as a range over sets."""
    sums = table[table["kind"].eq("sum") & table["measure"].eq(kind)]
    share = 100 * sums["value"] / sums["target"]
    return " to ".join(dict.fromkeys(f"{end:.0f}" for end in (share.min(), share.max()))) + " %"


def draw_matching(axes: Axes, table: pd.DataFrame) -> None:
    """Draw the mean activation of each detector's latents, in sum, against its own."""
    axes.set(title=f"{table['label'].iloc[0]}: matching")
    rows = table[table["kind"].eq("matching") & table["measure"].eq("mean")]
    if rows.empty:
        style.empty_panel(axes, "no detectors,\nnothing to match")
        return
    rows = rows.groupby(["arm", "detector"], as_index=False).agg(
        value=("value", "sum"), target=("target", "first")
    )
    for i, (arm, points) in enumerate(rows.groupby("arm")):
        looks: dict[str, Any] = {"s": 11, "marker": style.MARKERS[i % len(style.MARKERS)]}
        label = f"set {str(arm).removeprefix(RANDOM + '-')}"
        axes.scatter(points["target"], points["value"], label=label, alpha=0.8, **looks)
    both = pd.concat([rows["target"], rows["value"]]).astype(float)
    ends = np.array([both[both > 0].min() / 1.5, both.max() * 1.5])
    axes.plot(ends, ends, color=style.GREY, lw=0.8, zorder=0)
    note = f"sets in sum, of the detectors:\nactivation {relative_activity(table, 'mean')}\n"
    note += f"frequency {relative_activity(table, 'frequency')}"
    axes.text(0.03, 0.99, note, transform=axes.transAxes, va="top", fontsize=7)
    axes.set(xscale="log", yscale="log", xlim=ends, ylim=(ends[0], ends[1] ** 1.6 / ends[0] ** 0.6))
    axes.minorticks_off()
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 3)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.set(xlabel="mean activation, detector", ylabel="its random latents")
    axes.legend(loc="lower right", fontsize=7, handletextpad=0.1, borderaxespad=0.1)


def draw(table: pd.DataFrame, title: str, level: float) -> Figure:
    """Draw the match of the sets (a panel a model), then all arms and their differences."""
    models = list(dict.fromkeys(table["model"]))
    heights = [2 * count_rows(len(models)), 0.5 + 0.6 * len(models), 0.5 + 0.5 * len(models)]
    figure = plt.figure(figsize=(style.WIDTH, sum(heights) + 1.6))
    rows = figure.add_gridspec(3, 1, height_ratios=heights)
    columns = min(max(len(models), 2), PER_ROW)  # one panel alone would be too wide
    top = model_panels(figure, rows[0], len(models), columns)
    for axes, model in zip(top, models, strict=True):
        draw_matching(axes, table[table["model"].eq(model)])
    arms = table[table["kind"].isin(["arm", "difference"])]
    draw_measures(figure, (rows[1], rows[2]), arms, [STEERED, DETECTORS, RANDOM], list(CONTRASTS))
    interval = f"{style.interval_note(level)} (random: and other sets"
    style.footnote(figure, f"{title}. {interval}; circles: single sets).")
    return figure


def main(job: Any) -> None:
    """Write the figure and its data."""
    config = config_of(job)
    models = dict(job.params.models)
    scores = read_scores_to_pair(job.input.scores, replays_of(config))
    detectors = read_tables(job.input.detectors, "detectors")
    controls = read_tables(job.input.controls, "controls")
    parts = []
    for name in figures.large_to_small(models):
        found = int(select(detectors, model=name)["detector"].sum())
        mine = select(scores, model=name)
        rows = [
            matching_rows(select(controls, model=name)),
            compare_detectors(mine, found, config.statistics),
            compare_random_sets(mine, found, config.statistics),
        ]
        both = pd.concat(rows, ignore_index=True)
        parts.append(both.assign(model=name, label=models[name]["label"]))
    table = pd.concat(parts, ignore_index=True).reindex(columns=COLUMNS)
    figures.write_figure(job, table, draw)


if __name__ == "__main__":
    main(start(snakemake))

"""Make figures/figB1.{pdf,png,csv}: thresholds, what they achieve, and the responses behind them.

CSV, one row a latent (kind `threshold`: boost is the threshold with its 90 % interval low and high,
value the score achieved, in points) or a boost that was tried (kind `response`: value is the mean
first score there): model, label (of the model), kind, latent, target (points), boost, low, high
(decoder units), dose (of the boost, in medians of the norm of the residual stream; missing where
that was not measured), value, n, missing (responses with and without a score), panel (place among
the panels of single latents; missing: not drawn), status.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from esr.figures import style
from esr.figures.dose_axis import add_dose_axis
from esr.figures.tables import large_to_small, write_figure
from esr.job import config_of, start
from esr.tables import read_table
from esr.thresholds.dose import usual_norm_of
from esr.thresholds.outcomes import STATUSES

COLUMNS = ["model", "label", "kind", "latent", "target", "boost", "low", "high", "dose", "value"]
COLUMNS += ["n", "missing", "panel", "status"]
LOOKS = (style.GREEN, style.RED, style.PURPLE, style.GREY, style.INK)
COLOURS = dict(zip(STATUSES, LOOKS, strict=True))
MARKERS = dict(zip(STATUSES, "osDXP", strict=True))
PANELS = 6
"""Panels of single latents a model."""


def latent_rows(thresholds: pd.DataFrame) -> pd.DataFrame:
    """One row a latent, and which are drawn alone: evenly from the nearest to the target on."""
    columns = {"threshold": "boost", "achieved": "value", "n_samples": "n", "n_missing": "missing"}
    table = thresholds.rename(columns=columns).assign(kind="threshold")
    distance = (table["value"] - table["target"]).abs()  # without a value: last
    ranked = table.index[np.argsort(distance.fillna(np.inf).astype(float), kind="stable")]
    shown = np.unique(np.linspace(0, len(ranked) - 1, min(PANELS, len(ranked))).round())
    places = {ranked[int(rank)]: place for place, rank in enumerate(shown)}
    table["panel"] = pd.array(table.index.map(places), "Int64")
    return table


def response_rows(trials: pd.DataFrame) -> pd.DataFrame:
    """Mean first score of each latent at each boost that was tried."""
    scored = trials.assign(missing=trials["first_score"].isna())
    grouped = scored.groupby(["latent", "boost"], as_index=False)
    table = grouped.agg(
        value=("first_score", "mean"), n=("first_score", "count"), missing=("missing", "sum")
    )
    return table.assign(kind="response", status=np.where(table["n"].gt(0), "ok", "no_data"))


def figure_table(
    thresholds: dict[str, pd.DataFrame],
    trials: dict[str, pd.DataFrame],
    models: dict[str, dict[str, Any]],
    usual_norms: Mapping[str, float],
) -> pd.DataFrame:
    """Everything that is plotted, models from large to small; `not_run` without a search.

    Args:
        thresholds: Table `thresholds` by model.
        trials: Table `threshold_trials` by model.
        models: Label and size by model.
        usual_norms: Median norm of the residual stream at the steered layer by model.
    """
    parts = []
    for name in large_to_small(models):
        if name in thresholds:
            latents = latent_rows(thresholds[name])
            responses = response_rows(trials[name])
            responses["panel"] = responses["latent"].map(latents.set_index("latent")["panel"])
            part = pd.concat([latents, responses], ignore_index=True)
            norm = part["latent"].map(thresholds[name].set_index("latent")["norm"])
            part["dose"] = part["boost"].astype(float) * norm / usual_norms[name]
        else:
            part = pd.DataFrame([{"kind": "threshold", "n": 0, "status": "not_run"}])
        parts.append(part.assign(model=name, label=models[name]["label"]))
    table = pd.concat(parts, ignore_index=True).reindex(columns=COLUMNS)
    return table.astype(dict.fromkeys(["target", "boost", "low", "high", "dose", "value"], float))


def draw_overview(axes: Axes, latents: pd.DataFrame) -> None:
    """Draw the score that every threshold achieves, and its interval, against the target."""
    axes.set_title(latents["label"].iloc[0])
    if latents["status"].eq("not_run").all():
        style.empty_panel(axes, "not run:\nno arm steers latents")
        return
    for status, rows in latents.groupby("status", sort=False):
        colour, marker = COLOURS[str(status)], MARKERS[str(status)]
        drawn = rows.dropna(subset=["boost", "value"])
        spans = np.maximum([drawn["boost"] - drawn["low"], drawn["high"] - drawn["boost"]], 0)
        looks: dict[str, Any] = {"color": colour, "marker": marker, "ms": 3.5, "lw": 0.6}
        label = f"{str(status).replace('_', ' ')}: {len(rows)}"
        axes.errorbar(drawn["boost"], drawn["value"], xerr=spans, ls="none", label=label, **looks)
    axes.axhline(latents["target"].iloc[0], color=style.INK, lw=0.8, ls=":")
    if latents["value"].isna().all():
        axes.text(0.5, 0.6, "no threshold", transform=axes.transAxes, ha="center", color=style.GREY)
    axes.set(ylim=(-4, 104), xlabel="threshold (boost)", ylabel="score achieved")
    add_dose_axis(axes, latents)
    axes.legend(fontsize=6.5, loc="best", handletextpad=0.1, borderaxespad=0.1)


def draw_latent(axes: Axes, latent: Any, responses: pd.DataFrame) -> None:
    """Draw the responses of one latent by boost, its threshold and its interval."""
    colour = COLOURS[latent.status]
    scored = responses.dropna(subset="value")
    axes.scatter(scored["boost"], scored["value"], s=7 * scored["n"], color=style.BLUE, lw=0)
    axes.axhline(latent.target, color=style.INK, lw=0.8, ls=":")
    if not np.isnan(latent.boost):
        axes.axvline(latent.boost, color=colour, lw=1)
        if not np.isnan(latent.low):
            axes.axvspan(latent.low, latent.high, color=colour, alpha=0.15, lw=0)
    title = f"{latent.latent}: {latent.status}\nachieved {style.number(latent.value)}"
    axes.set_title(title.replace("_", " "), fontsize=7, fontweight="normal", color=colour)
    axes.set_ylim(-8, 108)


def draw(table: pd.DataFrame, title: str, level: float) -> Figure:
    """Draw the figure: for every model an overview, and panels of single latents."""
    del level  # thresholds have 90 % intervals of their own
    models, half = list(dict.fromkeys(table["model"])), PANELS // 2
    figure = plt.figure(figsize=(style.WIDTH, 2.9 * len(models) + 0.4))
    grid = figure.add_gridspec(2 * len(models), half + 2)
    for row, model in enumerate(models):
        mine = table[table["model"].eq(model)]
        latents = mine[mine["kind"].eq("threshold")]
        draw_overview(figure.add_subplot(grid[2 * row : 2 * row + 2, :2]), latents)
        for latent in latents.dropna(subset="panel").itertuples():
            place = int(str(latent.panel))
            axes = figure.add_subplot(grid[2 * row + place // half, 2 + place % half])
            own = mine[mine["kind"].eq("response") & mine["latent"].eq(latent.latent)]
            draw_latent(axes, latent, own)
            axes.tick_params(labelsize=6.5, labelleft=place % half == 0)
            axes.xaxis.set_major_locator(MaxNLocator(2))
    note = "Dotted: target. Bars and shades: 90 % intervals of the threshold. Dots: mean first "
    note += "score at a boost that was tried (larger: more responses)"
    style.footnote(figure, f"{title}. {note}.")
    return figure


def main(job: Any) -> None:
    """Write the figure and its data."""
    names = list(job.params.searched)
    thresholds, trials = (
        {
            name: read_table(Path(path), kind)
            for name, path in zip(names, getattr(job.input, kind), strict=True)
        }
        for kind in ("thresholds", "threshold_trials")
    )
    config = config_of(job)
    usual = {
        name: usual_norm_of(read_table(Path(path), "sae_fit"), config.models[name].steer_layer)
        for name, path in zip(names, job.input.fit, strict=True)
    }
    table = figure_table(thresholds, trials, dict(job.params.models), usual)
    write_figure(job, table, draw)


if __name__ == "__main__":
    main(start(snakemake))

"""Make figures/figI1.{pdf,png,csv}: self-report of an injected direction, beside behaviour.

CSV, one row a mark: model, label (of the model), kind (`curve`: excess_log_odds and random_log_odds
by dose, in nats; `threshold`: self_report and behaviour of a direction, in decoder units), window,
dose (of a curve), direction (such as `latent 435`, or set and row), name (its label), measure,
value, low, high, n (readings, or questions), status. A threshold that no dose reaches has the
status `never` and no value.
"""

from pathlib import Path
from textwrap import shorten
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from esr.figures import style
from esr.figures import tables as figures
from esr.introspection.summary import ALL
from esr.introspection.thresholds import direction_ids
from esr.job import config_of, start

COLUMNS = ["model", "label", "kind", "window", "dose", "direction", "name", "measure", "value"]
COLUMNS += ["low", "high", "n", "status"]
WINDOWS = {
    "question": (style.BLUE, "in the question"),
    "whole": (style.ORANGE, "everywhere"),
    "first_turn": (style.GREEN, "one turn before"),
}
CURVES = ["excess_log_odds", "random_log_odds"]
SHOWN = 30
"""Directions of a panel; the CSV has all."""
ROW = 0.17
"""Height of a direction (inches)."""
DOSES = {"threshold": "dose (multiples of the threshold)", "decoder": "boost (decoder units)"}


def curve_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Excess of directions and shift of random ones at every dose."""
    rows = table[table["measure"].isin(CURVES) & table["dose"].astype(str).ne(ALL)]
    return rows.assign(kind="curve", dose=rows["dose"].astype(float))


def threshold_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Thresholds of directions: of self-report and, once a direction, of behaviour."""
    concepts = table[~table["is_random"].astype(bool)].rename(columns={"label": "name"})
    concepts = concepts.assign(direction=direction_ids(concepts))
    own = concepts.rename(columns={"threshold": "value", "n_questions": "n"})
    old = ["value", "low", "high", "n", "status"]
    names = {f"behaviour_{name}": name for name in ("low", "high", "status")}
    other = own.drop(columns=old).rename(columns=names | {"behaviour": "value"})
    parts = [own.assign(measure="self_report"), other.assign(measure="behaviour")]
    return pd.concat(parts, ignore_index=True).assign(kind="threshold")


def figure_table(
    means: pd.DataFrame, thresholds: pd.DataFrame, models: dict[str, dict[str, Any]]
) -> pd.DataFrame:
    """Everything that is plotted, models from large to small; `not_run` where nothing was read."""
    both = [curve_rows(means), threshold_rows(thresholds)]
    parts = []
    for name in figures.large_to_small(models):
        found = [table[table["model"].eq(name)] for table in both]
        if all(table.empty for table in found):
            found = [figures.missing(CURVES, "not_run").assign(kind="curve")]
        parts += [table.assign(model=name, label=models[name]["label"]) for table in found]
    return pd.concat(parts, ignore_index=True).reindex(columns=COLUMNS)


def draw_curves(axes: Axes, table: pd.DataFrame, unit: str, passes: float) -> None:
    """Draw the excess by dose, a line a window, and dashed what random directions do."""
    axes.axhline(0, color=style.GREY, lw=0.8)
    axes.axhline(passes, color=style.GREY, lw=0.8, ls=":")
    for number, (window, (colour, label)) in enumerate(WINDOWS.items()):
        rows = table[table["window"].eq(window)]
        for measure in CURVES:
            line = rows[rows["measure"].eq(measure)].sort_values("dose")
            if line.empty:
                continue
            places = line["dose"] + 0.015 * float(line["dose"].max()) * (number - 1)
            ends = (line["value"], line["low"], line["high"])
            if measure == CURVES[0]:
                style.points(axes, places, *ends, colour, linestyle="-", label=label)
            else:
                style.points(axes, places, *ends, colour, linestyle="--", ms=2.5, lw=0.7)
    axes.set(xlabel=DOSES[unit], ylabel="log-odds of yes (nats)")
    axes.set_title("Excess over controls; dashed: random")


def draw_thresholds(axes: Axes, table: pd.DataFrame) -> None:
    """Draw the thresholds of the first directions, the smallest one on top."""
    own = table[table["measure"].eq("self_report")].sort_values("value").head(SHOWN)
    places = range(len(own))
    style.points(
        axes, list(places), own["value"], own["low"], own["high"], style.BLUE, horizontal=True
    )
    other = table[table["measure"].eq("behaviour")].set_index("direction")
    other = other.reindex(own["direction"])
    axes.hlines(list(places), other["low"], other["high"], color=style.INK, lw=0.6)
    style.null_marks(axes, list(places), other["value"], horizontal=True)
    right = pd.concat([own["value"], own["high"], other["value"], other["high"]]).max()
    never = [i for i, status in enumerate(own["status"]) if status == "never"]
    edge = 1.08 * right if right > 0 else 1.0
    axes.plot([edge] * len(never), never, ">", color=style.BLUE, mfc="white", ms=4.5, ls="none")
    names = own["name"].fillna(own["direction"])
    axes.set_yticks(
        list(places), [shorten(str(name), 26, placeholder=" …") for name in names], fontsize=6.5
    )
    axes.set_ylim(len(own) - 0.4, -0.6)
    axes.set_xlim(left=0)
    axes.grid(axis="x")
    axes.set(xlabel="boost (decoder units)", title="Thresholds; diamond: behaviour")


def draw(table: pd.DataFrame, title: str, level: float, unit: str, passes: float) -> Figure:
    """Draw the figure: a row of two panels a model."""
    models = list(dict.fromkeys(table["model"]))
    sizes = [table.loc[table["model"].eq(name), "direction"].nunique() for name in models]
    heights = [max(2.2, ROW * min(size, SHOWN) + 0.6) for size in sizes]
    figure, grid = plt.subplots(
        len(models),
        2,
        figsize=(style.WIDTH, sum(heights) + 0.9),
        squeeze=False,
        gridspec_kw={"height_ratios": heights},
    )
    for row, model in zip(grid, models, strict=True):
        mine = table[table["model"].eq(model)]
        if mine["status"].eq("not_run").all():
            for axes in row:
                style.empty_panel(axes, "not run: the study has\nno section introspection")
            row[0].set_ylabel(mine["label"].iloc[0])
            continue
        draw_curves(row[0], mine[mine["kind"].eq("curve")], unit, passes)
        row[0].set_ylabel(f"{mine['label'].iloc[0]}\n{row[0].get_ylabel()}")
        windows = [window for window in WINDOWS if window in set(mine["window"])]
        first = mine[mine["kind"].eq("threshold") & mine["window"].eq(windows[0])]
        draw_thresholds(row[1], first)
    style.legend_above(figure, grid[0][0])
    shown = [window for window in WINDOWS if window in set(table["window"])]
    where = WINDOWS[shown[0]][1] if shown else "nowhere"
    note = f"Right: direction injected {where}; arrow: never, up to the largest dose"
    intervals = f"{100 * level:.0f} % intervals: other directions, other questions"
    style.footnote(figure, f"{title}. {intervals} (right: other questions). {note}.")
    return figure


def main(job: Any) -> None:
    """Write the figure and its data."""
    settings = config_of(job).introspection
    means = pd.read_csv(Path(job.input.table))
    thresholds = pd.read_csv(Path(job.input.thresholds))
    unit, passes = ("decoder", 0.0) if settings is None else (settings.unit, settings.passes)
    table = figure_table(means, thresholds, dict(job.params.models))
    figures.write_figure(
        job, table, lambda rows, title, level: draw(rows, title, level, unit, passes)
    )


if __name__ == "__main__":
    main(start(snakemake))

"""Make figures/fig7.{pdf,png,csv}: one self-correction, token by token.

It shows the first model with held-out episodes, and of these the one of median length. CSV, one row
a token: model, trial_id, position, text, region, detector, backtracking (summed activation, SAE
units), n (tokens), status. Without an episode, one row a model with that status.
"""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from esr.arms.files import group_files
from esr.episodes.contrasts import KINDS
from esr.episodes.traces import Traces, read_traces
from esr.figures import style
from esr.figures.tables import write_figure
from esr.job import config_of, start
from esr.tables import read_table

COLUMNS = ["model", "trial_id", "position", "text", "region", *KINDS, "n", "status"]
COLOURS = {"detector": style.BLUE, "backtracking": style.ORANGE}
SHADES = {"off_topic": "#F6D9C8", "correction": "#FBF3B0", "on_topic": "#D3ECE3"}
PER_LINE = 44
"""Tokens on a line, at which words in a 7 pt font fit side by side."""


def typical_episode(traces: Traces) -> str | None:
    """Trial of the held-out episode of median length (lower median), if there is one."""
    episodes = traces.episodes
    own = episodes.loc[episodes["group"].eq("episode") & episodes["held_out"], "trial_id"]
    rows = traces.activations[traces.activations["trial_id"].isin(own)]
    lengths = rows.groupby("trial_id")["position"].max().sort_values(kind="stable")
    return str(lengths.index[(len(lengths) - 1) // 2]) if len(lengths) else None


def trace_table(traces: Traces, trial: str, response: str) -> pd.DataFrame:
    """Summed activations of one response by token, with the token's text."""
    rows = traces.activations[traces.activations["trial_id"].eq(trial)]
    rows = rows[rows["end"].gt(rows["start"])]
    by = ["position", "start", "end", "region"]
    table = rows.pivot_table("activation", by, "kind", aggfunc="sum", dropna=False, observed=True)
    table = table.reset_index().dropna(subset=list(table.columns), how="all")
    table["text"] = [response[a:b] for a, b in zip(table["start"], table["end"], strict=True)]
    for kind in KINDS:
        if kind not in table:
            table[kind] = np.nan
    return table.astype(dict.fromkeys(KINDS, float)).sort_values("position")


def figure_table(
    traces: dict[str, Traces], responses: dict[str, pd.DataFrame], window: int
) -> pd.DataFrame:
    """The plotted tokens, at most `window` on either side of the correction's start."""
    for model, found in traces.items():
        trial = typical_episode(found)
        if trial is not None:
            text = responses[model].set_index("trial_id").loc[trial, "response"]
            table = trace_table(found, trial, str(text))
            begin = table.loc[table["region"].eq("correction"), "position"].min()
            table = table[(table["position"] - begin).between(-window, window)]
            table = table.assign(model=model, trial_id=trial, n=len(table), status="ok")
            return table[COLUMNS].reset_index(drop=True)
    empty = {"model": list(traces), "n": 0, "status": "no_self_correction"}
    return pd.DataFrame(empty).reindex(columns=COLUMNS)


def draw_line(axes: Axes, table: pd.DataFrame, top: float) -> None:
    """Draw one line of text with the activations above it."""
    position = table["position"].to_numpy(float)
    for region, shade in SHADES.items():
        for place in position[table["region"].eq(region)]:
            axes.axvspan(place - 0.5, place + 0.5, color=shade, lw=0, zorder=0)
    for kind, width in (("detector", 0.8), ("backtracking", 0.4)):
        if table[kind].notna().any():
            axes.bar(position, table[kind], width, color=COLOURS[kind], label=KINDS[kind])
    axes.set_xticks(position, table["text"].str.strip(), rotation=90, fontsize=7)
    axes.tick_params(axis="x", length=0, pad=1)
    axes.set(xlim=(position[0] - 0.5, position[0] + PER_LINE - 0.5), ylim=(0, top))
    for region, rows in table.groupby("region", sort=False):
        where = (rows["position"].iloc[0] - 0.4, 0.97 * top)
        axes.text(*where, str(region).replace("_", " "), va="top", fontsize=7.5, style="italic")


def draw(table: pd.DataFrame, labels: dict[str, str], title: str) -> Figure:
    """Draw the figure, a row a line of text."""
    if table["position"].isna().all():
        figure, axes = plt.subplots(figsize=(style.WIDTH, 1.6))
        style.empty_panel(axes, f"no self-correction in: {', '.join(labels.values())}")
        style.footnote(figure, f"{title}.")
        return figure
    lines = [table.iloc[i : i + PER_LINE] for i in range(0, len(table), PER_LINE)]
    figure, panels = plt.subplots(
        len(lines), 1, figsize=(style.WIDTH, 1.75 * len(lines) + 0.6), squeeze=False
    )
    top = 1.25 * max(1e-6, float(np.nanmax([0.0, *table[list(KINDS)].to_numpy().ravel()])))
    for axes, line in zip(panels[:, 0], lines, strict=True):
        draw_line(axes, line, top)
        axes.set_ylabel("activation (sum)")
    style.legend_above(figure, panels[0, 0])
    absent = [name.lower() for kind, name in KINDS.items() if table[kind].isna().all()]
    note = f" No {' and no '.join(absent)}." if absent else ""
    which = f"{labels[table['model'].iloc[0]]}, trial {table['trial_id'].iloc[0]}"
    style.footnote(figure, f"{title}.\n{which}; sums over latents.{note}")
    return figure


def main(job: Any) -> None:
    """Write the figure and its data."""
    config = config_of(job)
    traces = read_traces(config.base_models, job.input.episodes, job.input.activations)
    arms = group_files(job.input.plans, job.input.responses)
    responses = {arm.model: read_table(arm.responses, "responses") for arm in arms if arm.responses}
    table = figure_table(traces, responses, config.episodes.window)
    labels = {name: model.label for name, model in config.base_models.items()}
    write_figure(job, table, lambda table, title, _: draw(table, labels, title))


if __name__ == "__main__":
    main(start(snakemake))

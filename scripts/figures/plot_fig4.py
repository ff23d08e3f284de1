"""Make figures/fig4.{pdf,png,csv}: what each meta-prompt changes, paired with the plain prompt.

CSV, one row a point: model, label, arm, meta_prompt, measure, baseline (steered, plain prompt) and
treatment (percent or points, on the pairs), value (their difference), low, high (its interval),
method, p_value (the value adjusted over the confirmatory family is `p_holm` of
tables/comparisons.csv, and no other is given), n (pairs), dropped (pairs in which a
trial has no score), status (`no_labels`: the model's latents have no labels).
"""

from textwrap import fill
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from esr.analysis.engines import read_scores_to_pair
from esr.analysis.measures import MEASURES
from esr.analysis.summaries import replays_of
from esr.arms.scores import select
from esr.config import StatisticsConfig
from esr.figures import style
from esr.figures import tables as figures
from esr.job import config_of, start

SHOWN = ["multi_attempt_rate", "esr_rate", "msi", "first_score"]
ABSENT = {"no_labels": "no labels", "not_run": "not run"}
WHITE = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
NOTE: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 7.5, "bbox": WHITE}
COLUMNS = ["model", "label", "arm", "meta_prompt", "measure", "baseline", "treatment", "value"]
COLUMNS += ["low", "high", "method", "p_value", "n", "dropped", "status"]


def variant_table(
    scores: pd.DataFrame, arm: str, template: str, settings: StatisticsConfig
) -> pd.DataFrame:
    """A meta-prompt against the plain prompt, of one model; without trials a status."""
    plain, meta = (select(scores, arm=name) for name in ("steered", arm))
    if plain.empty or meta.empty:
        # A model without labels runs every arm but those that name the label.
        unlabelled = not plain.empty and "{label}" in template
        return figures.missing(SHOWN, "no_labels" if unlabelled else "not_run")
    return figures.differences(plain, meta, SHOWN, settings)


def baseline_rows(scores: pd.DataFrame, settings: StatisticsConfig) -> pd.DataFrame:
    """Values under the plain prompt, from which the differences are taken."""
    if scores.empty:
        return figures.missing(SHOWN, "not_run")
    table = figures.estimates(scores, SHOWN, settings)
    return table[["measure", "n", "status"]].assign(baseline=table["value"])


def figure_table(
    scores: pd.DataFrame,
    models: dict[str, dict[str, Any]],
    variants: dict[str, str],
    settings: StatisticsConfig,
) -> pd.DataFrame:
    """Everything that is plotted: models from large to small, meta-prompts by arm as given."""
    parts = []
    for model in figures.large_to_small(models):
        facts = {"model": model, "label": models[model]["label"]}
        mine = select(scores, model=model)
        plain = baseline_rows(select(mine, arm="steered"), settings)
        parts.append(plain.assign(**facts, arm="steered"))
        for arm, template in variants.items():
            table = variant_table(mine, arm, template, settings)
            parts.append(table.assign(**facts, arm=arm, meta_prompt=template))
    return pd.concat(parts, ignore_index=True).reindex(columns=COLUMNS)


def legend_label(table: pd.DataFrame) -> str:
    """Label of a model, with its pairs a meta-prompt."""
    label = table["label"].iloc[0]
    n = table.loc[table["value"].notna(), "n"]
    if n.empty:
        return f"{label}: not run"
    return (
        f"{label}: {n.min()} pairs" if n.min() == n.max() else f"{label}: {n.min()}-{n.max()} pairs"
    )


def draw_measure(axes: Axes, table: pd.DataFrame, name: str) -> None:
    """Draw one measure: a row a prompt, a point a model."""
    models = list(table["model"].unique())
    arms = list(table["arm"].unique())
    looks = style.model_looks(models)
    offsets = style.dodge(len(models), 0.7)
    middle = axes.get_yaxis_transform()
    axes.axhline(0.5, color=style.GREY, lw=0.6)
    axes.plot([0, 0], [0.5, len(arms) - 0.5], color=style.INK, lw=0.8)
    for model, offset in zip(models, offsets, strict=True):
        mine = table[table["model"].eq(model) & table["measure"].eq(name)]
        rows = mine.set_index("arm").loc[arms]
        colour, marker = looks[model]
        ends = (rows["value"], rows["low"], rows["high"])
        look = {"marker": marker, "label": legend_label(mine)}
        style.points(axes, np.arange(len(arms)) + offset, *ends, colour, horizontal=True, **look)
        for place, row in enumerate(rows.itertuples()):
            text = f"{row.baseline:.1f}" if row.Index == "steered" else "n/a"
            text = ABSENT.get(str(row.status), text)
            if np.isnan(row.value) and mine["n"].any():  # otherwise the legend notes it once
                axes.text(0.5, place + offset, text, transform=middle, color=colour, **NOTE)
    axes.set(title=MEASURES[name].label, ylim=(len(arms) - 0.5, -0.5))
    axes.set_xlabel(f"change ({MEASURES[name].difference_unit})")
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)


def draw(table: pd.DataFrame, title: str, level: float) -> Figure:
    """Draw the figure: a column a measure, a row a meta-prompt."""
    variants = table.drop_duplicates("arm")["meta_prompt"].iloc[1:]
    texts = [fill(text.replace("{prompt}", "").strip(), 31) for text in variants]
    rows = 1 + len(texts)
    height = 1.2 + rows * max(0.45, 0.13 * table["model"].nunique())
    figure, grid = plt.subplots(1, len(SHOWN), figsize=(style.WIDTH, height), sharey=True)
    for axes, name in zip(grid, SHOWN, strict=True):
        draw_measure(axes, table, name)
    grid[0].set_yticks(range(rows), ["plain prompt\n(value)", *texts], fontsize=7.5)
    style.legend_above(figure, grid[0])
    note = f"Change from the plain prompt, same trials; {style.interval_note(level)}."
    style.footnote(figure, f"{title}. {note}")
    return figure


def main(job: Any) -> None:
    """Write the figure and its data."""
    config = config_of(job)
    variants = {name: str(config.arms[name].meta_prompt) for name in config.meta_arms}
    scores = read_scores_to_pair(job.input.scores, replays_of(config))
    table = figure_table(scores, dict(job.params.models), variants, config.statistics)
    figures.write_figure(job, table, draw)


if __name__ == "__main__":
    main(start(snakemake))

"""Make figures/fig4.{pdf,png,csv}: what each meta-prompt changes, paired with the plain prompt.

CSV, one row a point: model, label, arm, meta_prompt, panel, baseline (steered, plain prompt) and
treatment (percent or points, on the pairs), value (their difference), low, high (its interval),
p_value, p_holm (adjusted over the meta-prompts of a model and panel), n (pairs), dropped (pairs of
which one trial has no score), status (`no_labels`: the model's latents have no label to name).
"""

from textwrap import fill
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from esr.analysis.statistics import holm
from esr.config import StatisticsConfig
from esr.figures import style
from esr.figures import tables as figures
from esr.job import config_of, start

POINTS = ["msi", "first_score"]
PANELS = ["multi_attempt_rate", "esr_rate", *POINTS]
ABSENT = {"no_labels": "no labels", "not_run": "not run"}
WHITE = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
NOTE: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 7.5, "bbox": WHITE}
COLUMNS = ["model", "label", "arm", "meta_prompt", "panel", "baseline", "treatment", "value"]
COLUMNS += ["low", "high", "p_value", "p_holm", "n", "dropped", "status"]


def variant_table(
    scores: dict[str, figures.Scores],
    arm: str,
    template: str,
    model: str,
    settings: StatisticsConfig,
) -> pd.DataFrame:
    """A meta-prompt against the plain prompt; rows that say why if there are no such trials."""
    plain, meta = (scores.get(name, {}).get(model) for name in ("steered", arm))
    if plain is None or meta is None:
        # A model without labels runs every other arm, so a missing one with {label} lacks those.
        unlabelled = plain is not None and "{label}" in template
        return figures.missing(PANELS, "no_labels" if unlabelled else "not_run")
    return figures.differences(plain, meta, PANELS, settings)


def baseline_rows(scores: pd.DataFrame | None, settings: StatisticsConfig) -> pd.DataFrame:
    """The plain prompt's own values, which the differences add to."""
    if scores is None:
        return figures.missing(PANELS, "not_run")
    table = figures.estimates(scores, PANELS, settings)
    return table[["panel", "n", "status"]].assign(baseline=table["value"])


def figure_table(
    scores: dict[str, figures.Scores],
    models: dict[str, dict[str, Any]],
    variants: dict[str, str],
    settings: StatisticsConfig,
) -> pd.DataFrame:
    """Everything that is plotted: models from large to small, meta-prompts by arm as given."""
    parts = []
    for model in figures.large_to_small(models):
        facts = {"model": model, "label": models[model]["label"]}
        plain = baseline_rows(scores.get("steered", {}).get(model), settings)
        parts.append(plain.assign(**facts, arm="steered"))
        for arm, template in variants.items():
            table = variant_table(scores, arm, template, model, settings)
            parts.append(table.assign(**facts, arm=arm, meta_prompt=template))
    table = pd.concat(parts, ignore_index=True).reindex(columns=COLUMNS)
    table["p_holm"] = table.groupby(["model", "panel"])["p_value"].transform(holm)
    return table


def legend_label(table: pd.DataFrame) -> str:
    """Name of a model and its pairs a meta-prompt."""
    label, n = table["label"].iloc[0], table.loc[table["value"].notna(), "n"]
    if n.empty:
        return f"{label}: not run"
    return (
        f"{label}: {n.min()} pairs" if n.min() == n.max() else f"{label}: {n.min()}-{n.max()} pairs"
    )


def draw_panel(axes: Axes, table: pd.DataFrame, panel: str) -> None:
    """Draw one measure: a row a prompt, in it the difference of every model."""
    models, arms = list(table["model"].unique()), list(table["arm"].unique())
    looks, offsets = style.model_looks(models), style.dodge(len(models), 0.7)
    middle = axes.get_yaxis_transform()
    axes.axhline(0.5, color=style.GREY, lw=0.6)
    axes.plot([0, 0], [0.5, len(arms) - 0.5], color=style.INK, lw=0.8)
    for model, offset in zip(models, offsets, strict=True):
        mine = table[table["model"].eq(model) & table["panel"].eq(panel)]
        rows, (colour, marker) = (
            style.drop_degenerate_intervals(mine).set_index("arm").loc[arms],
            looks[model],
        )
        ends = (rows["value"], rows["low"], rows["high"])
        look = {"marker": marker, "label": legend_label(mine)}
        style.points(axes, np.arange(len(arms)) + offset, *ends, colour, lying=True, **look)
        for place, row in enumerate(rows.itertuples()):
            text = f"{row.baseline:.1f}" if row.Index == "steered" else "n/a"
            text = ABSENT.get(str(row.status), text)
            if np.isnan(row.value) and mine["n"].any():  # else the legend says it once
                axes.text(0.5, place + offset, text, transform=middle, color=colour, **NOTE)
    axes.set(title=figures.TITLES[panel], ylim=(len(arms) - 0.5, -0.5))
    axes.set_xlabel("change (points)" if panel in POINTS else "change (% points)")
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)


def draw(table: pd.DataFrame, title: str, level: float) -> Figure:
    """Draw the figure: a column a measure, a row a meta-prompt."""
    variants = table.drop_duplicates("arm")["meta_prompt"].iloc[1:]
    texts = [fill(text.replace("{prompt}", "").strip(), 31) for text in variants]
    rows = 1 + len(texts)
    height = 1.2 + rows * max(0.45, 0.13 * table["model"].nunique())
    figure, grid = plt.subplots(1, len(PANELS), figsize=(style.WIDTH, height), sharey=True)
    for axes, panel in zip(grid, PANELS, strict=True):
        draw_panel(axes, table, panel)
    grid[0].set_yticks(range(rows), ["plain prompt\n(value)", *texts], fontsize=7.5)
    style.legend_above(figure, grid[0])
    interval = f"{100 * level:.0f} % intervals: latents drawn together in both arms"
    style.footnote(
        figure, f"{title}. Change from the plain prompt, same trials; {interval}. {style.ALIKE}"
    )
    return figure


def main(job: Any) -> None:
    """Write the figure and its data."""
    config = config_of(job)
    variants = {name: str(config.arms[name].meta_prompt) for name in config.meta_arms}
    scores = figures.read_scores(job.input.scores)
    table = figure_table(scores, dict(job.params.models), variants, config.statistics)
    figures.write_figure(job, table, draw)


if __name__ == "__main__":
    main(start(snakemake))

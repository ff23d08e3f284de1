"""Make figures/figA3.{pdf,png,csv}: how each judge ranks the models, by the steered arm.

CSV, one row a point: judge, model, label, measure, value, low, high (percent or points),
n (trials of the sample), n_clusters (latents), status, rank, rank_low, rank_high.
"""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from esr.agreement.compare import rank_models
from esr.agreement.sample import by_judge
from esr.analysis.measures import MEASURES
from esr.config import StatisticsConfig
from esr.figures import style
from esr.figures.tables import large_to_small, write_figure
from esr.job import config_of, start
from esr.tables import read_table, read_tables

SHOWN = ["multi_attempt_rate", "esr_rate", "msi"]


def figure_table(
    sample: pd.DataFrame,
    scores: dict[str, pd.DataFrame],
    models: dict[str, dict[str, Any]],
    settings: StatisticsConfig,
) -> pd.DataFrame:
    """Everything that is plotted, models from large to small: their steered arms, if sampled."""
    order = large_to_small(models)
    inside = sample["model"].isin(order)
    steered = inside & sample["arm"].eq("steered")
    inside = steered if steered.any() else inside
    sample = sample[inside].reset_index(drop=True)
    scores = {
        judge: table[inside.to_numpy()].reset_index(drop=True) for judge, table in scores.items()
    }
    table = rank_models(sample, scores, SHOWN, settings)
    table["label"] = table["model"].map({name: models[name]["label"] for name in order})
    key = {"model": order, "measure": SHOWN, "judge": list(dict.fromkeys(table["judge"]))}
    for column, names in key.items():
        table[column] = pd.Categorical(table[column], names)
    return table.sort_values(["measure", "judge", "model"], ignore_index=True)


def rank_text(row: Any) -> str:
    """Rank of a model, and its interval if that spans several ranks."""
    if pd.isna(row.rank):
        return "n/a"
    if pd.isna(row.rank_low) or row.rank_low == row.rank_high:
        return f"{row.rank:.0f}"
    return f"{row.rank:.0f} ({row.rank_low:.0f}-{row.rank_high:.0f})"


def draw_measure(axes: Axes, table: pd.DataFrame, name: str) -> None:
    """Draw a measure: a row a model, a point a judge, and the ranks."""
    judges = list(table["judge"].cat.categories)
    looks = style.model_looks(judges)
    rated = style.drop_degenerate_intervals(table[table["status"].ne("not_rated")])
    models = list(dict.fromkeys(table["model"]))
    for offset, judge in zip(style.dodge(len(judges), 0.7), judges, strict=True):
        part = rated[rated["judge"].eq(judge)]
        places = [models.index(model) + offset for model in part["model"]]
        colour, marker = looks[judge]
        ends = (part["value"], part["low"], part["high"])
        style.points(axes, places, *ends, colour, horizontal=True, marker=marker, label=judge)
        for place, row in zip(places, part.itertuples(), strict=True):
            side: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "fontsize": 6.5}
            axes.text(1.01, place, rank_text(row), va="center", **side)
    axes.text(1.01, 1.0, "rank", transform=axes.transAxes, va="bottom", fontsize=6.5)
    measure = MEASURES[name]
    axes.set(title=measure.label, xlabel=measure.unit_label, ylim=(len(models) - 0.5, -0.5))
    axes.set_yticks(range(len(models)), table.drop_duplicates("model")["label"])
    axes.grid(axis="x")
    axes.axvline(0, color=style.INK, lw=0.8)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)


def draw(table: pd.DataFrame, title: str, level: float) -> Figure:
    """Draw the figure: a panel a measure."""
    points = table["judge"].nunique() * table["model"].nunique()
    size = (style.WIDTH, max(2.8, 0.16 * points + 1.8))
    figure, panels = plt.subplots(1, len(SHOWN), figsize=size, sharey=True)
    for axes, name in zip(panels, SHOWN, strict=True):
        draw_measure(axes, table[table["measure"].eq(name)], name)
    style.legend_above(figure, panels[0], columns=4)
    interval = f"{100 * level:.0f} % intervals: bootstrap over latents"
    style.footnote(
        figure, f"{title}. Weighted to all trials. {interval}. {style.NO_VARIATION_NOTE}"
    )
    return figure


def main(job: Any) -> None:
    """Write the figure and its data."""
    config = config_of(job)
    scores = by_judge(read_tables(job.input.scores, "scores"))
    sample = read_table(Path(job.input.sample), "sample")
    table = figure_table(sample, scores, dict(job.params.models), config.statistics)
    write_figure(job, table, draw)


if __name__ == "__main__":
    main(start(snakemake))

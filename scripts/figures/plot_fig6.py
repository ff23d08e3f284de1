"""Make figures/fig6.{pdf,png,csv}: what fine-tuning on self-corrections does, by their share.

CSV, one row a value: model (that was fine-tuned), label, kind, arm, panel, statistic, share
(percent of self-corrections; 0 is the model itself), value (in the unit of the panel), low, high,
p_value, n, status. Kinds: `level` (a measure at a share), `difference` (paired, share minus base),
`trend` (statistics of `esr.analysis.trends.share_trends`), `peak` (share of the highest value).
"""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from esr.analysis.measures import MEASURES
from esr.analysis.trends import share_trends
from esr.config import FineTuned, StatisticsConfig
from esr.figures import style
from esr.figures import tables as figures
from esr.job import config_of, start

PANELS = ["mean_attempts", "msi", "success_rate", "multi_attempt_rate"]
MEASURED = [*PANELS, "esr_rate", "first_score"]
"""In the CSV; the figure shows `PANELS`."""
COLUMNS = ["model", "label", "kind", "arm", "panel", "statistic", "share", "value", "low", "high"]
COLUMNS += ["p_value", "n", "status"]
TITLES = figures.TITLES | {"mean_attempts": "Attempts"}
UNITS = figures.UNITS | {"mean_attempts": "attempts per trial"}


def by_share(
    scores: figures.Scores, base: str, finetuned: Mapping[str, FineTuned]
) -> dict[int, pd.DataFrame]:
    """Scores of an arm by share, the base as share 0 (unless a mixture has that share)."""
    found = {0: base} | {made.share: name for name, made in finetuned.items() if made.base == base}
    return {share: scores[name] for share, name in sorted(found.items()) if name in scores}


def base_table(
    scores: Mapping[str, figures.Scores],
    base: str,
    finetuned: Mapping[str, FineTuned],
    settings: StatisticsConfig,
) -> pd.DataFrame:
    """Everything that is known of one base and what was made of it."""
    parts = []
    for arm, cluster in figures.CLUSTERS.items():
        shares = by_share(scores.get(arm, {}), base, finetuned)
        for share, table in shares.items() if len(shares) > 1 else ():
            found = figures.estimates(table, MEASURED, settings, cluster=cluster)
            parts.append(found.assign(kind="level", arm=arm, share=share))
    steered = by_share(scores.get("steered", {}), base, finetuned)
    for share, table in steered.items():
        if share:
            found = figures.differences(steered[0], table, MEASURED, settings)
            parts.append(found.assign(kind="difference", share=share))
    parts.append(share_trends(steered, settings, MEASURED).assign(kind="trend"))
    # Models may have made the same trial: its name says which of them did.
    joined = pd.concat(
        table.assign(level=float(share), trial_id=f"{share}/" + table["trial_id"])
        for share, table in steered.items()
    )
    parts.append(figures.peaks(joined, PANELS, settings).assign(kind="peak"))
    return pd.concat(parts, ignore_index=True)


def figure_table(
    scores: Mapping[str, figures.Scores],
    finetuned: Mapping[str, FineTuned],
    labels: Mapping[str, str],
    settings: StatisticsConfig,
) -> pd.DataFrame:
    """Everything that is plotted; rows that say so if the study fine-tunes nothing."""
    bases = list(dict.fromkeys(made.base for made in finetuned.values()))
    parts = [
        base_table(scores, base, finetuned, settings).assign(model=base, label=labels[base])
        for base in bases
    ]
    if not parts:
        parts = [figures.missing(MEASURED, "not_run").assign(kind="level")]
    table = pd.concat(parts, ignore_index=True)
    table["arm"] = table.get("arm", pd.Series(index=table.index, dtype=object)).fillna("steered")
    return table.reindex(columns=COLUMNS)


def draw_panel(axes: Axes, table: pd.DataFrame, panel: str) -> None:
    """Draw one measure over the share: steered in colour, unsteered in grey, base dashed."""
    models = list(table["model"].dropna().unique())
    looks = style.model_looks(models)
    axes.set(title=TITLES[panel], ylabel=UNITS[panel])
    if not models:
        style.empty_panel(axes, "not run")
        return
    levels = style.drop_degenerate_intervals(
        table[table["panel"].eq(panel) & table["kind"].eq("level")]
    )
    for model in models:
        mine = levels[levels["model"].eq(model)]
        colour, marker = looks[model]
        for arm, hue in (("unsteered", style.GREY), ("steered", colour)):
            rows = mine[mine["arm"].eq(arm) & mine["share"].gt(0)]
            base = mine[mine["arm"].eq(arm) & mine["share"].eq(0)]
            if rows.empty:
                continue
            line: dict[str, Any] = {
                "linestyle": "-",
                "marker": marker,
                "label": f"{mine['label'].iloc[0]}, {arm}",
            }
            style.points(axes, rows["share"], rows["value"], rows["low"], rows["high"], hue, **line)
            for row in base.itertuples():
                axes.axhline(row.value, color=hue, ls="--", lw=1)
                if arm == "steered":
                    axes.axhspan(row.low, row.high, color=hue, alpha=0.12, lw=0)
    axes.text(0.02, 0.98, trend_text(table, panel), transform=axes.transAxes, va="top", fontsize=7)
    axes.set_xlim(0, 100)
    axes.grid(axis="y")
    if MEASURES[panel].is_rate:
        axes.set_ylim(0, max(10.0, 1.25 * axes.get_ylim()[1]))
        axes.set_yticks([tick for tick in axes.get_yticks() if tick <= 100])
    else:
        low, high = axes.get_ylim()
        axes.set_ylim(low, high + 0.2 * (high - low))


def trend_text(table: pd.DataFrame, panel: str) -> str:
    """Rank correlation with the share, and slope over the upper half of shares, of every base."""
    lines = []
    rows = table[table["kind"].eq("trend") & table["panel"].eq(panel)].set_index("statistic")
    for label, mine in rows.groupby("label", sort=False):
        rank, upper = mine.loc["rank_correlation"], mine.loc["slope_upper"]
        first = style.with_interval(rank["value"], rank["low"], rank["high"], digits=2)
        second = style.with_interval(upper["value"], upper["low"], upper["high"], digits=2)
        name = f"{label}: " if len(rows["label"].unique()) > 1 else ""
        lines.append(f"{name}rank correlation {first}\nupper half, per 10 points: {second}")
    return "\n".join(lines)


def draw(table: pd.DataFrame, title: str, level: float) -> Figure:
    """Draw the figure: four measures over the share of self-corrections."""
    figure, grid = plt.subplots(2, 2, figsize=(style.WIDTH, 5.6), sharex=True)
    for axes, panel in zip(grid.flat, PANELS, strict=True):
        draw_panel(axes, table, panel)
    for axes in grid[1]:
        axes.set_xlabel("self-corrections in the training data (%)")
    style.legend_above(figure, grid[0, 0])
    interval = f"{100 * level:.0f} % intervals: bootstrap over latents (unsteered: prompts)"
    style.footnote(
        figure,
        f"{title}. {interval}; dashed: not fine-tuned; hollow: trials all alike, or too few.",
    )
    return figure


def main(job: Any) -> None:
    """Write the figure and its data."""
    config = config_of(job)
    scores = figures.read_scores(job.input.scores)
    labels = {name: model.label for name, model in config.models.items()}
    table = figure_table(scores, config.finetuned, labels, config.statistics)
    figures.write_figure(job, table, draw)


if __name__ == "__main__":
    main(start(snakemake))

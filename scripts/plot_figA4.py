"""Make figures/figA4.{pdf,png,csv}: attempts and first scores of every pair of judges.

CSV, one row a mark: part (`attempts`, `first_score`, `histogram`, `statistic`), judge_a, judge_b,
a and b (attempts counted, the last of them `CAP` or more; first scores in points; edges of a bin),
n (trials), statistic, estimate, low, high, status (statistics).
"""

from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from esr import style
from esr.job import config_of, output, start
from esr.tables import read_table

CAP = 5
"""Attempts counted as one class from here on."""
BINS = np.linspace(0, 100, 21)
COLUMNS = ["part", "judge_a", "judge_b", "a", "b", "n"]
COLUMNS += ["statistic", "estimate", "low", "high", "status"]
SHOWN = {"n_attempts": ["agreement", "icc"], "first_score": ["icc", "bias"]}


def pair_marks(scores: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    """Marks of a pair: trials by attempts counted, and by first score."""
    parts = []
    for part in ("attempts", "first_score"):
        column = "n_attempts" if part == "attempts" else part
        both = pd.DataFrame({"a": scores[first][column], "b": scores[second][column]}).dropna()
        both = both.clip(upper=CAP) if part == "attempts" else both
        counts = both.astype(float).value_counts(sort=False).rename("n").reset_index()
        parts.append(counts.sort_values(["a", "b"]).assign(part=part))
    return pd.concat(parts).assign(judge_a=first, judge_b=second)


def histogram(scores: pd.DataFrame, judge: str) -> pd.DataFrame:
    """Distribution of a judge's first scores."""
    counts, _ = np.histogram(scores["first_score"].dropna().astype(float), BINS)
    columns = {"part": "histogram", "a": BINS[:-1], "b": BINS[1:], "n": counts}
    return pd.DataFrame(columns).assign(judge_a=judge, judge_b=judge)


def figure_table(scores: dict[str, pd.DataFrame], agreement: pd.DataFrame) -> pd.DataFrame:
    """Everything that is plotted; statistics as drawn, since so are the marks."""
    scores = {judge: table[table["status"].eq("ok")] for judge, table in scores.items()}
    shown = {judge: table.set_index("trial_id") for judge, table in scores.items()}
    parts = [histogram(table, judge) for judge, table in shown.items()]
    parts += [pair_marks(shown, *pair) for pair in combinations(shown, 2)]
    told = [
        agreement["quantity"].eq(quantity) & agreement["statistic"].isin(["mean", *statistics])
        for quantity, statistics in SHOWN.items()
    ]
    rows = agreement[(told[0] | told[1]) & agreement["weighting"].eq("sample")]
    rows = rows.assign(part="statistic", statistic=rows["quantity"] + ":" + rows["statistic"])
    return pd.concat([*parts, rows], ignore_index=True)[COLUMNS]


def note(rows: pd.DataFrame, statistic: str, words: str, digits: int, factor: float = 1) -> str:
    """A statistic in words."""
    row = rows[rows["statistic"].eq(statistic)].iloc[0]
    numbers = (factor * row[["estimate", "low", "high"]].astype(float)).tolist()
    return words.format(style.with_interval(*numbers, digits=digits))


def draw_attempts(axes: Axes, marks: pd.DataFrame, rows: pd.DataFrame) -> None:
    """Draw a table of counts, the same number of attempts along the diagonal."""
    most = int(max(2, marks[["a", "b"]].max(axis=None))) if len(marks) else 2
    ends = (0.5, most + 0.5)
    axes.plot(ends, ends, color=style.GREY, lw=0.8)
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    for mark in marks.itertuples():
        colour = style.BLUE if mark.a == mark.b else style.RED
        looks: dict[str, Any] = {"color": colour, "fontsize": 8, "bbox": box}
        axes.text(mark.a, mark.b, str(mark.n), ha="center", va="center", **looks)
    names = [f"{i}+" if i == CAP else str(i) for i in range(1, most + 1)]
    axes.set_xticks(range(1, most + 1), names)
    axes.set_yticks(range(1, most + 1), names)
    text = note(rows, "n_attempts:agreement", "same number: {} %", 1, 100)
    axes.set(xlim=ends, ylim=ends)
    axes.set_title(text, fontsize=7, fontweight="normal")


def draw_scores(axes: Axes, marks: pd.DataFrame, rows: pd.DataFrame) -> None:
    """Draw first scores against each other; the area of a circle is the number of trials."""
    axes.plot([0, 100], [0, 100], color=style.GREY, lw=0.8)
    axes.scatter(
        marks["b"], marks["a"], s=3 * marks["n"].astype(float), color=style.BLUE, alpha=0.35, lw=0
    )
    text = note(rows, "first_score:icc", "ICC {}", 2)
    text += "\n" + note(rows, "first_score:bias", "difference {}", 1)
    axes.set(xlim=(-4, 104), ylim=(-4, 104))
    axes.set_title(text, fontsize=7, fontweight="normal")


def draw_judge(axes: Axes, judge: str, bins: pd.DataFrame, rows: pd.DataFrame) -> None:
    """Draw one judge's first scores."""
    axes.bar(bins["a"], bins["n"], 5, align="edge", color=style.SKY)
    n = int(bins["n"].sum())
    text = note(rows, "first_score:mean", "mean {}", 1) if n else "no scores"
    axes.set(xlim=(-4, 104), yticks=[], xlabel=f"first score, {judge}", ylabel="trials")
    axes.set_title(f"{judge}\n{text}, n = {n}", fontsize=7)


def draw(table: pd.DataFrame, title: str, level: float) -> Figure:
    """Draw the figure: judges on the diagonal, attempts below it, first scores above."""
    judges = table.loc[table["part"].eq("histogram"), "judge_a"].drop_duplicates().tolist()
    count = len(judges)
    side = min(style.WIDTH, 2.6 * count + 1)
    figure, grid = plt.subplots(count, count, figsize=(side, side), squeeze=False)
    for (first, second), part in table.groupby(["judge_a", "judge_b"], sort=False):
        x, y = judges.index(first), judges.index(second)
        marks = {name: part[part["part"].eq(name)] for name in part["part"].unique()}
        if x == y:
            draw_judge(grid[x, x], first, marks["histogram"], marks["statistic"])
            continue
        draw_attempts(grid[y, x], marks.get("attempts", part[:0]), marks["statistic"])
        grid[y, x].set(xlabel=f"attempts, {first}", ylabel=f"attempts, {second}")
        draw_scores(grid[x, y], marks.get("first_score", part[:0]), marks["statistic"])
        grid[x, y].set(xlabel=f"first score, {second}", ylabel=f"first score, {first}")
    interval = f"{100 * level:.0f} % intervals: bootstrap over latents"
    style.footnote(figure, f"{title}.\nTrials as drawn. {interval}.")
    return figure


def main(job: Any) -> None:
    """Write the figure and its data."""
    config = config_of(job)
    paths = zip(config.judging.judges, job.input.scores, strict=True)
    scores = {judge: read_table(Path(path), "scores") for judge, path in paths}
    table = figure_table(scores, read_table(Path(job.input.agreement), "agreement"))
    table.to_csv(output(job, "csv"), index=False, float_format="%.6g")
    figure = draw(table, config.title, config.statistics.level)
    style.save(figure, output(job, "pdf"), output(job, "png"))


if __name__ == "__main__":
    main(start(snakemake))

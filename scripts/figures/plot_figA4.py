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

from esr.agreement.compare import ALL
from esr.agreement.retest import without_retest
from esr.agreement.sample import by_judge
from esr.figures import style
from esr.figures.tables import write_figure
from esr.job import start
from esr.tables import read_table, read_tables

CAP = 5
"""Attempts from which on trials form one class."""
BINS = np.linspace(0, 100, 21)
MARKS = ["histogram", "attempts", "first_score", "statistic"]
COLUMNS = ["part", "judge_a", "judge_b", "a", "b", "n"]
COLUMNS += ["statistic", "estimate", "low", "high", "status"]
SHOWN = ["n_attempts:agreement", "first_score:mean", "first_score:icc", "first_score:bias"]


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
    """Everything that is plotted; statistics and marks are unweighted."""
    scored = {judge: table[table["status"].eq("ok")] for judge, table in scores.items()}
    shown = {judge: table.set_index("trial_id") for judge, table in scored.items()}
    parts = [histogram(table, judge) for judge, table in shown.items()]
    parts += [pair_marks(shown, *pair) for pair in combinations(shown, 2)]
    agreement = without_retest(agreement)
    names = agreement["quantity"] + ":" + agreement["statistic"]
    rows = names.isin(SHOWN) & agreement["weighting"].eq("sample")
    rows = agreement[rows & agreement["arm"].eq(ALL)]
    rows = rows.assign(part="statistic", statistic=names[rows.index])
    return pd.concat([*parts, rows], ignore_index=True)[COLUMNS]


def note(rows: pd.DataFrame, statistic: str, digits: int, *, factor: float = 1) -> str:
    """A statistic with its interval."""
    row = rows.loc[rows["statistic"].eq(statistic), ["estimate", "low", "high"]].iloc[0]
    numbers = factor * row.astype("Float64").to_numpy(float, na_value=np.nan)
    return style.with_interval(*numbers, digits=digits)


def draw_attempts(axes: Axes, marks: pd.DataFrame, rows: pd.DataFrame) -> None:
    """Draw a table of counts, the same number of attempts along the diagonal."""
    most = int(max(2, marks[["a", "b"]].max(axis=None))) if len(marks) else 2
    ends = (0.5, most + 0.5)
    axes.plot(ends, ends, color=style.GREY, lw=0.8)
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    for mark in marks.itertuples():
        colour = style.BLUE if mark.a == mark.b else style.RED
        looks: dict[str, Any] = {"color": colour, "fontsize": 7.5, "bbox": box}
        axes.text(mark.a, mark.b, str(mark.n), ha="center", va="center", **looks)
    names = [f"{i}+" if i == CAP else str(i) for i in range(1, most + 1)]
    axes.set_xticks(range(1, most + 1), names)
    axes.set_yticks(range(1, most + 1), names)
    axes.set(xlim=ends, ylim=ends, xlabel="attempts", ylabel="attempts")
    axes.set_title(f"same (%): {note(rows, 'n_attempts:agreement', 1, factor=100)}")


def draw_scores(axes: Axes, marks: pd.DataFrame, rows: pd.DataFrame) -> None:
    """Draw first scores against each other; larger circles stand for more trials."""
    axes.plot([0, 100], [0, 100], color=style.GREY, lw=0.8)
    size = 4 * np.sqrt(marks["n"].astype(float))
    axes.scatter(marks["b"], marks["a"], s=size, color=style.BLUE, alpha=0.35, lw=0)
    axes.set(xlim=(-4, 104), ylim=(-4, 104), xlabel="points", ylabel="points")
    icc = note(rows, "first_score:icc", 2)
    bias = note(rows, "first_score:bias", 1)
    axes.set_title(f"ICC {icc}\ndiff. {bias}")


def draw_judge(axes: Axes, bins: pd.DataFrame, rows: pd.DataFrame) -> None:
    """Draw one judge's first scores."""
    axes.bar(bins["a"], bins["n"], np.diff(BINS), align="edge", color=style.SKY)
    axes.set(xlim=(-4, 104), yticks=[], xlabel="points", ylabel="trials")
    axes.set_title(f"mean {note(rows, 'first_score:mean', 1)}\nn = {bins['n'].sum():.0f}")


def name_judges(grid: Any, judges: list[str]) -> None:
    """Write the judges' names: horizontal axis above the columns, vertical axis at the left."""
    looks: dict[str, Any] = {"textcoords": "offset points", "fontweight": "bold", "fontsize": 8}
    for i, judge in enumerate(judges):
        above = {"xy": (0.5, 1), "xytext": (0, 28), "ha": "center"}
        beside = {"xy": (0, 0.5), "xytext": (-36, 0), "va": "center", "rotation": 90, "ha": "right"}
        for axes, place in ((grid[0, i], above), (grid[i, 0], beside)):
            axes.annotate(judge, xycoords="axes fraction", **place, **looks)


def draw(table: pd.DataFrame, title: str, level: float) -> Figure:
    """Draw the figure: judges on the diagonal, attempts below it, first scores above."""
    judges = table.loc[table["part"].eq("histogram"), "judge_a"].drop_duplicates().tolist()
    count = len(judges)
    size = (min(style.WIDTH, 2 * count + 2), max(min(style.WIDTH, 2 * count + 2), 1.55 * count))
    figure, grid = plt.subplots(count, count, figsize=size, squeeze=False)
    for (first, second), part in table.groupby(["judge_a", "judge_b"], sort=False):
        x = judges.index(first)
        y = judges.index(second)
        marks = {name: part[part["part"].eq(name)] for name in MARKS}
        if x == y:
            draw_judge(grid[x, x], marks["histogram"], marks["statistic"])
        else:
            draw_attempts(grid[y, x], marks["attempts"], marks["statistic"])
            draw_scores(grid[x, y], marks["first_score"], marks["statistic"])
    for axes in grid.flat:
        axes.title.set(fontsize=6.5, fontweight="normal")
        axes.tick_params(labelsize=7, pad=1)
        axes.xaxis.label.set_size(7)
        axes.yaxis.label.set_size(7)
    name_judges(grid, judges)
    interval = f"{100 * level:.0f} % intervals: bootstrap over latents"
    style.footnote(figure, f"{title}. Trials as drawn. {interval}.")
    return figure


def main(job: Any) -> None:
    """Write the figure and its data."""
    scores = by_judge(read_tables(job.input.scores, "scores"))
    table = figure_table(scores, read_table(Path(job.input.agreement), "agreement"))
    write_figure(job, table, draw)


if __name__ == "__main__":
    main(start(snakemake))

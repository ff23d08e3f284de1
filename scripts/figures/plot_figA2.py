"""Make figures/figA2.{pdf,png,csv}: whether judges find several attempts in the same responses.

CSV: the rows of the table `agreement` that are plotted (all arms together, population weights), as
fractions: rate of each judge; agreement, Cohen's kappa and positive agreement of each pair;
Krippendorff's alpha of all (judges missing).
"""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from esr.agreement.compare import ALL
from esr.agreement.retest import without_retest
from esr.figures import style
from esr.figures.tables import write_figure
from esr.job import start
from esr.tables import read_table

QUESTIONS = {
    "multi_attempt": "Several attempts?",
    "direction": "Last scores higher than first?",
}
SHOWN = ["rate", "agreement", "kappa", "positive_agreement", "alpha"]
SCALE, COLOURS = Normalize(0, 1), plt.get_cmap("Blues")
NONE = (float("nan"), float("nan"))
SIDE_BY_SIDE = 3
"""Number of judges up to which both panels fit beside each other."""


def figure_table(agreement: pd.DataFrame) -> pd.DataFrame:
    """Everything that is plotted."""
    agreement = without_retest(agreement)
    table = agreement[
        agreement["quantity"].isin(QUESTIONS)
        & agreement["statistic"].isin(SHOWN)
        & agreement["weighting"].eq("population")
        & agreement["arm"].eq(ALL)
    ]
    # A cell of a pair shows kappa; its alpha, in the table, leads to the same conclusion.
    return table[table["statistic"].ne("alpha") | table["judge_a"].isna()].reset_index(drop=True)


def cell_text(cell: pd.DataFrame) -> tuple[str, float]:
    """Text of a cell, and the kappa that colours it."""
    first = cell.iloc[0]
    lines = [percent(first), f"n = {first['n']}"]
    if len(cell) == 1:
        return "\n".join(lines), float("nan")
    values = cell.set_index("statistic")["estimate"].astype(float)
    kappa = float(values["kappa"])
    lines[1:1] = [f"κ {style.number(kappa, 2)}"]
    lines[2:2] = [f"pos. {style.with_interval(100 * values['positive_agreement'], *NONE, '%')}"]
    return "\n".join(lines), kappa


def percent(row: pd.Series) -> str:
    """A share and, on the next line, its interval."""
    value, low, high = 100 * row[["estimate", "low", "high"]].astype(float)
    return style.with_interval(value, low, high, "%").replace(" [", "\n[")


def draw_matrix(axes: Axes, table: pd.DataFrame, title: str) -> None:
    """Draw judges against judges: rates on the diagonal, agreement below it."""
    pairs = table[table["judge_a"].notna()]
    judges = list(dict.fromkeys(pairs["judge_a"]))
    for (first, second), cell in pairs.groupby(["judge_a", "judge_b"], sort=False):
        x = judges.index(first)
        y = judges.index(second)
        text, kappa = cell_text(cell)
        face = "#EEEEEE" if x == y else "white" if pd.isna(kappa) else COLOURS(SCALE(kappa))
        edge = "#DDDDDD" if pd.isna(kappa) else "none"
        axes.add_patch(Rectangle((x - 0.48, y - 0.48), 0.96, 0.96, fc=face, ec=edge))
        colour = "white" if kappa > 0.55 else style.INK
        axes.text(x, y, text, ha="center", va="center", color=colour, fontsize=6.5)
    together = table[table["judge_a"].isna()]
    if len(together):
        numbers = together[["estimate", "low", "high"]].iloc[0].astype(float)
        text = f"all: α {style.with_interval(*numbers, digits=2)}".replace(" [", "\n[")
        axes.text(len(judges) - 1, 0, text, ha="center", va="center", fontsize=6.5)
    ends = (-0.5, len(judges) - 0.5)
    places = range(len(judges))
    names = [judge.replace("-", "\n", 1) for judge in judges]
    axes.set(xlim=ends, ylim=ends[::-1], title=title)
    axes.set_xticks(places, names)
    axes.set_yticks(places, names)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def draw(table: pd.DataFrame, title: str, level: float) -> Figure:
    """Draw the figure: a matrix for each question."""
    table = table.astype(dict.fromkeys(["estimate", "low", "high"], float))
    count = table["judge_a"].nunique()
    beside = count <= SIDE_BY_SIDE
    size = (style.WIDTH, 3.6) if beside else (style.WIDTH, 1.4 * count + 1)
    figure, panels = plt.subplots(*((1, 2) if beside else (2, 1)), figsize=size)
    for axes, (quantity, name) in zip(panels, QUESTIONS.items(), strict=True):
        part = table[table["quantity"].eq(quantity)]
        if part.empty:
            style.empty_panel(axes, "no judge gives scores")
        else:
            draw_matrix(axes, part, name)
    figure.colorbar(
        ScalarMappable(SCALE, COLOURS), ax=panels, label="Cohen's κ of the pair", shrink=0.7
    )
    interval = f"{100 * level:.0f} % intervals: bootstrap over latents"
    style.footnote(figure, f"{title}. Weighted to all trials. {interval}.")
    return figure


def main(job: Any) -> None:
    """Write the figure and its data."""
    table = figure_table(read_table(Path(job.input[0]), "agreement"))
    write_figure(job, table, draw)


if __name__ == "__main__":
    main(start(snakemake))

"""How every figure of the project looks, and how it is saved.

Colours are Okabe and Ito's (2008), told apart by readers with any common colour blindness; the same
model, arm or measure keeps its colour from figure to figure.
"""

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, YELLOW, GREY, INK = "#CC79A7", "#56B4E9", "#F0E442", "#8A8A8A", "#222222"
CYCLE = [BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY]

WIDTH = 7.0
"""Width of a full-width figure (inches)."""

mpl.rcParams.update(
    {
        "font.size": 9,
        "axes.titlesize": 9,
        "axes.titleweight": "bold",
        "axes.labelsize": 9,
        "axes.edgecolor": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.prop_cycle": cycler(color=CYCLE),
        "axes.axisbelow": True,
        "grid.color": "#E5E5E5",
        "grid.linewidth": 0.6,
        "legend.frameon": False,
        "figure.dpi": 100,
        "savefig.dpi": 300,
        "pdf.fonttype": 42,
        "figure.constrained_layout.use": True,
    }
)


def save(figure: Figure, pdf: Path, png: Path) -> None:
    """Write a figure as PDF and PNG, without dates, so that equal data give equal bytes."""
    figure.savefig(pdf, metadata={"CreationDate": None, "Creator": None, "Producer": None})
    figure.savefig(png, metadata={"Software": None})
    plt.close(figure)


def bars(axes: Axes, values: ArrayLike, low: ArrayLike, high: ArrayLike, colour: str) -> None:
    """Draw horizontal bars with intervals; a value that is missing is drawn as `n/a`, not as 0."""
    value, lower, upper = (np.asarray(a, float) for a in (values, low, high))
    places = np.arange(len(value))
    there = ~np.isnan(value)
    axes.barh(places[there], value[there], height=0.6, color=colour)
    both = there & ~np.isnan(lower) & ~np.isnan(upper)
    # An interval need not contain the value (rounding); an error bar must not be negative.
    spans = np.maximum([value - lower, upper - value], 0)[:, both]
    axes.errorbar(value[both], places[both], xerr=spans, fmt="none", ecolor=INK, capsize=2.5, lw=1)
    for place in places[~there]:
        axes.text(0, place, " n/a", va="center", color=GREY)
    ends = np.where(both, upper, value)
    for place in places[there]:
        text = f"{value[place]:.1f}"
        axes.annotate(text, (ends[place], place), (4, 0), textcoords="offset points", va="center")
    axes.margins(x=0.3)
    axes.grid(axis="x")


def footnote(figure: Figure, text: str) -> None:
    """Put a line under a figure: what it is evidence about."""
    figure.supxlabel(text, fontsize=7.5, color=GREY)

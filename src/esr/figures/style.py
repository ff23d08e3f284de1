"""The look of every figure, and how a figure is saved.

Colours are those of Okabe and Ito (2008), which readers with any common colour blindness can
distinguish; a model, arm or measure has the same colour in every figure.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from cycler import cycler
from fontTools import subset
from fontTools.ttLib import TTFont
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from esr.figures.numbers import number as number
from esr.figures.numbers import with_interval as with_interval

FloatArray = NDArray[np.floating[Any]]

BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, YELLOW, GREY, INK = "#CC79A7", "#56B4E9", "#F0E442", "#8A8A8A", "#222222"
CYCLE = [BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY]
MARKERS = ["o", "s", "D", "^", "v", "P", "X"]
STEERED, UNSTEERED = BLUE, GREY
ARM_BARS = {"steered": (STEERED, -0.18), "unsteered": (UNSTEERED, 0.13)}
"""Colour and offset of the bars of steered and unsteered trials."""
GROUPS = {"episode": RED, "baseline": GREEN, "unrestarted": PURPLE}
LINES = {"episode": "-", "baseline": "--", "unrestarted": "-."}
"""Colours and lines of the groups of `esr.episodes.extract`."""

NULL: dict[str, Any] = {"linestyle": "none", "marker": "D", "ms": 5, "zorder": 4}
NULL |= {"mec": INK, "mfc": "white", "mew": 1.1}
"""Look of the marks of a redraw null."""

FONT_TABLES = {"glyf", "head", "hhea", "hmtx", "loca", "maxp", "cvt ", "fpgm", "prep"}
"""Tables of a font that a PDF needs where it names glyphs by index (ISO 32000-1, 9.9)."""

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
        "svg.hashsalt": "esr",
        # Labels, titles and prompts are text: two dollar signs in one are no formula.
        "text.parse_math": False,
        "figure.constrained_layout.use": True,
    }
)


_load_font = subset.load_font


def _font_of_placed_text(*args: Any, **settings: Any) -> TTFont:
    """A font for a PDF with `FONT_TABLES` alone; the others take most of the time of saving it.

    Matplotlib has placed every glyph and writes the text of each, and has no setting for it.
    """
    font = _load_font(*args, **settings)
    for table in set(font.keys()) - FONT_TABLES - {"GlyphOrder"}:
        del font[table]
    return font


subset.load_font = _font_of_placed_text


def save(figure: Figure, pdf: Path, png: Path) -> None:
    """Write a figure as PDF and PNG, without dates: equal data give equal bytes.

    `Figure.savefig` would draw each of them twice: first to place what is drawn, with no result.
    """
    dpi = mpl.rcParams["savefig.dpi"]
    figure.set_dpi(dpi)
    dates = dict.fromkeys(["CreationDate", "Creator", "Producer"])
    FigureCanvasPdf(figure).print_pdf(pdf, metadata=dates)
    figure.set_layout_engine("none")  # the PNG has the layout of the PDF
    figure.set_dpi(dpi)  # a PDF has 72 points an inch
    FigureCanvasAgg(figure).print_png(png, metadata={"Software": None})
    plt.close(figure)


NO_VARIATION_NOTE = "No interval where all trials are equal (bound in the CSV)."
"""Footnote of figures that draw with `drop_degenerate_intervals`."""


def drop_degenerate_intervals(table: pd.DataFrame) -> pd.DataFrame:
    """Rows for drawing: without the interval where judges never differ.

    Such a bound (status `no_variation`) allows for latents very different from those drawn and
    would dwarf the other intervals. It is in the CSV.
    """
    bound = table["status"].eq("no_variation")
    return table.assign(low=table["low"].mask(bound), high=table["high"].mask(bound))


def interval_note(level: float) -> str:
    """What the intervals of rates, means and differences are, for footnotes."""
    return f"{100 * level:.0f} % intervals: other latents, other prompts"


def bars(
    axes: Axes,
    values: ArrayLike,
    low: ArrayLike,
    high: ArrayLike,
    colour: str,
    *,
    offset: float = 0.0,
    height: float = 0.6,
    texts: Sequence[str] | None = None,
) -> None:
    """Draw horizontal bars with intervals; a missing value is drawn as `n/a`, not as 0.

    Args:
        axes: To draw in; bar i lies at height i.
        values: Ends of the bars; NaN where missing.
        low: Lower ends of the intervals; NaN where there is none.
        high: Upper ends.
        colour: Of the bars.
        offset: Distance from i, for bars of several arms side by side.
        height: Of a bar.
        texts: Text at the end of each bar; by default its value.
    """
    value, lower, upper = (np.asarray(a, float) for a in (values, low, high))
    places = np.arange(len(value)) + offset
    present = ~np.isnan(value)
    axes.barh(places[present], value[present], height=height, color=colour)
    both = present & ~np.isnan(lower) & ~np.isnan(upper)
    spans = _spans(value, lower, upper)[:, both]
    axes.errorbar(value[both], places[both], xerr=spans, fmt="none", ecolor=INK, capsize=2.5, lw=1)
    for place in places[~present]:
        axes.text(0, place, " n/a", va="center", color=GREY)
    ends = np.where(both, upper, value)
    shown = texts if texts is not None else [number(end) for end in value]
    for i in np.flatnonzero(present).tolist():
        where = (max(ends[i], 0), places[i])
        axes.annotate(shown[i], where, (4, 0), textcoords="offset points", va="center")
    axes.margins(x=0.3)
    axes.grid(axis="x")


def arm_bars(
    axes: Axes, table: pd.DataFrame, text: Callable[[Any], str] = lambda row: number(row.value)
) -> None:
    """Draw two bars a model, steered and unsteered, and write their difference under them.

    Args:
        axes: To draw in; model i lies at height i.
        table: Rows of one measure (`esr.figures.tables.no_steering`).
        text: Text at the end of a row's bar.
    """
    models = list(table["model"].unique())
    for arm, (colour, offset) in ARM_BARS.items():
        rows = table[table["arm"].eq(arm)].set_index("model").loc[models]
        ends = (rows["value"], rows["low"], rows["high"])
        texts = [text(row) for row in rows.itertuples()]
        bars(axes, *ends, colour, offset=offset, height=0.28, texts=texts)
    changes = table[table["kind"].eq("difference")].set_index("model").loc[models]
    for place, row in enumerate(changes.itertuples()):
        if not np.isnan(row.value):
            change = with_interval(row.value, row.low, row.high)
            axes.text(0, place + 0.4, f" difference {change}", fontsize=7, va="center")
    named = zip(changes["label"], changes["n"], strict=True)
    axes.set_yticks(
        range(len(models)), [f"{label}\n{n} pairs" if n else label for label, n in named]
    )
    axes.set_ylim(len(models) - 0.4, -0.5)


def points(
    axes: Axes,
    places: ArrayLike,
    values: ArrayLike,
    low: ArrayLike,
    high: ArrayLike,
    colour: str,
    *,
    horizontal: bool = False,
    **line: Any,
) -> None:
    """Draw values as points with intervals; a missing value has no point.

    A point without an interval is hollow.

    Args:
        axes: To draw in.
        places: Abscissae of the points (ordinates if `horizontal`).
        values: The points; NaN where missing.
        low: Lower ends of the intervals; NaN where there is none.
        high: Upper ends.
        colour: Of points and intervals.
        horizontal: Whether values lie along the horizontal axis, as in a forest plot.
        line: Further arguments of `Axes.errorbar` (marker, linestyle, label).
    """
    place, value, lower, upper = (np.asarray(a, float) for a in (places, values, low, high))
    spans = _spans(value, lower, upper)  # NaN: no error bar
    looks: dict[str, Any] = {"color": colour, "marker": "o", "ms": 4.5, "lw": 1, "capsize": 2}
    looks |= {"linestyle": "none"} | line
    across, up = (value, place) if horizontal else (place, value)
    looks["xerr" if horizontal else "yerr"] = spans
    axes.errorbar(across, up, **looks)
    hollow = np.isnan(spans).any(axis=0)
    marker = {"marker": looks["marker"], "ms": looks["ms"], "mec": colour, "mfc": "white"}
    axes.plot(across[hollow], up[hollow], linestyle="none", zorder=3, **marker)


def null_marks(
    axes: Axes, places: ArrayLike, values: ArrayLike, *, horizontal: bool = False
) -> None:
    """Mark what a redraw would give (`esr.analysis.recovery`): a hollow diamond, none if missing.

    Args:
        axes: To draw in.
        places: Abscissae of the marks (ordinates if `horizontal`).
        values: Of the null.
        horizontal: Whether values lie along the horizontal axis.
    """
    place, value = np.asarray(places, float), np.asarray(values, float)
    place, value = place[~np.isnan(value)], value[~np.isnan(value)]
    across, up = (value, place) if horizontal else (place, value)
    axes.plot(across, up, **NULL)


def model_looks(models: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker of every model, the same in all figures of a study."""
    return {
        name: (CYCLE[i % len(CYCLE)], MARKERS[i % len(MARKERS)]) for i, name in enumerate(models)
    }


def dodge(count: int, width: float) -> FloatArray:
    """Offsets, centred on 0, of `count` marks side by side within `width`."""
    return (np.arange(count) - (count - 1) / 2) * width / max(count, 1)


def legend_above(figure: Figure, axes: Axes, columns: int = 3) -> None:
    """Put the legend of one of the axes above the figure, where it covers no data."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside upper center", ncols=min(columns, len(labels)))


def _spans(value: FloatArray, low: FloatArray, high: FloatArray) -> FloatArray:
    # An interval need not contain the value (rounding); an error bar must not be negative.
    return np.maximum([value - low, high - value], 0)


def empty_panel(axes: Axes, note: str) -> None:
    """Leave a panel empty, with a note of the reason."""
    axes.text(0.5, 0.5, note, transform=axes.transAxes, ha="center", va="center", color=GREY)
    axes.set(xticks=[], yticks=[])


def footnote(figure: Figure, text: str) -> None:
    """Put a line or two under a figure, such as what it is evidence about."""
    figure.supxlabel(fill(text, int(17 * figure.get_figwidth())), fontsize=7.5, color=GREY)

"""Forest plot of all claims: a track a claim, with its region, interval and verdict.

Claims have different units, so every track has its own scale. It holds the interval, the ends of
the region and the null. Positions are in units of an SVG that is `WIDTH` wide.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlencode

import pandas as pd

from esr.analysis.claims import parse_where

WIDTH, PAD = 300.0, 20.0
"""Width of a track, and the room at either side of its scale."""
SHAPES = {
    "confirmed": "disc",
    "refuted": "cross",
    "undecided": "ring",
    "underpowered": "triangle",
    "uncorroborated": "square",
    "depends on the judge": "diamond",
    "not run": "bar",
}
"""Shape of each verdict; its colour means the same."""
TRIALS = {
    "multi_attempt_rate": {"attempts": "2+"},
    "mean_attempts": {"attempts": "2+"},
    "esr_rate": {"change": "up"},
    "success_rate": {"attempts": "2+"},
    "msi": {"change": "up"},
}
"""Filters of the transcripts that show a measure."""
ARMS = {"sweep": "boost-sweep", "peak": "boost-sweep", "point": "boost-sweep"}
"""Arm behind rows of a kind that name none; else `steered`."""


@dataclass(frozen=True)
class Track:
    """One claim of the plot.

    Attributes:
        row: Its row of the scorecard.
        shape: Shape of the verdict.
        region: First and last position of the region in which the claim holds.
        interval: First and last position of the measured interval; None without one.
        mark: Position of the measured value; None without one.
        null: Position of the null; None without one.
        ends: Positions and values of the finite ends of the region.
        arrows: Whether the interval goes beyond the track on the left and on the right.
        figure: Address of the figure or table behind it.
        transcripts: Address of transcripts that show it; empty if no single model is meant.
    """

    row: Mapping[str, Any]
    shape: str
    region: tuple[float, float]
    interval: tuple[float, float] | None
    mark: float | None
    null: float | None
    ends: tuple[tuple[float, float], ...]
    arrows: tuple[bool, bool]
    figure: str
    transcripts: str


def track(row: Mapping[str, Any], figures: Sequence[str], models: Sequence[str]) -> Track:
    """Lay out a claim.

    Args:
        row: Row of the scorecard.
        figures: Names of the figures in the report.
        models: Names of the study's models.
    """
    lower, upper, low, high, value = (
        _number(row.get(name)) for name in ("lower", "upper", "low", "high", "measured")
    )
    null = _number(row.get("null"))
    left, right = _scale([lower, upper, low, high, value, null])

    def at(number: float) -> float:
        share = (min(max(number, left), right) - left) / (right - left)
        return round(PAD + share * (WIDTH - 2 * PAD), 2)

    measured = None if low is None or high is None else (at(low), at(high))
    return Track(
        row=row,
        shape=SHAPES[row["verdict"]],
        region=(
            0.0 if lower is None else at(lower),
            WIDTH if upper is None else at(upper),
        ),
        interval=measured,
        mark=None if value is None else at(value),
        null=None if null is None else at(null),
        ends=tuple((at(end), end) for end in (lower, upper) if end is not None),
        arrows=(low is not None and low < left, high is not None and high > right),
        figure=figure_of(row, figures),
        transcripts=transcripts_of(str(row.get("where", "")), models),
    )


def figure_of(row: Mapping[str, Any], figures: Sequence[str]) -> str:
    """Address of the figure that a claim names, else of the table that it reads."""
    named = re.fullmatch(r"Figure (\w+)", str(row.get("experiment", "")))
    if named and f"fig{named[1]}" in figures:
        return f"figures.html#fig{named[1]}"
    path = PurePosixPath(str(row.get("table", "")))
    if path.stem in figures:
        return f"figures.html#{path.stem}"
    return f"tables.html#{path.stem}" if path.stem else "tables.html"


def transcripts_of(where: str, models: Sequence[str]) -> str:
    """Address of the transcripts behind a row of a table, by its selector."""
    conditions = parse_where(where) if where else []
    wanted = {column: values for column, sign, values in conditions if sign == "="}
    named = [name for name in wanted.get("model", ()) if name in models]
    if not named:
        return ""
    (kind,), (measure,) = wanted.get("kind", [""])[:1], wanted.get("measure", [""])[:1]
    arm = wanted.get("arm", [ARMS.get(kind, "steered")])[0]
    state = {"model": named[0], "arm": arm.split(" - ")[-1 if "random" in arm else 0]}
    state |= TRIALS.get(measure, {})
    return f"transcripts.html#{urlencode(state)}"


def _scale(numbers: Sequence[float | None]) -> tuple[float, float]:
    """Ends of a scale that holds all finite numbers; never empty."""
    finite = [number for number in numbers if number is not None and math.isfinite(number)]
    if not finite:
        return 0.0, 1.0
    left, right = min(finite), max(finite)
    return (left, right) if right > left else (left - 1.0, right + 1.0)


def _number(value: Any) -> float | None:
    return None if value is None or value == "" or pd.isna(value) else float(value)

"""Tables behind the figures, and the files of a figure."""

from collections.abc import Callable
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from esr.analysis.rows import (
    BOTH,
    differences,
    estimates,
    large_to_small,
    missing,
    no_steering,
    peaks,
)
from esr.figures.style import save
from esr.job import config_of, output

__all__ = [
    "BOTH",
    "differences",
    "estimates",
    "large_to_small",
    "missing",
    "no_steering",
    "peaks",
    "write_figure",
]


def write_figure(
    job: Any, table: pd.DataFrame, draw: Callable[[pd.DataFrame, str, float], Figure]
) -> None:
    """Write the three files of a figure: its numbers (CSV) and the drawing (PDF, PNG).

    Args:
        job: Snakemake's job, with outputs `csv`, `pdf`, `png`.
        table: Everything that is plotted.
        draw: Draws it, given the study's title and the level of the intervals.
    """
    config = config_of(job)
    table.to_csv(output(job, "csv"), index=False, float_format="%.6g")
    figure = draw(table, config.title, config.statistics.level)
    save(figure, output(job, "pdf"), output(job, "png"))

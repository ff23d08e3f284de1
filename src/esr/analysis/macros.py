"""Numbers that a text can cite, each with a name: from tables and figures to JSON and LaTeX."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd

from esr.analysis.summaries import CELL
from esr.analysis.ways import of_way
from esr.errors import EsrError

NAMES = ["Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine"]
DIGITS = {str(digit): name for digit, name in enumerate(NAMES)}


def letters_only(name: str) -> str:
    """A name in letters alone, which TeX requires: `ablate-random-0` becomes `AblateRandomZero`."""
    words = re.split(
        r"[^A-Za-z0-9]+", "".join(f" {DIGITS[c]} " if c in DIGITS else c for c in name)
    )
    return "".join(word[:1].upper() + word[1:] for word in words)


def macro_name(*parts: str) -> str:
    r"""Name of a number in a text: `\esr<Model><Arm><Measure><Part>`."""
    return "esr" + "".join(letters_only(part) for part in parts)


Numbers = dict[str, dict[str, Any]]
"""Numbers by macro name: `value` (None if undefined, never 0), `unit`, and their origin."""

ESTIMATE = {"estimate": "estimate", "low": "low", "high": "high", "n": "n"}
DIFFERENCE = {
    "difference": "difference",
    "difference_low": "low",
    "difference_high": "high",
    "relative_change": "relative_change",
    "relative_low": "relative_low",
    "relative_high": "relative_high",
    "p_value": "p_value",
}
FIGURE = {"estimate": "value", "low": "low", "high": "high"}
UNITS = {"n": "trials", "p_value": "probability"}
UNITS |= dict.fromkeys(("relative_change", "relative_low", "relative_high"), "percent")
"""Units of the parts that have one of their own."""
PER_SHARE = "per 10 points of share"
TWO_DECIMALS = ("fraction", "sd", "attempts", "ratio", PER_SHARE)
UNBOUNDED = "unbounded"
"""Status of a number that is infinite."""
UNNAMED = {"estimate", "against"}
"""Parts of a name that are left out."""


def cited(
    table: pd.DataFrame, of: Sequence[str], parts: Mapping[str, str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Numbers of a table with their names, which consist of the columns `of` and the part.

    A number that is infinite (an end without bound) has no value and the status `unbounded`: JSON
    has no infinity.

    Args:
        table: One row an estimate, with a column `unit`.
        of: Columns that identify a row; missing entries are left out.
        parts: Column of the number by the part of its name.
    """
    for row in table.to_dict("records"):
        where = {column: row[column] for column in of if not pd.isna(row[column])}
        words = [str(value) for column, value in where.items() if column not in UNNAMED]
        for part, column in parts.items():
            name = macro_name(*words, *([] if part in UNNAMED else [part]))
            value = None if pd.isna(row[column]) else float(row[column])
            number = where | {"part": part, "unit": UNITS.get(part, row["unit"]), "value": value}
            if value is not None and np.isinf(value):
                number |= {"value": None, "status": UNBOUNDED}
            yield name, number


def collect_macros(*groups: Iterable[tuple[str, dict[str, Any]]]) -> Numbers:
    """All numbers by name.

    Raises:
        EsrError: two numbers have the same name.
    """
    found: Numbers = {}
    for name, number in chain.from_iterable(groups):
        if name in found:
            raise EsrError(f"two numbers would be called {name}; rename a model or an arm")
        found[name] = number
    return found


def cite_arms(
    summary: pd.DataFrame, comparisons: pd.DataFrame
) -> Iterator[tuple[str, dict[str, Any]]]:
    r"""Measures of every arm, and changes: `\esr<Model><Arm><Measure><Part>`."""
    yield from cited(of_way(summary), [*CELL, "measure"], ESTIMATE)
    yield from cited(of_way(comparisons), [*CELL, "measure", "against"], DIFFERENCE)


def cite_recovery(recovery: pd.DataFrame) -> Iterator[tuple[str, dict[str, Any]]]:
    r"""Recovery against its null: `\esr<Model><Arm><Measure>Recovery<Null|Excess|...>`."""
    parts = {"null": "null", "excess": "excess", "excess_low": "low", "excess_high": "high"}
    rows = of_way(recovery).assign(table="recovery")
    yield from cited(rows, [*CELL, "measure", "table"], parts | {"p_value": "p_value"})


def cite_sweep(fig3: pd.DataFrame) -> Iterator[tuple[str, dict[str, Any]]]:
    r"""Where measures peak: `\esr<Model>BoostSweep<Measure>Peak<Part>`, sd from the mean."""
    peaks = fig3[fig3["kind"].eq("peak")].assign(arm="boost-sweep", unit="sd")
    yield from cited(peaks, [*CELL, "measure", "kind"], FIGURE)


def cite_finetuning(fig6: pd.DataFrame) -> Iterator[tuple[str, dict[str, Any]]]:
    r"""Trends over the share: `\esr<Model>Finetuning<Measure><Statistic><Part>`."""
    trends = fig6[fig6["kind"].eq("trend")].assign(table="finetuning")
    rank = trends["statistic"].eq("rank_correlation")
    trends["unit"] = rank.map({True: "fraction", False: PER_SHARE})
    yield from cited(
        trends, ["model", "table", "measure", "statistic"], FIGURE | {"p_value": "p_value"}
    )


def cite_detectors(fig5: pd.DataFrame) -> Iterator[tuple[str, dict[str, Any]]]:
    r"""Numbers of detectors: `\esr<Model>Detectors<Found|Given|Both|Confirmed>`."""
    counts = fig5[fig5["kind"].eq("count")].assign(kind="detectors", unit="latents")
    yield from cited(counts, ["model", "kind", "measure"], {"estimate": "value"})


def cite_activations(
    contrasts: pd.DataFrame, lead: pd.DataFrame
) -> Iterator[tuple[str, dict[str, Any]]]:
    r"""Contrasts `\esr<Model><Kind><First><Second><Part>` and lead `\esr<Model><Quantity>`."""
    keys = ["model", "kind", "first", "second"]
    means = {name: name for name in ("mean_first", "mean_second", "difference", "low", "high")}
    yield from cited(contrasts.assign(unit="SAE units"), keys, means)
    effects = {"effect": "effect", "effect_low": "effect_low", "effect_high": "effect_high"}
    yield from cited(contrasts.assign(unit="sd"), keys, effects | {"p_value": "p_holm"})
    yield from cited(lead, ["model", "quantity"], FIGURE | {"n": "n"})


def cite_hazards(hazards: pd.DataFrame) -> Iterator[tuple[str, dict[str, Any]]]:
    r"""Hazard ratios of a restart: `\esr<Model>Hazard<History><Adjusted><Part>`."""
    rows = hazards.assign(table="hazard", unit="ratio", estimate=hazards["hazard_ratio"])
    parts = ESTIMATE | {"p_value": "p_value"}
    yield from cited(rows, ["model", "table", "history", "adjusted"], parts)


def cite_components(components: pd.DataFrame) -> Iterator[tuple[str, dict[str, Any]]]:
    r"""Variance and concentration of restarts: `\esr<Model><Arm><Event><Quantity><Part>`."""
    parts = FIGURE | {"null": "null"}
    yield from cited(components, [*CELL, "event", "quantity"], parts)


def cite_robustness(
    robustness: pd.DataFrame, checks: Collection[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    r"""Checks of the main result of these names: `\esr<Model><Check><Quantity><Part>`."""
    rows = robustness[robustness["check"].isin(checks)]
    yield from cited(rows, ["model", "check", "quantity"], ESTIMATE)


def cite_agreement(agreement: pd.DataFrame) -> Iterator[tuple[str, dict[str, Any]]]:
    r"""Agreement on all trials: `\esrAgreement<Quantity><Judge><Judge><Statistic><Part>`."""
    rows = agreement[agreement["weighting"].eq("population") & agreement["arm"].eq("all")]
    points = rows["quantity"].str.endswith("score") & rows["statistic"].isin(["mean", "bias"])
    rows = rows.assign(table="agreement", unit=points.map({True: "points", False: "fraction"}))
    of = ["table", "quantity", "judge_a", "judge_b", "statistic"]
    yield from cited(rows, of, ESTIMATE)


def tex_number(number: Mapping[str, Any]) -> str:
    r"""A number as printed: integer or 1 or 2 decimals by unit; `n/a`, or `$\infty$`."""
    value = number["value"]
    unit = number["unit"]
    if value is None:
        return r"$\infty$" if number.get("status") == UNBOUNDED else "n/a"
    if unit in ("trials", "latents"):
        return f"{value:,.0f}".replace(",", "{,}")
    if unit == "probability":
        return f"{value:.3g}"
    return f"{value:.2f}" if unit in TWO_DECIMALS else f"{value:.1f}"


def tex_macros(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Definitions of all numbers as LaTeX macros."""
    lines = [f"\\newcommand{{\\{name}}}{{{tex_number(n)}}}" for name, n in found.items()]
    return (
        "% Made by scripts/analysis/collect_numbers.py; \\esr<Model><Arm><Measure><Part>.\n"
        + "\n".join(lines)
        + "\n"
    )

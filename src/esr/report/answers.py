"""What a study answers about each model, in a sentence: rate, recovery, detectors, judges.

Every number comes from a table of the study with its interval. Without a measurement, or if an
interval crosses the edge, the sentence names that instead of a result.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from esr.analysis.claims import RELIABLE

ARM, ABLATED = "steered", "ablate-otd"
RATE, ESR, SUCCESS = "multi_attempt_rate", "esr_rate", "success_rate"
SPECIFICITY = "ablate-random - ablate-otd"
"""Arm of the contrast between random latents and the detectors in `tables/contrasts.csv`."""


@dataclass(frozen=True)
class Answer:
    """The answer about one model: a sentence in four parts, and the numbers behind its words.

    Attributes:
        model: Name of the model.
        label: Its label.
        rate: How often it corrects itself under steering.
        recovery: How often a restart succeeds.
        detectors: Whether its detectors are needed: `yes`, `no`, or why that is not known.
        judges: Whether the rate of restarts depends on the way of grading: `yes`, or `not shown`.
        details: Sentences with the numbers behind recovery, detectors and judges.
    """

    model: str
    label: str
    rate: str
    recovery: str
    detectors: str
    judges: str
    details: tuple[str, ...]


def answers(
    tables: Mapping[str, pd.DataFrame], labels: Mapping[str, str], ways: Mapping[str, str]
) -> list[Answer]:
    """Answers about every model that has the arm `steered`, in the order of `labels`.

    Args:
        tables: Tables of the study by name: summary, recovery, comparisons, contrasts.
        labels: Label of each model.
        ways: Name of each way of grading as shown.
    """
    found = []
    for model, label in labels.items():
        row = _row(tables, "summary", model, ARM, ESR)
        if row is None:
            continue
        recovery, chance = _recovery(tables, model)
        needed, change = _detectors(tables, model)
        depends, rates = _judges(tables, model, ways)
        details = tuple(text for text in (chance, change, rates) if text)
        found.append(Answer(model, label, _rate(row), recovery, needed, depends, details))
    return found


def interval(row: Mapping[str, Any], value: str, unit: str = "") -> str:
    """Value and interval of a row: `8.7 % [5.6, 13.2]`, one decimal place."""
    middle, low, high = (f"{row[name]:.1f}" for name in (value, "low", "high"))
    text = f"{middle}{unit} [{low}, {high}]"
    return text.replace("-0.0", "0.0")


def _rate(row: Mapping[str, Any]) -> str:
    if pd.isna(row["estimate"]):
        return "has no steered response that was scored"
    share = interval(row, "estimate", " %")
    return f"corrects itself in {share} of {int(row['n']):,} steered responses"


def _recovery(tables: Mapping[str, pd.DataFrame], model: str) -> tuple[str, str]:
    """Part of the sentence, and the comparison with a new draw."""
    row = _row(tables, "summary", model, ARM, SUCCESS)
    if row is None or pd.isna(row["estimate"]) or pd.isna(row["low"]):
        return "it makes no second attempt", ""
    text = f"of its {int(row['n']):,} restarts {interval(row, 'estimate', ' %')} improve the score"
    null = _row(tables, "recovery", model, ARM, SUCCESS)
    if null is None or pd.isna(null["null"]) or pd.isna(null["low"]):
        return text, ""
    chance = (
        f"Recovery: a new draw under the same steering would improve it in {null['null']:.1f} %. "
        f"The difference is {interval(null, 'excess')} points: {_side(null)}."
    )
    return text, chance


def _detectors(tables: Mapping[str, pd.DataFrame], model: str) -> tuple[str, str]:
    """Whether they are needed, and by what numbers."""
    row = _row(tables, "comparisons", model, ABLATED, RATE)
    if row is None or pd.isna(row["low"]) or row["status"] not in RELIABLE:
        return "not measured", ""
    text = (
        "Detectors: with their ablation the share of responses that restart changes by "
        f"{interval(row, 'difference')} points"
    )
    if row["low"] > 0:
        return "no", f"{text}."
    other = _row(tables, "contrasts", model, SPECIFICITY, RATE)
    if not row["high"] < 0 or other is None or pd.isna(other["low"]):
        return "not shown", f"{text}."
    text = f"{text}. Ablating random latents leaves {interval(other, 'value')} points more"
    if other["low"] > 0 and other["status"] in RELIABLE:
        return "yes", f"{text}."
    return "not shown", f"{text}, so that the detectors may be no different from random latents."


def _judges(
    tables: Mapping[str, pd.DataFrame], model: str, ways: Mapping[str, str]
) -> tuple[str, str]:
    """Whether the rate of restarts depends on the way of grading, and all rates."""
    rows = {way: _row(tables, "summary", model, ARM, RATE, way) for way in ways}
    known = {way: row for way, row in rows.items() if row is not None and not pd.isna(row["low"])}
    primary = known.get("primary")
    if primary is None or len(known) == 1:
        return "not known, there is one way of grading", ""
    apart = any(_disjoint(primary, row) for row in known.values())
    rates = ", ".join(f"{ways[way]} {interval(row, 'estimate')}" for way, row in known.items())
    return "yes" if apart else "not shown", f"Judges: responses that restart, in %: {rates}."


def _side(row: Mapping[str, Any]) -> str:
    if row["low"] > 0:
        return "more than chance"
    return "less than chance" if row["high"] < 0 else "not distinguishable from chance"


def _disjoint(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    return bool(first["high"] < second["low"] or second["high"] < first["low"])


def _row(
    tables: Mapping[str, pd.DataFrame],
    name: str,
    model: str,
    arm: str,
    measure: str,
    way: str = "primary",
) -> dict[str, Any] | None:
    """The row of a table for a model, arm and measure in one way of grading, if there is one."""
    where = {"way": way, "model": model, "arm": arm, "measure": measure}
    table = tables.get(name)
    if table is None or not set(where) <= set(table):
        return None
    keep = pd.Series(True, table.index)
    for column, value in where.items():
        keep &= table[column].eq(value)
    if name == "contrasts":
        keep &= table["kind"].eq("sets")
    rows: Sequence[dict[Any, Any]] = table[keep].to_dict("records")
    return {str(key): value for key, value in rows[0].items()} if rows else None

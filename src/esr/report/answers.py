"""What a study answers about each model, in a sentence: rate, recovery, detectors, judges.

Every number comes from a table of the study with its interval. Without a measurement, without a
reliable interval, or if an interval crosses the edge, the sentence names that instead of a result.
A word that one way of grading alone would give is not given.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from esr.analysis.claims import RELIABLE
from esr.analysis.ways import INDEPENDENT

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
        rate: How often it restarts and improves under steering, and how often a new draw would.
        recovery: How often a restart succeeds.
        detectors: Whether its detectors contribute: `yes`, `no`, or why that is not known.
        grading: Whether the rate of restarts depends on the way of grading: `yes` with the ways,
            or `not shown`.
        details: Sentences with the numbers behind recovery, detectors and grading.
    """

    model: str
    label: str
    rate: str
    recovery: str
    detectors: str
    grading: str
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
        recovery, chance = _recovery(tables, model, is_scored=not pd.isna(row["estimate"]))
        detectors, change = _detectors(tables, model, ways)
        grading, rates = _grading(tables, model, ways)
        details = tuple(text for text in (chance, change, rates) if text)
        rate = _rate(row, _row(tables, "recovery", model, ARM, ESR))
        found.append(Answer(model, label, rate, recovery, detectors, grading, details))
    return found


def interval(row: Mapping[str, Any], value: str, unit: str = "") -> str:
    """Value and interval of a row: `8.7 % [5.6, 13.2]`, one decimal place; or why it has none."""
    if pd.isna(row["low"]) or pd.isna(row["high"]):
        return f"{_decimal(row[value])}{unit} (no interval: {row['status']})"
    return f"{_decimal(row[value])}{unit} [{_decimal(row['low'])}, {_decimal(row['high'])}]"


def _decimal(number: float) -> str:
    text = f"{number:.1f}"
    return "0.0" if text == "-0.0" else text


def _rate(row: Mapping[str, Any], null: Mapping[str, Any] | None) -> str:
    if pd.isna(row["estimate"]):
        return "has no steered response that was scored"
    share = interval(row, "estimate", " %")
    text = f"restarts and improves its score in {share} of {int(row['n']):,} steered responses"
    if null is None or pd.isna(null["null"]) or not row["estimate"]:
        return text
    chance = f"{_decimal(null['null'])} % ({_side(null)})"
    return f"{text}; with a new draw in place of the last attempt it would in {chance}"


def _recovery(
    tables: Mapping[str, pd.DataFrame], model: str, *, is_scored: bool
) -> tuple[str, str]:
    """Part of the sentence, and the comparison with a new draw."""
    row = _row(tables, "summary", model, ARM, SUCCESS)
    if not is_scored or row is None:
        return "its restarts are not known", ""
    if row["n"] == 0:
        return "the primary judge finds no second attempt", ""
    if pd.isna(row["estimate"]):
        return "the success of its restarts is not known", ""
    text = f"of its {int(row['n']):,} restarts {interval(row, 'estimate', ' %')} improve the score"
    null = _row(tables, "recovery", model, ARM, SUCCESS)
    if null is None or pd.isna(null["null"]):
        return text, ""
    chance = (
        f"Recovery: a new draw under the same steering would improve it in "
        f"{_decimal(null['null'])} %. "
        f"The difference is {interval(null, 'excess')} points: {_side(null)}."
    )
    return text, chance


def _detectors(
    tables: Mapping[str, pd.DataFrame], model: str, ways: Mapping[str, str]
) -> tuple[str, str]:
    """Whether they contribute, in the primary and an independent way, and by what numbers."""
    primary, text = _contribution(tables, model, "primary")
    if primary not in ("yes", "no"):
        return primary, text
    others = {way: _contribution(tables, model, way)[0] for way in INDEPENDENT if way in ways}
    opposite = [ways[way] for way, word in others.items() if word in {"yes", "no"} - {primary}]
    if opposite:
        return f"depends on the way of grading (not by {', '.join(opposite)})", text
    if primary not in others.values():
        return "by the primary judge alone", text
    judged = _row(tables, "comparisons", model, ABLATED, RATE, "second") is not None
    if "second" in others and judged and others["second"] != primary:
        return f"not shown by {ways['second']}", text  # phrases may share the primary one's habit
    return primary, text


def _contribution(tables: Mapping[str, pd.DataFrame], model: str, way: str) -> tuple[str, str]:
    """Whether ablating them lowers the rate of restarts more than ablating random latents."""
    row = _row(tables, "comparisons", model, ABLATED, RATE, way)
    if row is None or not _is_reliable(row):
        return "not measured", ""
    text = (
        "Detectors: with their ablation the share of responses that restart changes by "
        f"{interval(row, 'difference')} points"
    )
    if row["low"] > 0:
        return "no", f"{text}."
    other = _row(tables, "contrasts", model, SPECIFICITY, RATE, way)
    if not row["high"] < 0 or other is None or not _is_reliable(other):
        return "not shown", f"{text}."
    text = f"{text}. Ablating random latents leaves {interval(other, 'value')} points more"
    if other["low"] > 0:
        return "yes", f"{text}."
    return "not shown", f"{text}, so that the detectors may be no different from random latents."


def _grading(
    tables: Mapping[str, pd.DataFrame], model: str, ways: Mapping[str, str]
) -> tuple[str, str]:
    """Whether the rate of restarts depends on the way of grading, and all rates."""
    rows = {way: _row(tables, "summary", model, ARM, RATE, way) for way in ways}
    known = {way: row for way, row in rows.items() if row is not None and _is_reliable(row)}
    primary = known.get("primary")
    others = {way: row for way, row in known.items() if way in INDEPENDENT}
    if primary is None or not others:
        return "not known, no independent way measured it", ""
    apart = [ways[way] for way, row in others.items() if _disjoint(primary, row)]
    rates = ", ".join(f"{ways[way]} {interval(row, 'estimate')}" for way, row in known.items())
    word = f"yes ({', '.join(apart)})" if apart else "not shown"
    return word, f"Grading: responses that restart, in %: {rates}."


def _is_reliable(row: Mapping[str, Any]) -> bool:
    return row["status"] in RELIABLE and not pd.isna(row["low"]) and not pd.isna(row["high"])


def _side(row: Mapping[str, Any]) -> str:
    """On which side of chance a difference from a new draw lies."""
    if not _is_reliable(row):
        return f"not comparable: {row['status']}"
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

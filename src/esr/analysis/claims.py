"""Claims compared with measurements in one way of grading, by one rule (docs/method.md).

A claim gives a region for a statistic, the place of that statistic in a study (table, row, column),
and a source. The region follows from the claimed value and its tolerance, or from a direction, in
which case one end is open. The measured interval decides: inside the region the claim is
`confirmed`, outside of it `refuted`, across its edge `undecided`; without a measurement it is
`not run`. `esr.analysis.verdicts` puts the ways of grading together.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd

from esr.errors import EsrError
from esr.handwritten import read_csv_rows

Verdict = Literal[
    "confirmed",
    "refuted",
    "undecided",
    "underpowered",
    "uncorroborated",
    "depends on the judge",
    "not run",
]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

CLAIM = {
    "claim": "Name, unique within a source.",
    "source": "Publication or page that makes the claim.",
    "experiment": "Figure or control that it refers to.",
    "statement": "The claim in a sentence.",
    "table": "File of the study that holds the statistic, below results/<study>/.",
    "where": "Its row: `column=value; ...`; `a|b` and `*` name several rows, `!=` excludes one.",
    "statistic": "Its column.",
    "expected": "Claimed value, if there is one (in `unit`).",
    "lower": "Lower end of the region in which the claim holds; empty: open.",
    "upper": "Upper end; empty: open.",
    "null": "Value of the statistic if the claim is false (in `unit`); never inside the region.",
    "unit": "Of the statistic.",
    "basis": "Reason for the ends of the region.",
    "exact": "`yes` if the statistic is an exact count, which has no interval.",
    "paper_n": "Trials behind the claim, if known.",
    "paper_low": "Lower end of the claim's own 95 % interval (trial-level, as in the paper).",
    "paper_high": "Upper end.",
    "family": "`yes` if the claim belongs to the confirmatory family of the study.",
}
"""Columns of the files in resources/claims/."""
NUMBERS = ["expected", "lower", "upper", "null", "paper_n", "paper_low", "paper_high"]
MEASURED = ["measured", "low", "high", "n", "status", "verdict", "reason"]

ENDS = {
    "relative_change": ("relative_low", "relative_high"),
    "effect": ("effect_low", "effect_high"),
    "rank": ("rank_low", "rank_high"),
}
"""Columns of a statistic's interval, where they are not `low` and `high`."""
SIZES = ["n", "n_pairs", "n_first", "n_treatment"]
"""Columns that hold the number of trials or pairs; the first with a value is shown."""
ABSENT = {"not_run", "no_labels", "no_detectors", "no_backtracking_latents", "no_trials"}
"""Statuses of rows for an experiment that the study does not run."""
RELIABLE = {"ok", "no_variation", "held_out", "tied"}
"""Statuses whose interval can be trusted as it is (a tied peak has an interval but no value)."""
WIDER = 2.5
"""Factor by which the ends of a sparse interval are moved away from the value.

If k latents out of many hold all events, their number has about the exact Poisson interval (Garwood
1936); its upper end is at most 2.3 times as far out as that of the bootstrap (k = 1).
"""


class Finding(NamedTuple):
    """A measured statistic: value, interval, size, status, and p-value against 0 if tested."""

    value: float
    low: float
    high: float
    n: float = np.nan
    status: str = "ok"
    p_value: float = np.nan


@dataclass(frozen=True)
class Region:
    """Region in which a claim holds: `lower` to `upper`, ends included; infinite ends are open."""

    lower: float
    upper: float

    @property
    def is_sign(self) -> bool:
        """Whether the claim is one of sign: at least, or at most, 0."""
        return [end for end in (self.lower, self.upper) if np.isfinite(end)] == [0]

    def __str__(self) -> str:
        if np.isinf(self.upper):
            return f"{self.lower:g} or more"
        if np.isinf(self.lower):
            return f"{self.upper:g} or less"
        return f"{self.lower:g} to {self.upper:g}"


def read_claims(paths: Iterable[str | Path]) -> pd.DataFrame:
    """Claims of several files, columns as in `CLAIM`; empty texts are '' and empty numbers NaN.

    Raises:
        EsrError: a file is no readable CSV (`esr.handwritten`), or has other columns, a repeated
            name, a missing or empty region, or a value that cannot be parsed; a claim of one
            source is in two files.
    """
    parts = []
    for path in map(Path, paths):
        columns, rows, _ = read_csv_rows(path)
        if columns != list(CLAIM):
            raise EsrError(f"{path}: columns are {columns}; claims have {list(CLAIM)}")
        parts.append(_checked(pd.DataFrame(rows, columns=columns, dtype=str), path))
    if not parts:
        return pd.DataFrame(columns=list(CLAIM))
    claims = pd.concat(parts, ignore_index=True)
    twice = claims.loc[claims.duplicated(["claim", "source", "where"]), "claim"]
    if len(twice):
        raise EsrError(
            f"claims: {twice.iloc[0]!r} is in two files, or a file is listed twice; a claim that "
            "counts twice changes the adjusted p-values of all"
        )
    return claims


def _checked(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    for column in NUMBERS:
        try:
            table[column] = pd.to_numeric(table[column].replace("", np.nan)).astype(float)
        except ValueError as error:
            raise EsrError(f"{path}: column {column}: {error}") from None
    problems = {
        "is named twice": table["claim"].duplicated(),
        "has no region: give `lower`, `upper` or both": table[["lower", "upper"]]
        .isna()
        .all(axis=1),
        "has a region that ends before it begins": table["lower"].gt(table["upper"]),
        "expects a value outside of its region": table["expected"].lt(table["lower"])
        | table["expected"].gt(table["upper"]),
        "has no null: give the value of the statistic if the claim is false": table["null"].isna(),
        "has a null inside its region, so that noise can satisfy it": table["null"].gt(
            table["lower"].fillna(-np.inf)
        )
        & table["null"].lt(table["upper"].fillna(np.inf)),
        "has a value other than `yes` under `exact`": ~table["exact"].isin(["", "yes"]),
        "has a value other than `yes` under `family`": ~table["family"].isin(["", "yes"]),
    }
    for problem, where in problems.items():
        if where.any():
            raise EsrError(f"{path}: claim {table.loc[where, 'claim'].iloc[0]!r} {problem}")
    for where in table["where"]:
        parse_where(where)
    return table


def parse_where(where: str) -> list[tuple[str, str, list[str]]]:
    """Conditions (column, `=` or `!=`, values) of a claim's row.

    Raises:
        EsrError: a condition is not of the form `column=value`.
    """
    found = []
    for part in where.split(";"):
        match = re.fullmatch(r"\s*(\w+)\s*(!?=)\s*(.+?)\s*", part)
        if match is None:
            raise EsrError(f"claims: {part!r} in {where!r} is not `column=value`")
        column, sign, values = match.groups()
        found.append((column, sign, [value.strip() for value in values.split("|")]))
    return found


def find_rows(table: pd.DataFrame, where: str) -> tuple[pd.DataFrame, list[str]]:
    """Rows of a table that a claim refers to, and the values it names that no row has.

    Raises:
        EsrError: the table lacks a column, or the conditions do not tell rows apart.
    """
    several: list[str] = []
    named: list[tuple[str, str]] = []
    places = list(range(len(table)))
    for column, sign, values in parse_where(where):
        if column not in table:
            raise EsrError(f"claims: {where!r}: no column {column!r} among {list(table)}")
        cells = table[column].to_numpy()
        if values == ["*"]:
            places = [i for i in places if _text(cells[i])]
            several.append(column)
            continue
        places = [i for i in places if (_text(cells[i]) in values) == (sign == "=")]
        if sign == "=" and len(values) > 1:
            several.append(column)
            named += [(column, value) for value in values]
    rows = table.iloc[places]
    if len(rows) > 1 and (not several or rows.duplicated(several).any()):
        raise EsrError(
            f"claims: {where!r} names {len(rows)} rows; add conditions until one is left"
        )
    missing = [value for column, value in named if value not in set(rows[column].map(_text))]
    return rows, missing


def _text(value: Any) -> str:
    if pd.isna(value):
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def read_finding(row: Mapping[str, Any], statistic: str, exact: bool) -> Finding:
    """The measurement of a statistic in a row.

    Raises:
        EsrError: the table has no such column.
    """
    low, high = ENDS.get(statistic, ("low", "high"))
    needed = [statistic] if exact else [statistic, low, high]
    absent = [column for column in needed if column not in row]
    if absent:
        raise EsrError(f"claims: no column {absent[0]!r} among {list(row)}")
    value = _number(row[statistic])
    ends = (value, value) if exact else (_number(row[low]), _number(row[high]))
    sizes = [_number(row[column]) for column in SIZES if column in row]
    size = next((number for number in sizes if not np.isnan(number)), np.nan)
    status = str(row.get("status", "ok"))
    return Finding(value, *ends, size, status, _number(row.get("p_value")))


def _number(value: Any) -> float:
    return np.nan if value is None or pd.isna(value) else float(value)


def decide(finding: Finding, region: Region, alpha: float = 0.05) -> tuple[Verdict, str]:
    """Verdict on one measurement, and the reason in words.

    An interval from fewer than 8 latents (`few_clusters`) lies outside of what was simulated. It
    decides nothing, nor does one with another status that is not in `RELIABLE`. A sparse bootstrap
    (a handful of latents holds all events) is likely too narrow. It decides if an interval `WIDER`
    times as wide gives the same verdict; or, on the sign of a difference, if the permutation test
    also rejects no difference.
    """
    value, low, high, _, status, _ = finding
    if status in ABSENT:
        return "not run", f"status {status}"
    if np.isnan([low, high]).any():
        return "undecided", f"no {'value' if np.isnan(value) else 'interval'} (status {status})"
    shown = f"{low:.4g}" if low == high else f"[{low:.4g}, {high:.4g}]"
    verdict = _compare(low, high, region)
    if verdict == "undecided":
        return verdict, f"{shown} reaches across the edge of {region}"
    where = f"{shown} lies {'within' if verdict == 'confirmed' else 'outside of'} {region}"
    if status in RELIABLE:
        return verdict, where
    if status == "sparse":
        wide = value - WIDER * (value - low), value + WIDER * (high - value)
        if _compare(*wide, region) == verdict:
            return (
                verdict,
                f"{where}; it is sparse, but the verdict holds if {WIDER:g} times as wide",
            )
        if region.is_sign and finding.p_value <= alpha:
            return verdict, f"{where}; it is sparse, but p = {finding.p_value:.2g}"
    return "undecided", f"{where}, but cannot be trusted (status {status})"


def _compare(low: float, high: float, region: Region) -> Verdict:
    if region.lower <= low and high <= region.upper:
        return "confirmed"
    return "refuted" if high < region.lower or low > region.upper else "undecided"


def stated(claim: Mapping[str, Any]) -> str:
    """What a claim is about and when it holds, in one line; it changes with either.

    `table, where, statistic: region, null`.
    """
    ends = ["" if pd.isna(claim[name]) else f"{claim[name]:g}" for name in ("lower", "upper")]
    place = ", ".join(str(claim[name]) for name in ("table", "where", "statistic"))
    null = "" if pd.isna(claim["null"]) else f"{claim['null']:g}"
    return f"{place}: [{ends[0]}, {ends[1]}], null {null}"


def region_of(claim: Mapping[str, Any]) -> Region:
    """The region of a claim; an empty end is open."""
    return Region(
        -np.inf if np.isnan(claim["lower"]) else claim["lower"],
        np.inf if np.isnan(claim["upper"]) else claim["upper"],
    )


def judge_claim(
    claim: Mapping[str, Any], table: pd.DataFrame | None, alpha: float
) -> dict[str, Any]:
    """Measured value and verdict of a claim: keys as in `MEASURED`, and `findings`.

    A claim about several rows holds if it holds in each; the scorecard shows the deciding row.
    `findings` has the finding of every row, by the values that tell these rows apart.

    Args:
        claim: Row of `read_claims`.
        table: The table that it names; None if the study does not make it.
        alpha: Level of the permutation test that may stand in for a sparse interval.
    """
    nothing: dict[str, Any] = dict.fromkeys(MEASURED[:4], np.nan)
    nothing |= {"status": "", "verdict": "not run", "findings": {}}
    if table is None:
        return nothing | {"reason": f"this study makes no {claim['table']}"}
    rows, missing = find_rows(table, claim["where"])
    if rows.empty:
        return nothing | {"reason": f"no such row in {claim['table']}"}
    region = region_of(claim)
    apart = [
        column
        for column, sign, values in parse_where(claim["where"])
        if sign == "=" and (values == ["*"] or len(values) > 1)
    ]
    found = []
    for row in rows.to_dict("records"):
        finding = read_finding(
            {str(k): v for k, v in row.items()}, claim["statistic"], claim["exact"] == "yes"
        )
        verdict, reason = decide(finding, region, alpha)
        found.append({**finding._asdict(), "verdict": verdict, "reason": reason})
        nothing["findings"][tuple(_text(row[column]) for column in apart)] = finding
    return nothing | deciding_row(found, missing)


def deciding_row(found: list[dict[str, Any]], missing: list[str]) -> dict[str, Any]:
    """The deciding row of a claim about several."""
    if {each["verdict"] for each in found} == {"not run"}:
        first = found[0]
    else:
        severity = ["refuted", "undecided", "not run", "confirmed"]
        first = min(found, key=lambda each: severity.index(each["verdict"]))
        if first["verdict"] == "not run" or (missing and first["verdict"] == "confirmed"):
            lacking = ", ".join(missing) or "some"
            reason = f"not run for {lacking}"
            first = first | {"verdict": "undecided", "reason": reason}
    shown = {"measured": first["value"], **{key: first[key] for key in MEASURED[1:]}}
    if len(found) > 1:
        shown["reason"] += f" (the row that decides, of {len(found)})"
    return shown

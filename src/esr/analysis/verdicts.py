"""Verdicts that do not rest on one judge: every claim in each way, and what the ways agree on.

A claim is evaluated on the rows of each way of grading (`esr.analysis.ways`). `confirmed` and
`refuted` need the primary way and an independent one to agree, and no independent one to
contradict. The second judge must agree if it measures the claim; the restart detector suffices only
if it does not. If a way contradicts, or none decides and one measures another value, the verdict is
`depends on the judge`; without either, as when the second judge's sample is too small, it is
`uncorroborated`. The claims of the confirmatory family are tested together (Holm), one adjusted
p-value a claim and way.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from esr.analysis.claims import (
    CLAIM,
    MEASURED,
    Verdict,
    find_rows,
    judge_claim,
    parse_where,
    region_of,
)
from esr.analysis.measures import MEASURES
from esr.analysis.statistics import holm
from esr.analysis.ways import INDEPENDENT, WAYS, Way, of_way

ONE_WAY = {
    "figures/fig5.csv": "detectors are found without a judge",
    "tables/tableA1.csv": "detectors are found without a judge",
    "tables/introspection.csv": "log-probabilities are read without a judge",
    "figures/figA2.csv": "it is about the judges",
    "figures/figA3.csv": "it is about the judges",
    "tables/agreement.csv": "it is about the judges",
}
"""Tables that no way of grading can vary, with the reason."""
ONE_JUDGE = {
    f"tables/activation_{name}.csv": "activations are measured on the primary judge's episodes"
    for name in ("regions", "contrasts", "latents", "lead", "hazards")
}
"""Tables that rest on the primary judge alone, with the reason: what they show is uncorroborated.

That judge decides where an attempt begins, what is off topic and what improved.
"""
NOT_MEASURABLE = "not measurable"
"""Verdict of a way that has no such row."""
OF_WAY = ["measured", "low", "high", "p_holm", "verdict"]
POWERS = ["power", "power_agreed"]
COLUMNS = [*CLAIM, *MEASURED, *POWERS, *[f"{way}_{name}" for way in WAYS for name in OF_WAY]]
"""Columns of the scorecard; `measured`, `low`, `high`, `n` and `status` are the primary way's."""
NAMES = {"judge_free": "judge-free", "second": "second judge"}
OPPOSITE = {"confirmed": "refuted", "refuted": "confirmed"}

DECIDABLE = 0.8
"""Power from which a study decides a claim."""

Claim = Mapping[str, Any]
Key = tuple[str, str]
"""Source and name of a claim."""


class Power(NamedTuple):
    """Share of studies that confirm a true claim: by the primary judge, and by all ways."""

    primary: float = np.nan
    agreed: float = np.nan


def score(
    claims: pd.DataFrame,
    tables: Mapping[str, pd.DataFrame],
    level: float = 0.95,
    power: Mapping[Key, Power] | None = None,
) -> pd.DataFrame:
    """The scorecard: one row a claim, columns `COLUMNS`.

    Args:
        claims: As from `read_claims`.
        tables: Tables of the study by path below its folder.
        level: Coverage of the study's intervals; tests use 1 - level.
        power: Power of the study for each claim, where it is known (`least_power`).
    """
    adjusted = family_p(claims, tables)
    known = power or {}
    parts = {path: rows_by_way(tables.get(path)) for path in claims["table"].unique()}
    rows = []
    for claim in claims.to_dict("records"):
        key = key_of(claim)
        found = {
            way: evaluate(claim, part, 1 - level, adjusted.get((*key, way), np.nan))
            for way, part in parts[claim["table"]].items()
        }
        rows.append({**claim, **summarise_ways(claim, found, known.get(key, Power()))})
    return pd.DataFrame(rows, columns=COLUMNS)


def least_power(table: pd.DataFrame) -> dict[Key, Power]:
    """Power of every simulated claim, at the correlation at which the study has least.

    Args:
        table: As from `esr.analysis.power.power_table`.
    """
    simulated = table[table["power"].notna()]
    least = simulated.groupby(["source", "claim"], sort=False)[["power", "agreed"]].min()
    return {
        (str(source), str(claim)): Power(float(primary), float(agreed))
        for (source, claim), primary, agreed in least.itertuples(name=None)
    }


def key_of(claim: Claim) -> Key:
    """Source and name, which identify a claim."""
    return str(claim["source"]), str(claim["claim"])


def rows_by_way(table: pd.DataFrame | None) -> dict[Way, pd.DataFrame | None]:
    """A table as each way computed it; only `primary` if it has no ways."""
    if table is None or "way" not in table:
        return {"primary": table}
    parts: dict[Way, pd.DataFrame | None] = {way: of_way(table, way) for way in WAYS}
    return parts


def evaluate(
    claim: Claim, table: pd.DataFrame | None, alpha: float, p_holm: float
) -> dict[str, Any]:
    """Measurement and verdict of a claim in one way; a sign claim of the family needs its Holm p.

    Args:
        claim: Row of `read_claims`.
        table: Its table, in this way.
        alpha: Level of the tests.
        p_holm: Adjusted p-value of the claim in this way; NaN outside the family.
    """
    found = judge_claim(claim, table, alpha) | {"p_holm": p_holm}
    needed = claim["family"] == "yes" and region_of(claim).is_sign
    if needed and found["verdict"] == "confirmed" and not p_holm <= alpha:
        shown = "there is no p-value" if np.isnan(p_holm) else f"p (Holm) = {p_holm:.2g}"
        found |= {"verdict": "undecided", "reason": f"{found['reason']}, but {shown}"}
    return found


def summarise_ways(
    claim: Claim, found: Mapping[Way, Mapping[str, Any]], power: Power
) -> dict[str, Any]:
    """The claim's columns of the scorecard from its measurements by way."""
    verdicts = {
        way: NOT_MEASURABLE
        if way != "primary" and each["verdict"] == "not run"
        else each["verdict"]
        for way, each in found.items()
    }
    primary = found["primary"]
    apart = [way for way in INDEPENDENT if way in found and differs(primary, found[way])]
    verdict, why = combine(verdicts, only_way(claim), apart, ONE_JUDGE.get(claim["table"], ""))
    row = {name: primary[name] for name in MEASURED} | {
        "verdict": with_power(verdict, power.primary),
        "reason": "; ".join(filter(None, [primary["reason"], why])),
        **dict(zip(POWERS, power, strict=True)),
    }
    for way, each in found.items():
        shown = {**each, "verdict": verdicts[way]}
        row |= {f"{way}_{name}": shown[name] for name in OF_WAY}
    return row | {f"{way}_verdict": NOT_MEASURABLE for way in WAYS if f"{way}_verdict" not in row}


def with_power(verdict: Verdict, power: float) -> Verdict:
    """`underpowered` in place of `undecided` where the study could not have decided the claim."""
    return "underpowered" if verdict == "undecided" and power < DECIDABLE else verdict


def only_way(claim: Claim) -> str:
    """Why a claim has one way only; empty if a judge matters."""
    if claim["table"] in ONE_WAY:
        return ONE_WAY[claim["table"]]
    conditions = {column: values for column, _, values in parse_where(claim["where"])}
    names = conditions.get("measure", [])
    if names and all(name in MEASURES and MEASURES[name].among == "responded" for name in names):
        return "the measure needs no judge"
    return ""


def differs(primary: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether the interval of a way excludes the primary judge's value, in any row of the claim."""
    values = {row: finding.value for row, finding in primary["findings"].items()}
    return any(
        finding.low > values.get(row, np.nan) or finding.high < values.get(row, np.nan)
        for row, finding in other["findings"].items()
    )


def combine(
    verdicts: Mapping[Way, str],
    one_way: str = "",
    apart: Sequence[Way] = (),
    one_judge: str = "",
) -> tuple[Verdict, str]:
    """What the ways agree on, and why, in words.

    Args:
        verdicts: Verdict of each way that was computed.
        one_way: Reason for which no other way can exist; then the primary verdict stands.
        apart: Independent ways that measure another value than the primary one (`differs`).
        one_judge: Reason for which no independent way exists, although a judge matters.
    """
    primary: Any = verdicts["primary"]
    if one_way and primary != "not run":
        return primary, f"one way: {one_way}"
    if primary not in OPPOSITE:
        return primary, ""
    measured = {
        way: verdicts[way]
        for way in INDEPENDENT
        if verdicts.get(way, NOT_MEASURABLE) != NOT_MEASURABLE
    }
    against = [way for way, each in measured.items() if each == OPPOSITE[primary]]
    agreeing = [way for way, each in measured.items() if each == primary]
    if not measured:
        return "uncorroborated", one_judge or "no independent way measured it"
    if against:
        why = f"{primary} by the primary judge, {OPPOSITE[primary]} by {_names(against)}"
        return "depends on the judge", why
    others = [way for way in measured if way not in agreeing]
    if not agreeing or "second" in others:
        return _undecided(primary, agreeing, others, apart)
    return primary, f"agrees: {_names(agreeing)} (of {len(measured)} independent ways)"


def _undecided(
    primary: str, agreeing: Sequence[Way], others: Sequence[Way], apart: Sequence[Way]
) -> tuple[Verdict, str]:
    """The verdict where no way contradicts, and too few agree.

    The restart detector's agreement does not count beside an undecided second judge: the detector
    may look for the same words as the primary judge, and confirm that judge's habit under the null.
    """
    agreed = " and ".join(["the primary judge", *map(NAMES.__getitem__, agreeing)])
    head = f"{primary} by {agreed}, undecided by {_names(others)}"
    differing = [way for way in others if way in apart]
    if differing:
        why = f"the primary judge's value lies outside the interval by {_names(differing)}"
        return "depends on the judge", f"{head}; {why}"
    return "uncorroborated", f"{head}; no value contradicts it"


def _names(ways: Iterable[Way]) -> str:
    return " and ".join(NAMES[way] for way in ways)


def family_p(
    claims: pd.DataFrame, tables: Mapping[str, pd.DataFrame]
) -> dict[tuple[str, str, Way], float]:
    """Holm-adjusted p-values of the confirmatory family: by source, name and way.

    Claims about the same rows are one test. A claim about several rows has the largest of their
    p-values. A claim without a p-value, or about a row that a way lacks, does not count.
    """
    family = claims[claims["family"].eq("yes")].to_dict("records")
    parts = {path: rows_by_way(tables.get(path)) for path in {each["table"] for each in family}}
    adjusted: dict[tuple[str, str, Way], float] = {}
    for way in WAYS:
        tests: dict[Any, float] = {}
        named: dict[Key, Any] = {}
        for claim in family:
            test = claim["table"], tuple(sorted(map(str, parse_where(claim["where"]))))
            named[key_of(claim)] = test
            tests[test] = p_value(claim, parts[claim["table"]].get(way))
        values = dict(zip(tests, holm(np.array(list(tests.values()))), strict=True))
        adjusted |= {(*key, way): float(values[test]) for key, test in named.items()}
    return adjusted


def p_value(claim: Claim, table: pd.DataFrame | None) -> float:
    """Largest p-value of a claim's rows; NaN without rows, or if a row has none."""
    if table is None or "p_value" not in table:
        return np.nan
    rows, _ = find_rows(table, claim["where"])
    values = rows["p_value"].to_numpy(float)
    return float(values.max()) if len(values) else np.nan


def with_family(
    table: pd.DataFrame, path: str, claims: pd.DataFrame, tables: Mapping[str, pd.DataFrame]
) -> pd.DataFrame:
    """A table with the column p_holm: its rows' p-values adjusted over the family, else missing.

    Args:
        table: With columns way and p_value.
        path: Its path below the study's folder, as claims name it.
        claims: All claims of the study.
        tables: The other tables that they name.
    """
    adjusted = family_p(claims, {**tables, path: table})
    out = table.assign(p_holm=np.nan)
    for claim in claims[claims["family"].eq("yes") & claims["table"].eq(path)].to_dict("records"):
        for way in WAYS:
            rows, _ = find_rows(table[table["way"].eq(way)], claim["where"])
            out.loc[rows.index, "p_holm"] = adjusted[(*key_of(claim), way)]
    return out

"""Claims as simulated studies: verdicts where they are true, and under their nulls.

A claim (`esr.analysis.scenarios`) is simulated twice: in the world where it is true, and under the
null that it declares. Trials of drawn studies run through `Measure.values`, the intervals of
`esr.analysis.statistics.contrasts` and the rules of `esr.analysis.claims` and
`esr.analysis.verdicts`, the code that judges real ones.

A sign claim of the confirmatory family also needs its adjusted p-value; here its interval at the
level of Bonferroni's correction must exclude 0, which is at most as powerful as Holm's.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
import pandas as pd

from esr.analysis.claims import Finding, Verdict, decide, deciding_row, parse_where
from esr.analysis.measures import MEASURES, Measure
from esr.analysis.needed import LEVEL
from esr.analysis.scenarios import NO_SETS, Row, Scenario, Truths, scenario
from esr.analysis.simulation import Columns, draw_columns, second_phase
from esr.analysis.specs import JudgeSpec, StudySpec
from esr.analysis.statistics.contrasts import (
    Arm,
    crossed_contrast,
    crossed_interval,
    independent_contrast,
)
from esr.analysis.statistics.crossed import weighted_mean
from esr.analysis.statistics.random_sets import sets_contrast
from esr.analysis.verdicts import combine, differs
from esr.analysis.ways import DETECTED, JUDGED, Way

OF_DETECTOR = {shown: name for name, shown in DETECTED.items()}
SHARES = ["confirmed_true", "refuted_true", "confirmed_null", "refuted_null"]


Erring = Callable[[StudySpec, Row, bool], StudySpec]
"""Adds judges' errors to the design of a row; the last argument: whether its null is true."""


class Judged(NamedTuple):
    """Trials of a row's arms as one way grades them: values, weights and clusters by arm."""

    values: list[np.ndarray]
    weights: list[np.ndarray] | None
    factors: list[list[np.ndarray]]  # of the first arm only, if all have the same trials


def simulate(
    case: Scenario,
    spec: StudySpec,
    studies: int,
    *,
    null: bool = False,
    ways: bool = False,
    erring: Erring | None = None,
    first: int = 0,
) -> pd.DataFrame:
    """Verdicts of simulated studies, one row a study.

    Columns: verdict (by the primary judge), `agreed` (by all ways; with `ways` only), and
    `findings` of the primary judge, one a row of the claim.

    Args:
        case: The claim.
        spec: Design of the studies; their arms are those of the claim.
        studies: Number of them.
        null: Whether the claim's null is true, in place of the claim.
        ways: Whether to grade by the restart detector and a second judge, too.
        erring: Adds the judges' errors to the design of a row, given its arms; None: no errors.
        first: Number of the first study: others draw other ones.
    """
    seeds = [[int(null), number] for number in range(first, first + studies)]
    return pd.DataFrame([_study(case, spec, seed, ways, erring) for seed in seeds])


def characteristics(case: Scenario, spec: StudySpec, studies: int, first: int = 0) -> pd.Series:
    """Number of studies that confirm and refute, if the claim is true and under its null.

    Args:
        case: The claim.
        spec: Design of the studies.
        studies: Number of them, in each world.
        first: Number of the first one: others draw other studies.
    """
    return tally(
        lambda null, number: _study(case, spec, [int(null), number])["verdict"], studies, first
    )


def tally(verdict_of: Callable[[bool, int], str], studies: int, first: int = 0) -> pd.Series:
    """Number of studies that confirm and refute, in each world.

    Args:
        verdict_of: Verdict of a study, given whether the null is true, and its number.
        studies: Number of them, in each world.
        first: Number of the first one.
    """
    found = pd.Series(0, SHARES)
    for world, null in (("true", False), ("null", True)):
        for number in range(first, first + studies):
            verdict = verdict_of(null, number)
            if f"{verdict}_{world}" in found:
                found[f"{verdict}_{world}"] += 1
    return found


def scenarios(
    claims: pd.DataFrame, truths: Truths, sets: Mapping[str, int] = NO_SETS
) -> Iterator[tuple[dict[str, Any], Scenario | None]]:
    """Every claim of a file with its simulation; arguments as of `scenario`."""
    family = claims[claims["family"].eq("yes")]
    tests = {
        (claim["table"], tuple(sorted(map(str, parse_where(claim["where"])))))
        for claim in family.to_dict("records")
    }
    for claim in claims.to_dict("records"):
        named = {str(key): value for key, value in claim.items()}
        yield named, scenario(named, truths, len(tests), sets)


def _study(
    case: Scenario,
    spec: StudySpec,
    seed: list[int],
    ways: bool = False,
    erring: Erring | None = None,
) -> dict[str, Any]:
    """One simulated study; in the null world the first row has the value of the null."""
    found: dict[Way, list[tuple[Finding, Verdict]]] = {}
    for number, row in enumerate(case.rows):
        null = bool(seed[0]) and not number
        design = design_for(spec, row)
        design = erring(design, row, null) if erring else design
        arms = row.null if null else row.true
        drawn = draw_row(replace(row, true=arms), design, [*seed, number], ways)
        factors = factors_of(drawn["primary"], shared=row.kind != "models")
        for way, name in _ways(case.measure, ways, spec.sampled).items():
            judged = graded(drawn, MEASURES[name], way, factors)
            found.setdefault(way, []).append(_decide(case, row, judged, MEASURES[name]))
    verdicts = {way: _overall(rows) for way, rows in found.items()}
    shown: dict[str, Any] = {
        "verdict": verdicts["primary"],
        "findings": [finding for finding, _ in found["primary"]],
    }
    if ways:
        findings = {
            way: {"findings": dict(enumerate(each for each, _ in rows))}
            for way, rows in found.items()
        }
        apart = [way for way in findings if differs(findings["primary"], findings[way])]
        shown["agreed"] = combine(verdicts, apart=apart)[0]
    return shown


def draw_row(
    row: Row, spec: StudySpec, seed: list[int], second: bool = False
) -> dict[str, list[Columns]]:
    """Scores of a row's arms by judge; `second` adds those of a sample, with their weights."""
    names = ["primary", "second"] if second else ["primary"]
    judges = {name: spec.judges.get(name, JudgeSpec()) for name in names}
    design = replace(spec, arms=row.true, judges=judges)
    if row.kind == "models":  # Each model has latents of its own; its name decides what is drawn.
        drawn = [
            draw_columns(replace(design, arms={name: arm}), [*seed[:2], crc32(name.encode())])
            for name, arm in row.true.items()
        ]
    else:
        drawn = [draw_columns(design, seed)]
    tables = {name: [t for each in drawn for t in each[name].values()] for name in judges}
    if second:
        weights = second_phase(tables["primary"], spec, seed)
        pairs = zip(tables["second"], weights, strict=True)
        tables["second"] = [{**table, "weight": weight} for table, weight in pairs]
    return tables


def factors_of(tables: Sequence[Columns], shared: bool = False) -> list[list[np.ndarray]]:
    """Latent and prompt of the trials of each arm.

    Args:
        tables: Scores of the arms.
        shared: Whether all arms have the same trials, in the same order; then of the first only.
    """
    return [[table["latent"], table["prompt"]] for table in (tables[:1] if shared else tables)]


def graded(
    drawn: Mapping[str, list[Columns]],
    measure: Measure,
    way: Way,
    factors: list[list[np.ndarray]],
) -> Judged:
    """Values of a measure as a way grades them; unsampled trials have no value.

    Args:
        drawn: Scores of the arms by judge (`draw_row`).
        measure: What is measured.
        way: Who grades.
        factors: Of the trials (`factors_of`).
    """
    tables = drawn["second" if way == "second" else "primary"]
    values = [measure.values(table) for table in tables]
    weights = None
    if way == "second":
        weights = [table["weight"] for table in tables]
        values = [np.where(w > 0, v, np.nan) for v, w in zip(values, weights, strict=True)]
    return Judged(values, weights, factors)


def find(row: Row, judged: Judged, measure: Measure, relative: bool, level: float) -> Finding:
    """The statistic of a row and its interval, as the tables of a study have it."""
    values, weights, factors = judged
    w: list[np.ndarray | None] = [None] * len(values) if weights is None else [*weights]
    kind = measure.quantity
    n = int((~np.isnan(values[0])).sum())
    if row.kind == "arm":
        interval, status = crossed_interval(values[0], factors[0], kind, level, w[0])
        return Finding(weighted_mean(values[0], w[0]), *interval, n, status)
    base, treated = (weighted_mean(values[i], w[i]) for i in (0, 1))
    if row.kind == "sets":
        arms = _versions(values)
        shared = None if weights is None else _versions(weights)
        found = sets_contrast(*arms, factors[0], kind, level=level, weights=shared, test=False)
        base, treated = found.baseline, found.treatment
        ends, change, status = found.difference, found.relative, found.status
    elif row.kind == "paired":
        pair = None if weights is None else (weights[0], weights[1])
        test = crossed_contrast(values[0], values[1], factors[0], kind, level, weights=pair)
        ends, change, status = test.difference, test.relative, test.status
    else:
        models = [Arm(v, f, each) for v, f, each in zip(values, factors, w, strict=True)]
        test = independent_contrast(models[0], models[1], kind, level)
        ends, change, status = test.difference, test.relative, test.status
    if relative:
        value = 100 * (treated / base - 1) if base > 0 else np.nan
        return Finding(value, *change.scaled(100), n, status)
    return Finding(treated - base, *ends, n, status)


def _versions(arms: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The baseline beside every version of the treatment."""
    baseline, *versions = arms
    return np.array([baseline] * len(versions)), np.array(versions)


def _ways(measure: str, ways: bool, sampled: int) -> dict[Way, str]:
    """Ways that measure it, with the measure that each computes."""
    found: dict[Way, str] = {"primary": measure}
    if ways and measure in OF_DETECTOR:
        found["judge_free"] = OF_DETECTOR[measure]
    if ways and sampled and measure in JUDGED:
        found["second"] = measure
    return found


def _decide(case: Scenario, row: Row, judged: Judged, measure: Measure) -> tuple[Finding, Verdict]:
    found = find(row, judged, measure, case.relative, LEVEL)
    verdict = decide(found, case.region)[0]
    if case.tests > 1 and verdict == "confirmed":
        strict = find(row, judged, measure, case.relative, 1 - (1 - LEVEL) / case.tests)
        verdict = decide(strict, case.region)[0]
    return found, verdict


def _overall(rows: Sequence[tuple[Finding, Verdict]]) -> Verdict:
    shown = [{**each._asdict(), "verdict": verdict, "reason": ""} for each, verdict in rows]
    verdict: Verdict = deciding_row(shown, [])["verdict"]
    return verdict


def design_for(spec: StudySpec, row: Row) -> StudySpec:
    """The design of a row: arms may have latents, trials and a correlation of their own."""
    spec = replace(spec, rho=max(spec.rho, row.rho))
    if row.sweep:
        return spec.sized(*spec.sweep)
    return spec.sized(*spec.sizes[row.arm]) if row.arm in spec.sizes else spec

"""What a study of a given size can decide: error rates and power of its claims.

A claim (`esr.analysis.scenarios`) is simulated twice: with what it says being true, and under the
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
from esr.analysis.needed import GROWTH, LEVEL, latents_for
from esr.analysis.scenarios import Row, Scenario, Truths, not_simulated, scenario
from esr.analysis.simulation import JudgeSpec, StudySpec, draw_study, second_phase
from esr.analysis.statistics import cluster_codes
from esr.analysis.statistics.contrasts import (
    Arm,
    crossed_contrast,
    crossed_interval,
    independent_contrast,
)
from esr.analysis.statistics.crossed import FEW_CLUSTERS, weighted_mean
from esr.analysis.statistics.random_sets import sets_contrast
from esr.analysis.verdicts import DECIDABLE, combine, differs
from esr.analysis.ways import DETECTED, JUDGED, Way

WIDTHS = 12
"""Larger studies from which the width of intervals is read, at most."""
CORRELATIONS = (0.05, 0.2)
"""Intra-latent correlations of restarts: no study has published its own."""
OF_DETECTOR = {shown: name for name, shown in DETECTED.items()}
SHARES = ["confirmed_true", "refuted_true", "confirmed_null", "refuted_null"]
POWER = ["claim", "source", "rho", "value", "power", "agreed", "latents", "latents_80", "label"]


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


def power_row(case: Scenario, spec: StudySpec, studies: int = 60) -> dict[str, Any]:
    """Power of a design, and the latents that would give 80 %.

    `power`: share of simulated studies that confirm by the primary judge; `agreed`: by all ways.
    The latents follow from the simulated intervals and how they narrow from the design to 4 times
    its latents, half-width^2 = a / latents + b: b is what more latents on the same prompts cannot
    reduce.
    Infinite where no number is enough, or the claimed value lies at the edge of its own region.
    """
    design = _design(spec, case.rows[0])
    small = simulate(case, spec, studies, ways=True)
    large = simulate(case, _grown(spec), min(WIDTHS, studies))
    power = float(small["verdict"].eq("confirmed").mean())
    agreed = float(small["agreed"].eq("confirmed").mean())
    needed = [
        latents_for(case, row, [[each[i] for each in t["findings"]] for t in (small, large)])
        for i, row in enumerate(case.rows)
    ]
    return {
        "power": power,
        "agreed": agreed,
        "latents": design.latents,
        "latents_80": float(max(FEW_CLUSTERS, np.ceil(design.latents * max(needed)))),
        "label": label_of(power, agreed),
    }


def label_of(power: float, agreed: float) -> str:
    """What a design can decide: `decidable`, `underpowered`, or `uncorroborated`.

    Args:
        power: Share of studies that confirm a true claim by the primary judge.
        agreed: Share that confirm it by all ways. Where it alone is small, the sample that the
            second judge grades cannot decide.
    """
    if power < DECIDABLE:
        return "underpowered"
    return "decidable" if agreed >= DECIDABLE else "uncorroborated"


def power_table(
    claims: pd.DataFrame,
    truths: Truths,
    spec: StudySpec,
    correlations: Sequence[float] = CORRELATIONS,
    studies: int = 60,
) -> pd.DataFrame:
    """What a study of this design can decide, before any of it is run.

    Columns: claim, source, rho (intra-latent correlation), value (claimed), power (share of
    simulated studies that confirm the claim by the primary judge if it is true), agreed (share in
    which an independent way confirms it, too), latents (of the design), latents_80 (latents that
    give a power of 80 %; inf: none do), label (as from `label_of`, or why the claim is not
    simulated).

    Args:
        claims: As from `esr.analysis.claims.read_claims`.
        truths: Worlds in which they are true.
        spec: Design of the study.
        correlations: Intra-latent correlations.
        studies: Simulated studies a row.
    """
    rows: list[dict[str, Any]] = []
    for claim, case in scenarios(claims, truths):
        head = {"claim": claim["claim"], "source": claim["source"]}
        if case is None:
            rows.append(head | {"label": f"not simulated: {not_simulated(claim, truths)}"})
            continue
        for rho in correlations:
            found = power_row(case, replace(spec, rho=rho), studies)
            rows.append(head | {"rho": rho, "value": case.value} | found)
    return pd.DataFrame(rows, columns=POWER)


def scenarios(
    claims: pd.DataFrame, truths: Truths
) -> Iterator[tuple[dict[str, Any], Scenario | None]]:
    """Every claim of a file with its simulation."""
    family = claims[claims["family"].eq("yes")]
    tests = {
        (claim["table"], tuple(sorted(map(str, parse_where(claim["where"])))))
        for claim in family.to_dict("records")
    }
    for claim in claims.to_dict("records"):
        named = {str(key): value for key, value in claim.items()}
        yield named, scenario(named, truths, len(tests))


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
        design = _design(spec, row)
        design = erring(design, row, null) if erring else design
        arms = row.null if null else row.true
        drawn = draw_row(replace(row, true=arms), design, [*seed, number], ways)
        for way, name in _ways(case.measure, ways, spec.sampled).items():
            judged = graded(drawn, MEASURES[name], way, shared=row.kind != "models")
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
) -> dict[str, list[pd.DataFrame]]:
    """Scores of a row's arms by judge; `second` adds those of a sample, with their weights."""
    names = ["primary", "second"] if second else ["primary"]
    judges = {name: spec.judges.get(name, JudgeSpec()) for name in names}
    design = replace(spec, arms=row.true, judges=judges)
    if row.kind == "models":  # Each model has latents of its own; its name decides what is drawn.
        drawn = [
            draw_study(replace(design, arms={name: arm}), [*seed[:2], crc32(name.encode())])
            for name, arm in row.true.items()
        ]
    else:
        drawn = [draw_study(design, seed)]
    tables = {name: [t for each in drawn for t in each[name].values()] for name in judges}
    if second:
        weights = second_phase(tables["primary"], spec, seed)
        tables["second"] = [
            table.assign(weight=weight)
            for table, weight in zip(tables["second"], weights, strict=True)
        ]
    return tables


def graded(
    drawn: Mapping[str, list[pd.DataFrame]], measure: Measure, way: Way, shared: bool = False
) -> Judged:
    """Values of a measure as a way grades them; unsampled trials have no value.

    Args:
        drawn: Scores of the arms by judge (`draw_row`).
        measure: What is measured.
        way: Who grades.
        shared: Whether all arms have the same trials, in the same order.
    """
    tables = drawn["second" if way == "second" else "primary"]
    values = [measure.values(table) for table in tables]
    weights = None
    if way == "second":
        weights = [table["weight"].to_numpy(float) for table in tables]
        values = [np.where(w > 0, v, np.nan) for v, w in zip(values, weights, strict=True)]
    factors = [
        [cluster_codes(codes)[0] for codes in (table["latent"], table["prompt_id"].cat.codes)]
        for table in (tables[:1] if shared else tables)
    ]
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


def _design(spec: StudySpec, row: Row) -> StudySpec:
    """The design of a row: that of the boost sweep has latents and trials of its own."""
    if not row.sweep:
        return spec
    return replace(spec, latents=spec.sweep[0], trials=spec.sweep[1])


def _grown(spec: StudySpec) -> StudySpec:
    sweep = GROWTH * spec.sweep[0], spec.sweep[1]
    return replace(spec, latents=GROWTH * spec.latents, sweep=sweep)

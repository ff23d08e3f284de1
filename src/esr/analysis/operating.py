"""What a study of a given size can decide: operating characteristics and power of its claims.

A claim is simulated twice: with what it says being true (`esr.analysis.truths`), and under the null
that it declares, where the arm it is about has that value of the statistic (`with_value`).

Studies run through `Measure.values`, the intervals of `esr.analysis.statistics.contrasts` and
`esr.analysis.claims.decide`, the code that judges real ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import stats

from esr.analysis.claims import Finding, Region, Verdict, decide, parse_where
from esr.analysis.comparisons import compare, compare_unpaired
from esr.analysis.measures import MEASURES, Measure, summarise
from esr.analysis.simulation import ArmSpec, StudySpec, draw_study
from esr.analysis.statistics import cluster_codes
from esr.analysis.statistics.contrasts import (
    Quantity,
    crossed_contrast,
    crossed_interval,
    independent_contrast,
)
from esr.analysis.statistics.crossed import FEW_CLUSTERS
from esr.errors import EsrError

Kind = Literal["arm", "paired", "models"]
Method = Literal["crossed", "tables"]
Truths = Mapping[str, Mapping[str, ArmSpec]]
"""What is true of a model's arms: `truths[model][arm]`."""

PAIRED = {"tables/comparisons.csv": ["arm"], "tables/contrasts.csv": ["sets", "unsteered"]}
SINGLE = {"tables/summary.csv": ["arm"], "tables/contrasts.csv": ["unsteered"]}
"""Kinds of rows that are paired arms, or one arm, by table."""
PERMUTATIONS = 199
GROWTH = 4
"""Size of the larger of the two simulated studies from which intervals are extrapolated."""
DECIDABLE = 0.8
"""Power from which a study decides a claim."""


@dataclass(frozen=True)
class Scenario:
    """A claim as a simulation: what is measured, between what, and the two worlds."""

    claim: str
    kind: Kind
    measure: str
    relative: bool
    region: Region
    true: Mapping[str, ArmSpec]
    null: Mapping[str, ArmSpec]

    @property
    def value(self) -> float:
        """The statistic in the world of the claim, in the unit of the claim."""
        return _statistic(self, self.true)

    @property
    def null_value(self) -> float:
        """The statistic under the null, likewise."""
        return _statistic(self, self.null)


def quantity(measure: Measure) -> Quantity:
    """How the mean of a measure is estimated."""
    if measure.is_rate:
        return Quantity("rate", 0, 100)
    highest = np.inf if np.isnan(measure.highest) else measure.highest
    if measure.column in ("score_change", "n_attempts") and measure.among == "scored":
        return Quantity("mixture", measure.lowest, highest, 0 if measure.lowest < 0 else 1)
    return Quantity("mean", measure.lowest, highest)


def scenario(claim: Mapping[str, Any], truths: Truths) -> Scenario | None:
    """The claim as a simulation; None if its table, row or model is not simulated.

    Args:
        claim: Row of a claims file.
        truths: What is true of each model's arms if the claims of that file are.
    """
    where = {column: values for column, sign, values in parse_where(claim["where"]) if sign == "="}
    measure = where.get("measure", where.get("panel", [""]))[0]
    models = [name for name in where.get("model", []) if name in truths]
    arm = where.get("arm", ["steered"])[0]
    known = measure in MEASURES and models
    region = Region(*(_end(claim[end], sign) for end, sign in (("lower", -1), ("upper", 1))))
    relative = claim["statistic"] == "relative_change"
    head = {"claim": claim["claim"], "measure": measure, "relative": relative, "region": region}
    if not known:
        return None
    arms = truths[models[0]]
    kind = where.get("kind", ["arm"])[0]
    if kind in SINGLE.get(claim["table"], []) and arm in arms:
        null = {"arm": with_value(arms[arm], measure, claim["null"])}
        return Scenario(kind="arm", true={"arm": arms[arm]}, null=null, **head)
    first, second = _pair_of(arm)
    if kind in PAIRED.get(claim["table"], []) and first in arms and second in arms:
        true = {"baseline": arms[second], "treatment": arms[first]}
        null = _null_pair(arms[second], measure, claim["null"], relative)
        return Scenario(kind="paired", true=true, null=null, **head)
    if claim["table"] == "tables/models.csv" and where.get("kind") == ["pair"]:
        other = next((name for name in where["against"] if name in truths), None)
        if other is not None:
            true = {"baseline": truths[other]["steered"], "treatment": arms["steered"]}
            null = _null_pair(arms["steered"], measure, claim["null"], relative)
            return Scenario(kind="models", true=true, null=null, **head)
    return None


def simulate(
    case: Scenario, spec: StudySpec, studies: int, *, null: bool = False, method: Method = "crossed"
) -> pd.DataFrame:
    """Verdict, estimate and interval of every simulated study (columns as `Finding`, verdict).

    Args:
        case: The claim.
        spec: Design of the study; its arms are those of the case.
        studies: Number of them.
        null: Whether the claim's null is true, in place of the claim.
        method: Intervals alone, or by way of the functions that make the tables, with p-values.
    """
    arms = case.null if null else case.true
    rows = []
    for seed in range(studies):
        found = _measure_study(case, replace(spec, arms=arms), [int(null), seed], method)
        rows.append({**found._asdict(), "verdict": decide(found, case.region)[0]})
    return pd.DataFrame(rows)


def characteristics(
    case: Scenario, spec: StudySpec, studies: int, method: Method = "crossed"
) -> dict[str, float]:
    """Shares of studies: confirmed and refuted, if the claim is true and under its null."""
    row: dict[str, float] = {}
    for world, null in (("true", False), ("null", True)):
        verdicts = simulate(case, spec, studies, null=null, method=method)["verdict"]
        row |= {f"{v}_{world}": float(verdicts.eq(v).mean()) for v in ("confirmed", "refuted")}
    return row


def power_row(case: Scenario, spec: StudySpec, studies: int = 100) -> dict[str, Any]:
    """Power at the design, and the latents that would give 80 %.

    Power is the share of simulated studies that confirm. The latents follow from the widths of the
    simulated intervals at the design and at 4 times its latents, half-width^2 = a / latents + b: b
    is what more latents on the same prompts cannot reduce. Infinite where no number is enough, or
    the claimed value lies at the edge of its own region.
    """
    sizes = spec.latents, GROWTH * spec.latents
    tables = [simulate(case, replace(spec, latents=n), studies) for n in sizes]
    power = float(tables[0]["verdict"].eq("confirmed").mean())
    needed = _latents_for(case, tables, spec.latents)
    label = "decidable" if power >= DECIDABLE else "underpowered"
    return {"power": power, "latents": spec.latents, "latents_80": needed, "label": label}


def power_table(
    claims: pd.DataFrame,
    truths: Truths,
    spec: StudySpec,
    correlations: Sequence[float] = (0.05, 0.2),
    studies: int = 40,
) -> pd.DataFrame:
    """What a study of this design can decide, before any of it is run.

    Columns: claim, rho (intra-latent correlation), value (claimed), power (share of simulated
    studies that confirm the claim if it is true), latents (of the design), latents_80 (latents that
    give 80 %; inf: none do, since the claimed value is at the edge of its region), label
    (`decidable`, `underpowered`, `not simulated`).

    Args:
        claims: As from `esr.analysis.claims.read_claims`.
        truths: Worlds in which they are true.
        spec: Design of the study.
        correlations: Intra-latent correlations.
        studies: Simulated studies a row.
    """
    rows = []
    for claim in claims.to_dict("records"):
        case = scenario({str(key): value for key, value in claim.items()}, truths)
        if case is None:
            rows.append({"claim": claim["claim"], "label": "not simulated"})
            continue
        for rho in correlations:
            head = {"claim": case.claim, "rho": rho, "value": case.value}
            rows.append(head | power_row(case, replace(spec, rho=rho), studies))
    columns = ["claim", "rho", "value", "power", "latents", "latents_80", "label"]
    return pd.DataFrame(rows, columns=columns)


def with_power(verdict: Verdict, power: float) -> str:
    """`underpowered` in place of `undecided` where the study could not have decided the claim."""
    return "underpowered" if verdict == "undecided" and power < DECIDABLE else verdict


def _latents_for(case: Scenario, tables: Sequence[pd.DataFrame], latents: int) -> float:
    """Latents at which both ends of the interval lie in the region in 80 % of studies.

    An end is normal about its median, with the standard deviation that its half-width implies.
    """
    sides = []
    for end, edge, sign in (("low", case.region.lower, -1), ("high", case.region.upper, 1)):
        margin = sign * (edge - case.value)
        if margin <= 0:
            return np.inf
        halves = [float((sign * (t[end] - t["value"])).median()) for t in tables]
        if tables[0]["value"].std() == 0 and np.isfinite(margin):
            # No event in any study: the bound falls as 1 / latents and has no error.
            return float(max(np.ceil(latents * halves[0] / margin), FEW_CLUSTERS))
        if np.isfinite(margin):
            sides.append((margin, _falling(halves)))
    for factor in np.geomspace(0.02, 500, 600):
        halves = [np.sqrt(a / factor + b) for _, (a, b) in sides]
        missed = [
            stats.norm.cdf((half - margin) / (half / 1.96))
            for (margin, _), half in zip(sides, halves, strict=True)
        ]
        if sum(missed) <= 1 - DECIDABLE:
            return float(max(np.ceil(latents * factor), FEW_CLUSTERS))
    return np.inf


def _falling(halves: Sequence[float]) -> tuple[float, float]:
    """A and b of half-width^2 = a / factor + b, from those at factors 1 and 4."""
    one, four = (half**2 for half in halves)
    if not np.isfinite(one):  # a ratio without bound: only what the larger study shows
        return 4 * four, 0.0
    rest = max(0.0, (4 * four - one) / 3)
    return one - rest, rest


def _measure_study(case: Scenario, spec: StudySpec, seed: list[int], method: Method) -> Finding:
    measure = MEASURES[case.measure]
    if case.kind == "models":
        # Each model has latents of its own.
        alone = [replace(spec, arms={name: arm}) for name, arm in spec.arms.items()]
        tables = [
            next(iter(draw_study(one, [*seed, i])["primary"].values()))
            for i, one in enumerate(alone)
        ]
    else:
        tables = list(draw_study(spec, seed)["primary"].values())
    if method == "tables":
        return _tabulated(case, tables)
    values = [measure.values(table) for table in tables]
    factors = [[cluster_codes(t[c])[0] for c in ("latent", "prompt_id")] for t in tables]
    if case.kind == "arm":
        interval, status = crossed_interval(values[0], factors[0], quantity(measure))
        return Finding(float(_mean(values[0])), *interval, len(values[0]), status)
    if case.kind == "paired":
        contrast = crossed_contrast(values[0], values[1], factors[0], quantity(measure))
    else:
        arms = list(zip(values, factors, strict=True))
        contrast = independent_contrast(arms[0], arms[1], quantity(measure))
    base, treated = (_mean(x) for x in values)
    if case.relative:
        change = 100 * (treated / base - 1) if base > 0 else np.nan
        return Finding(change, *contrast.relative.scaled(100), len(values[0]), contrast.status)
    return Finding(treated - base, *contrast.difference, len(values[0]), contrast.status)


def _tabulated(case: Scenario, tables: list[pd.DataFrame]) -> Finding:
    """As `summary_table` and `comparison_table` do."""
    if case.kind == "arm":
        row = summarise(tables[0], [case.measure]).iloc[0]
        return Finding(row["estimate"], row["low"], row["high"], row["n"], row["status"])
    run = compare if case.kind == "paired" else compare_unpaired
    table = run(tables[0], tables[1], [case.measure], n_permutations=PERMUTATIONS)
    row = table.iloc[0]
    ends = ("relative_low", "relative_high") if case.relative else ("low", "high")
    value = row["relative_change" if case.relative else "difference"]
    low, high = (float(row[end]) for end in ends)
    return Finding(float(value), low, high, len(tables[0]), row["status"], row["p_value"])


def _mean(values: np.ndarray) -> float:
    inside = ~np.isnan(values)
    return float(values[inside].mean()) if inside.any() else np.nan


def _end(value: float, sign: int) -> float:
    return sign * np.inf if pd.isna(value) else float(value)


def _pair_of(arm: str) -> tuple[str, str]:
    """Arm and the arm it is compared with: `a - b` in figures, else `steered`."""
    first, _, second = arm.partition(" - ")
    return first, second or "steered"


def with_value(arm: ArmSpec, measure: str, value: float) -> ArmSpec:
    """The arm with another true value of a measure (in its unit).

    Rates and means over all trials change through the rate of restarts, within 0 and 0.95; a mean
    change of 0 or less through the success rate, so that rises and falls cancel out.
    """
    if measure == "first_score":
        return replace(arm, first=value)
    if measure == "success_rate":
        return replace(arm, success=value / 100)
    if measure in ("msi", "msi_multi") and value <= 0:
        return replace(arm, success=arm.loss / (arm.gain + arm.loss))
    rates = {
        "multi_attempt_rate": value / 100,
        "restart_rate": value / 100,
        "esr_rate": value / 100 / max(arm.success, 0.01),
        "msi": value * arm.multi / arm.msi if arm.msi > 0 else arm.multi,
        "mean_attempts": (value - 1) / (1 + arm.extra),
    }
    if measure not in rates:
        raise EsrError(f"operating: the null of {measure!r} is not simulated")
    return replace(arm, multi=min(max(rates[measure], 0.0), 0.95))


def _null_pair(baseline: ArmSpec, measure: str, null: float, relative: bool) -> dict[str, ArmSpec]:
    """Baseline and an arm that differs from it by the null value."""
    if null == 0:
        return {"baseline": baseline, "treatment": baseline}
    value = _true_value(measure, baseline)
    target = value * (1 + null / 100) if relative else value + null
    return {"baseline": baseline, "treatment": with_value(baseline, measure, target)}


def _statistic(case: Scenario, arms: Mapping[str, ArmSpec]) -> float:
    values = [_true_value(case.measure, arm) for arm in arms.values()]
    if case.kind == "arm":
        return values[0]
    change = values[1] - values[0]
    return 100 * change / values[0] if case.relative else change


def _true_value(measure: str, arm: ArmSpec) -> float:
    values = {
        "first_score": arm.first,
        "multi_attempt_rate": 100 * arm.multi,
        "esr_rate": 100 * arm.esr,
        "success_rate": 100 * arm.success,
        "msi": arm.msi,
        "msi_multi": arm.msi / arm.multi if arm.multi else np.nan,
        "mean_attempts": 1 + arm.multi * (1 + arm.extra),
        "restart_rate": 100 * arm.multi,
        "degraded_rate": 0.0,
    }
    if measure not in values:
        raise EsrError(f"operating: no true value of {measure!r}; known are {list(values)}")
    return values[measure]

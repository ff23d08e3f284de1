"""Claims as simulations: the arms behind each row, if the claim is true and under its null.

What is true of each arm is in `esr.analysis.truths`. Claims about several rows (models) hold if
they hold in each, so that all rows are simulated; the null is that of the first one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from esr.analysis.claims import Region, parse_where, region_of
from esr.analysis.measures import MEASURES
from esr.analysis.specs import ArmSpec
from esr.errors import EsrError

Kind = Literal["arm", "paired", "models", "sets"]
Arms = Mapping[str, ArmSpec]
Truths = Mapping[str, Mapping[str, ArmSpec]]
"""What is true of a model's arms: `truths[model][arm]`."""
Where = Mapping[str, list[str]]

SETS = 3
"""Random sets of latents, where a study does not give their number."""
NO_SETS: Mapping[str, int] = {}
SWEEP = "boost-sweep"
REPLAYED = {
    "prefix-unsteered": "prefix-steered",
    "prefix-ablated": "prefix-steered",
    "correction-unsteered": "correction-steered",
    "matched-prefix": "correction-steered",
    "held-out-ablated": "held-out-steered",
    "branch-unsteered": "branch-steered",
    "branch-ablated": "branch-steered",
    "branch-to-mean": "branch-steered",
    "branch-half": "branch-steered",
    "branch-on-topic": "branch-steered",
}
"""What an arm replays, if not `steered`."""
ALIKE = {"branch-": 0.4}
"""Least intra-latent correlation of arms whose names begin so: they continue a text several times.

In the organism 22.9 % [13.3, 36.6] of about 270 continuations restart, of some 67 texts.
"""
TABLES = {f"tables/{name}.csv" for name in ("summary", "comparisons", "models", "contrasts")}
"""Tables whose rows are means and contrasts of arms."""
REHEARSED = "esr.analysis.rehearsals has no world of it"
"""Of claims that `esr.analysis.rehearsals` simulates, if it can."""
NO_MODEL = dict.fromkeys(("peak", "trend", "sweep", "share"), REHEARSED)
"""Rows of these tables that are not simulated here, with the reason, by kind."""
ELSEWHERE = dict.fromkeys(
    [
        "tables/recovery.csv",
        "tables/activation_hazards.csv",
        "tables/activation_contrasts.csv",
        "tables/tableA1.csv",
        "figures/figA2.csv",
        "figures/figA3.csv",
        "figures/fig5.csv",
        "tables/introspection.csv",
    ],
    REHEARSED,
)
"""Other tables, likewise."""


@dataclass(frozen=True)
class Row:
    """The arms of one row that a claim is about: baseline first, then treatments.

    `arm` is the one that decides the size: what is compared with it are the trials that it replays.
    `rho` is the least intra-latent correlation of its trials.
    """

    kind: Kind
    true: Arms
    null: Arms
    sweep: bool = False
    arm: str = ""
    rho: float = 0.0


@dataclass(frozen=True)
class Scenario:
    """A claim as a simulation.

    Attributes:
        claim: Its name.
        measure: What is measured.
        relative: Whether the statistic is a relative change.
        region: Where the claim holds.
        rows: What it is about.
        tests: Tests of the confirmatory family that the claim belongs to; 0 outside of it.
    """

    claim: str
    measure: str
    relative: bool
    region: Region
    rows: tuple[Row, ...]
    tests: int = 0

    @property
    def value(self) -> float:
        """The statistic of the first row in the world of the claim, in the unit of the claim."""
        return self.value_of(self.rows[0])

    @property
    def null_value(self) -> float:
        """The same under the null."""
        row = self.rows[0]
        return self.value_of(replace(row, true=row.null))

    @property
    def spread(self) -> float:
        """Largest spread between versions of an arm (`ArmSpec.spread`)."""
        return max(arm.spread for row in self.rows for arm in row.true.values())

    def value_of(self, row: Row) -> float:
        """The statistic of a row in the world of the claim."""
        values = [true_value(self.measure, arm) for arm in row.true.values()]
        if row.kind == "arm":
            return values[0]
        change = values[1] - values[0]
        return 100 * change / values[0] if self.relative else change


def scenario(
    claim: Mapping[str, Any],
    truths: Truths,
    tests: int = 0,
    sets: Mapping[str, int] = NO_SETS,
) -> Scenario | None:
    """The claim as a simulation; None if `not_simulated`.

    Args:
        claim: Row of a claims file.
        truths: What is true of each model's arms if the claims of that file are.
        tests: Size of the confirmatory family.
        sets: Number of random sets by the name that their arms share; `SETS` of others.
    """
    where = _where(claim)
    pairs = _arms_of(claim["table"], where, truths, sets)
    measure = _measure(where)
    if not pairs or measure not in MEASURES:
        return None
    relative = claim["statistic"] == "relative_change"
    rows = []
    for kind, true in pairs:
        names = list(true)
        base = true[names[0]]
        if kind == "arm":
            null = {names[0]: with_value(base, measure, claim["null"])}
        else:
            apart = _moved(base, measure, claim["null"], relative)
            null = {names[0]: base}
            null |= {name: replace(apart, spread=true[name].spread) for name in names[1:]}
        arm = where.get("arm", [""])[0].partition(" - ")[0]
        arm = f"{arm}-0" if kind == "sets" else arm
        rho = max((least for name, least in ALIKE.items() if arm.startswith(name)), default=0.0)
        rows.append(Row(kind, true, null, where.get("kind") == ["point"], arm, rho))
    region = region_of(claim)
    family = tests if claim.get("family") == "yes" and region.is_sign else 0
    return Scenario(claim["claim"], measure, relative, region, tuple(rows), family)


def not_simulated(claim: Mapping[str, Any], truths: Truths) -> str:
    """Why a claim is not simulated; empty if it is."""
    if claim["table"] in ELSEWHERE:
        return ELSEWHERE[claim["table"]]
    if claim["table"] not in TABLES:
        return f"{claim['table']} is not simulated"
    where = _where(claim)
    if _measure(where) not in MEASURES:
        return f"{_measure(where)!r} is no measure"
    if _arms_of(claim["table"], where, truths):
        return ""
    kind = where.get("kind", [""])[0]
    if kind in NO_MODEL and where.get("statistic") != ["difference"]:
        return NO_MODEL[kind]
    return "the shipped studies have no such arm, and no source gives its values"


def _where(claim: Mapping[str, Any]) -> Where:
    return {column: values for column, sign, values in parse_where(claim["where"]) if sign == "="}


def _measure(where: Where) -> str:
    return where.get("measure", [""])[0]


def _arms_of(
    table: str, where: Where, truths: Truths, count: Mapping[str, int] = NO_SETS
) -> list[tuple[Kind, Arms]]:
    """Kind and true arms of every row; empty if one of them is not known."""
    kind = where.get("kind", [""])[0]
    arm = where.get("arm", ["steered"])[0]
    models = where.get("model", [])
    found: list[tuple[Kind, list[tuple[str, str, str]]]] = []
    if table == "tables/summary.csv" or (kind == "unsteered" and " - " not in arm):
        found = [("arm", [("arm", model, arm)]) for model in models]
    elif table == "tables/comparisons.csv" or kind == "unsteered":
        first, _, second = arm.partition(" - ")
        names = [("baseline", second or REPLAYED.get(first, "steered")), ("treatment", first)]
        found = [("paired", [(role, model, name) for role, name in names]) for model in models]
    elif kind == "pair":
        one = models[0]
        found = [
            ("models", [(other, other, "steered"), (one, one, "steered")])
            for other in where["against"]
        ]
    elif kind == "sets":
        random, _, second = arm.partition(" - ")
        numbers = range(count.get(random, SETS))
        sets = [(f"set-{number}", models[0], random) for number in numbers]
        found = [("sets", [("baseline", models[0], second), *sets])]
    elif kind == "matched":
        treatment, _, base = arm.partition(" - ")
        names = [("baseline", base), ("treatment", treatment)]
        found = [("models", [(role, model, name) for role, name in names]) for model in models]
    elif kind == "point":
        found = [("arm", [("arm", model, SWEEP)]) for model in models]
    elif kind == "share" and where.get("statistic") == ["difference"]:
        tuned = f"{models[0]}+sc{where['share'][0]}"
        names = [("baseline", models[0]), ("treatment", tuned)]
        found = [("paired", [(role, model, "steered") for role, model in names])]
    named = [place for _, places in found for place in places]
    if not all(name in truths.get(model, {}) for _, model, name in named):
        return []
    return [
        (how, {role: truths[model][name] for role, model, name in places}) for how, places in found
    ]


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
        raise EsrError(f"scenarios: the null of {measure!r} is not simulated")
    return replace(arm, multi=min(max(rates[measure], 0.0), 0.95))


def _moved(baseline: ArmSpec, measure: str, null: float, relative: bool) -> ArmSpec:
    """An arm that differs from the baseline by the null value."""
    if null == 0:
        return baseline
    value = true_value(measure, baseline)
    return with_value(baseline, measure, value * (1 + null / 100) if relative else value + null)


def true_value(measure: str, arm: ArmSpec) -> float:
    """True value of a measure in an arm, in its unit."""
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
        raise EsrError(f"scenarios: no true value of {measure!r}; known are {list(values)}")
    return values[measure]

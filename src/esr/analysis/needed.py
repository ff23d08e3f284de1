"""Latents that give a claim a power of 80 %, from the intervals of simulated studies.

The intervals of a claim's rows are known at the design of a study and at `GROWTH` times its
latents. In between and beyond, half-width^2 = a / latents + b: b is what more latents on the same
prompts cannot reduce. Nor can they reduce the differences between random sets of latents, which
bound the power of a claim about these (`power_of_sets`).
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy import stats

from esr.analysis.claims import Finding
from esr.analysis.quantiles import logit_normals
from esr.analysis.scenarios import Row, Scenario, true_value
from esr.analysis.specs import ArmSpec
from esr.analysis.verdicts import DECIDABLE

LEVEL = 0.95
"""Of the intervals."""
GROWTH = 4
"""Size of the larger of the two simulated studies from which intervals are extrapolated."""
MOST_SETS = 100
"""Random sets that are tried, at most."""
DRAWS = 2000
"""Draws of random sets; the standard error of a power of 80 % is 0.9 points."""


def latents_for(case: Scenario, row: Row, found: Sequence[Sequence[Finding]]) -> float:
    """Factor of the latents at which a row's interval lies in the region in 80 % of studies.

    The ends of the simulated intervals move towards the true value as the half-widths shrink.
    Infinite where no number is enough, as where random sets differ too much.
    """
    small, large = found
    sets = power_of_sets(case, row)
    if sets.power < DECIDABLE:
        return np.inf
    value = case.value_of(row)
    bounded = all(np.isfinite([f.low, f.high]).all() for f in small)
    drawn, unit = (small, 1) if bounded else (large, GROWTH)
    sides = []
    for end, edge, sign in (("low", case.region.lower, -1), ("high", case.region.upper, 1)):
        margin = sign * (edge - value)
        if margin <= 0:
            return np.inf
        if np.isinf(margin):
            continue
        halves = [np.array([sign * (getattr(f, end) - f.value) for f in each]) for each in found]
        if np.std([f.value for f in small]) == 0:
            return float(np.median(halves[0])) / margin  # No event: the bound falls as 1 / latents.
        a, b = _falling([float(np.median(each)) for each in halves], sets.half)
        beyond = np.array([sign * (getattr(f, end) - value) for f in drawn])
        strict = (_strictness(case, row) - 1) * halves[0 if bounded else 1]
        sides.append((margin, beyond + strict, a, b))
    for factor in np.geomspace(0.02, 500, 600):
        inside = [
            ends * np.sqrt((a / factor + b) / (a / unit + b)) <= margin
            for margin, ends, a, b in sides
        ]
        if np.all(inside, axis=0).mean() >= DECIDABLE:
            return float(factor)
    return np.inf


class SetsLimit(NamedTuple):
    """What random sets allow, with any number of latents and prompts.

    Attributes:
        power: Share of draws of the sets that confirm the claim.
        half: Median half-width of the interval, in the unit of the claim.
    """

    power: float
    half: float


def power_of_sets(case: Scenario, row: Row) -> SetsLimit:
    """The limit of many trials: the sets' own rates are known, and Student's interval is of these.

    Sets that do not differ are no limit: a power of 1, and a half-width of 0. One set has no
    interval.
    """
    base, *sets = row.true.values()
    if row.kind == "sets" and len(sets) < 2:
        return SetsLimit(0.0, np.inf)
    if row.kind != "sets" or not any(arm.spread for arm in sets):
        return SetsLimit(1.0, 0.0)
    rng = np.random.default_rng(0)
    values = np.empty((DRAWS, len(sets)))
    for column, arm in enumerate(sets):
        rates = logit_normals(arm.multi, arm.spread, rng.normal(size=DRAWS))
        values[:, column] = _values_at(case.measure, arm, rates)
    other = true_value(case.measure, base)
    changes = 100 * (values / other - 1) if case.relative else values - other
    mean = changes.mean(axis=1)
    half = stats.t.isf((1 - LEVEL) / 2, len(sets) - 1) * stats.sem(changes, axis=1)
    wide = _strictness(case, row) * half
    inside = (mean - wide >= case.region.lower) & (mean + wide <= case.region.upper)
    return SetsLimit(float(inside.mean()), float(np.median(half)))


def _values_at(measure: str, arm: ArmSpec, rates: np.ndarray) -> np.ndarray:
    """True values of a measure at these rates of restarts: each is linear in the rate."""
    at = (0.25, 0.75)
    low, high = (true_value(measure, replace(arm, multi=rate)) for rate in at)
    found: np.ndarray = low + (high - low) * (rates - at[0]) / (at[1] - at[0])
    return found


def fewest_sets(case: Scenario) -> float:
    """Random sets with which many latents and prompts decide a claim in 80 % of studies.

    NaN for a claim about other arms; infinite if `MOST_SETS` are not enough.
    """
    if any(row.kind != "sets" for row in case.rows):
        return np.nan

    def decided(count: int) -> bool:
        return all(
            power_of_sets(case, _resized(row, count)).power >= DECIDABLE for row in case.rows
        )

    if not decided(MOST_SETS):
        return np.inf
    return float(bisect_left(range(MOST_SETS), True, lo=2, key=decided))


def _resized(row: Row, count: int) -> Row:
    """The row with another number of random sets, which have one truth."""
    (name, base), (_, one), *_ = row.true.items()
    return replace(row, true={name: base} | {f"set-{number}": one for number in range(count)})


def _strictness(case: Scenario, row: Row) -> float:
    """Width of the interval of a claim of the family over that of the study's level.

    Few random sets have Student's quantile with as few degrees of freedom, which grows much faster.
    """
    if case.tests < 2 or not case.region.is_sign:
        return 1.0
    freedom = len(row.true) - 2 if row.kind == "sets" else np.inf
    ends = [float(stats.t.isf((1 - LEVEL) / 2 / count, freedom)) for count in (case.tests, 1)]
    return ends[0] / ends[1]


def _falling(halves: Sequence[float], least: float = 0.0) -> tuple[float, float]:
    """A and b of half-width^2 = a / factor + b, from those at factors 1 and 4.

    b is the square of `least` if it is known, as for random sets: three of them give widths that
    differ too much between studies for the two to be compared.
    """
    one, four = (half**2 for half in halves)
    if not np.isfinite(one):  # a ratio without bound: only what the larger study shows
        return 4 * four, 0.0
    rest = min(one, least**2) if least else max(0.0, (4 * four - one) / 3)
    return one - rest, rest

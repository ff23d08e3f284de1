"""Latents that give a claim a power of 80 %, from the intervals of simulated studies.

The intervals of a claim's rows are known at the design of a study and at `GROWTH` times its
latents. In between and beyond, half-width^2 = a / latents + b: b is what more latents on the same
prompts cannot reduce.
"""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from esr.analysis.claims import Finding
from esr.analysis.scenarios import SETS, Row, Scenario
from esr.analysis.verdicts import DECIDABLE

LEVEL = 0.95
"""Of the intervals."""
GROWTH = 4
"""Size of the larger of the two simulated studies from which intervals are extrapolated."""


def latents_for(case: Scenario, row: Row, found: Sequence[Sequence[Finding]]) -> float:
    """Factor of the latents at which a row's interval lies in the region in 80 % of studies.

    The ends of the simulated intervals move towards the true value as the half-widths shrink.
    """
    small, large = found
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
        a, b = _falling([float(np.median(each)) for each in halves])
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


def _strictness(case: Scenario, row: Row) -> float:
    """Width of the interval of a claim of the family over that of the study's level.

    Few random sets have Student's quantile with as few degrees of freedom, which grows much faster.
    """
    if case.tests < 2 or not case.region.is_sign:
        return 1.0
    freedom = SETS - 1 if row.kind == "sets" else np.inf
    ends = [float(stats.t.isf((1 - LEVEL) / 2 / count, freedom)) for count in (case.tests, 1)]
    return ends[0] / ends[1]


def _falling(halves: Sequence[float]) -> tuple[float, float]:
    """A and b of half-width^2 = a / factor + b, from those at factors 1 and 4."""
    one, four = (half**2 for half in halves)
    if not np.isfinite(one):  # a ratio without bound: only what the larger study shows
        return 4 * four, 0.0
    rest = max(0.0, (4 * four - one) / 3)
    return one - rest, rest

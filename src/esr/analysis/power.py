"""Power of the claims of a design, and the latents that would give 80 %.

A claim about means and contrasts of arms (`esr.analysis.scenarios`) has its latents from the widths
of simulated intervals. A claim of another table (`esr.analysis.rehearsals`) has them from a search:
the number is doubled or halved until the simulated power crosses 80 %.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from esr.analysis.needed import GROWTH, latents_for
from esr.analysis.operating import design_for, scenarios, simulate
from esr.analysis.rehearsals import Rehearsal, rehearsal, rehearsed_verdicts
from esr.analysis.scenarios import NO_SETS, Scenario, Truths, not_simulated
from esr.analysis.specs import StudySpec
from esr.analysis.statistics.crossed import FEW_CLUSTERS
from esr.analysis.verdicts import DECIDABLE

WIDTHS = 12
"""Larger studies from which the width of intervals is read, at most."""
CORRELATIONS = (0.05, 0.2)
"""Intra-latent correlations of restarts: no study has published its own."""
STEPS = 4
"""Times that the latents are doubled, or halved, at most."""
SEARCHED = 24
"""Simulated studies at each of these numbers, at most."""
POWER = ["claim", "source", "rho", "value", "power", "agreed", "latents", "latents_80", "label"]


def power_row(case: Scenario, spec: StudySpec, studies: int = 60) -> dict[str, Any]:
    """Power of a design, and the latents that would give 80 %.

    `power`: share of simulated studies that confirm by the primary judge; `agreed`: by all ways.
    The latents follow from the simulated intervals and how they narrow from the design to 4 times
    its latents, half-width^2 = a / latents + b: b is what more latents on the same prompts cannot
    reduce.
    Infinite where no number is enough, or the claimed value lies at the edge of its own region.
    """
    design = design_for(spec, case.rows[0])
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


def rehearsed_power(case: Rehearsal, spec: StudySpec, studies: int = 60) -> dict[str, Any]:
    """The same for a claim of another table; its latents have an error of about a third.

    `latents_80` is infinite, too, if the study reads no more latents than it has, and if each share
    is trained once: more latents do not help.
    """
    latents = case.latents(spec)
    if case.trained and spec.trainings < 2:
        power, agreed, needed = 0.0, 0.0, np.inf
    else:
        found = rehearsed_verdicts(case, spec, studies)
        power, agreed = (float(found[name].eq("confirmed").mean()) for name in found)
        few = min(SEARCHED, max(1, studies // 2))

        def power_at(n: int) -> float:
            verdicts = rehearsed_verdicts(replace(case, graded=False), case.resized(spec, n), few)
            return float(verdicts["verdict"].eq("confirmed").mean())

        needed = (
            np.nan
            if case.fixed
            else searched_latents(power_at, min(latents, case.most), power, case.most)
        )
    shown = {"power": power, "agreed": agreed, "latents": latents, "latents_80": needed}
    return shown | {"label": label_of(power, agreed)}


def searched_latents(
    power_at: Callable[[int], float], latents: float, power: float, most: float = np.inf
) -> float:
    """Latents for a power of 80 %: doubled or halved until it is crossed, then interpolated.

    Args:
        power_at: Power with so many latents.
        latents: Of the design.
        power: With these.
        most: Largest number that has an effect.

    Returns:
        The number, at least `FEW_CLUSTERS`; infinite if `STEPS` doublings do not give it.
    """
    enough = power >= DECIDABLE
    for _ in range(STEPS):
        other = round(latents / 2 if enough else latents * 2)
        if other < FEW_CLUSTERS:
            return float(FEW_CLUSTERS)
        if other > most:
            return np.inf
        found = power_at(other)
        if (found >= DECIDABLE) != enough:
            place = (DECIDABLE - power) / (found - power)
            return float(np.ceil(latents * (other / latents) ** place))
        latents, power = other, found
    return float(latents) if enough else np.inf


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
    sets: Mapping[str, int] = NO_SETS,
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
        sets: Number of random sets by the name that their arms share.
    """
    rows: list[dict[str, Any]] = []
    for claim, scenario in scenarios(claims, truths, sets):
        head = {"claim": claim["claim"], "source": claim["source"]}
        case = scenario or rehearsal(claim, truths)
        if case is None:
            rows.append(head | {"label": f"not simulated: {not_simulated(claim, truths)}"})
            continue
        found: dict[str, Any] = {}
        drawn: list[StudySpec] = []
        for rho in correlations:
            design = replace(spec, rho=rho)
            before, drawn = drawn, _designs(case, design)
            if drawn != before:  # else it would be the same studies again
                found = _power(case, design, studies) | {"value": case.value}
            rows.append(head | {"rho": rho} | found)
    return pd.DataFrame(rows, columns=POWER)


def _power(case: Scenario | Rehearsal, spec: StudySpec, studies: int) -> dict[str, Any]:
    if isinstance(case, Scenario):
        return power_row(case, spec, studies)
    return rehearsed_power(case, spec, max(1, studies // 3))  # their tables take longer


def _designs(case: Scenario | Rehearsal, spec: StudySpec) -> list[StudySpec]:
    """All of a design that matters to a claim."""
    if isinstance(case, Scenario):
        return [design_for(spec, row) for row in case.rows]
    return [spec if case.correlated else replace(spec, rho=0.0)]


def _grown(spec: StudySpec) -> StudySpec:
    sizes = {arm: (GROWTH * latents, trials) for arm, (latents, trials) in spec.sizes.items()}
    sweep = GROWTH * spec.sweep[0], spec.sweep[1]
    return replace(spec, latents=GROWTH * spec.latents, sizes=sizes, sweep=sweep)

"""Branching, simulated: what restarts sampled again at their prefixes decide, and at what price.

A study draws whole responses of `steered` (`esr.analysis.simulation`). Those that restart give the
prefixes, each in the latent and prompt of its response. A condition restarts from a prefix with a
probability of the prefix: a beta variable with the condition's rate as its mean and the
intra-prefix correlation, at the same quantile in every condition. Continuations of one prefix are
independent given that probability. The contrast, its interval and its verdict are those of real
studies: latents and prompts are the crossed factors, and prefixes are nested in both.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int
from scipy import stats

from esr.analysis.claims import Finding, Region, decide
from esr.analysis.measures import MEASURES
from esr.analysis.operating import Judged, find
from esr.analysis.scenarios import Row
from esr.analysis.simulation import draw_arm, draw_design
from esr.analysis.specs import ArmSpec, StudySpec

MEASURE = MEASURES["multi_attempt_rate"]
LEVEL = 0.95
STEERED = "steered"


@dataclass(frozen=True)
class BranchSpec:
    """Design of a branching experiment.

    Attributes:
        texts: Largest number of prefixes; those of all latents in turn.
        samples: Continuations of each, in each condition.
        rho: Intra-prefix correlation of restarts, above 0.
    """

    texts: int
    samples: int
    rho: float = 0.2


def in_turn(latents: Int[np.ndarray, " texts"], count: int) -> Int[np.ndarray, " chosen"]:
    """Places of the first `count` texts, those of all latents in turn, in their order."""
    order = np.argsort(latents, kind="stable")
    ordered = latents[order]
    turn = np.empty(len(latents), int)
    turn[order] = np.arange(len(latents)) - np.searchsorted(ordered, ordered)
    return np.sort(np.argsort(turn, kind="stable")[:count])


def draw_branches(
    spec: StudySpec, branch: BranchSpec, rates: Mapping[str, float], seed: int | list[int]
) -> Judged:
    """Restarts (0 or 100) of every condition at the same prefixes, baseline first.

    Args:
        spec: The study whose arm `steered` the prefixes are cut from.
        branch: How many prefixes and continuations.
        rates: Share of continuations that restart, by condition; above 0 and below 1.
        seed: Of the draw.
    """
    rng = np.random.default_rng(seed)
    design = draw_design(spec, rng)
    restarted = np.flatnonzero(draw_arm(spec, STEERED, design, rng).multi)
    chosen = restarted[in_turn(design.latent[restarted], branch.texts)]
    quantile = rng.random(len(chosen))
    shape = (len(chosen), branch.samples)
    values = []
    for rate in rates.values():
        scale = (1 - branch.rho) / branch.rho
        own = stats.beta.ppf(quantile, rate * scale, (1 - rate) * scale)
        values.append(100.0 * (rng.random(shape) < own[:, None]).ravel())
    codes = (np.repeat(each[chosen], branch.samples) for each in (design.latent, design.prompt))
    factors = [np.unique(each, return_inverse=True)[1] for each in codes]
    return Judged(values, None, [factors])


def branch_finding(judged: Judged, relative: bool) -> Finding:
    """The change from the first condition to the second, as the tables of a study have it."""
    nothing: Mapping[str, ArmSpec] = {}
    return find(Row("paired", nothing, nothing), judged, MEASURE, relative, LEVEL)


def draw_whole(spec: StudySpec, arms: Mapping[str, ArmSpec], seed: int | list[int]) -> Judged:
    """Restarts (0 or 100) in whole responses of every arm, all on the same trials."""
    rng = np.random.default_rng(seed)
    study = replace(spec, arms=arms)
    design = draw_design(study, rng)
    values = [100.0 * draw_arm(study, arm, design, rng).multi for arm in arms]
    return Judged(values, None, [[design.latent, design.prompt]])


def shares(
    draw: Callable[[list[int]], Judged], region: Region, studies: int, relative: bool
) -> tuple[float, float]:
    """Percentages of simulated studies that confirm a claim about the change, and that refute it.

    Args:
        draw: A study, given its seed.
        region: Where the claim holds.
        studies: Number of them.
        relative: Whether the claim is about the relative change.
    """
    found = [
        decide(branch_finding(draw([7, number]), relative), region)[0] for number in range(studies)
    ]
    confirmed, refuted = (found.count(verdict) for verdict in ("confirmed", "refuted"))
    return 100 * confirmed / studies, 100 * refuted / studies

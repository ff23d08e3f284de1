"""Claims of other tables than `summary` and its like, as simulated studies.

A rehearsal draws the table that a claim reads, in the world where the claim is true or under its
null, by the code that makes the table in a study. The claim's own rule decides. Such claims have no
`esr.analysis.scenarios`: what they are about is no mean or contrast of arms.

What no source gives is assumed, and named where it is.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from esr.analysis.claims import Verdict, judge_claim
from esr.analysis.operating import LEVEL, tally
from esr.analysis.rehearsals import (
    activations,
    curves,
    hazards,
    ranks,
    raters,
    recovering,
    reports,
)
from esr.analysis.rehearsals.base import Rehearsal
from esr.analysis.scenarios import Truths
from esr.analysis.specs import StudySpec
from esr.analysis.verdicts import Power, summarise_ways
from esr.analysis.ways import Way

__all__ = ["Rehearsal", "rehearsal", "rehearse_studies", "rehearsed_verdicts"]

PARTS = (recovering, curves, raters, ranks, hazards, activations, reports)


def rehearsal(claim: Mapping[str, Any], truths: Truths) -> Rehearsal | None:
    """The claim as simulated studies; None if it is not simulated in this way.

    Args:
        claim: Row of a claims file.
        truths: What is true of each model's arms if the claims of that file are.
    """
    found = (part.rehearse(claim, truths) for part in PARTS)
    return next((each for each in found if each is not None), None)


def rehearse_studies(case: Rehearsal, spec: StudySpec, studies: int, first: int = 0) -> pd.Series:
    """Number of studies that confirm and refute the claim, where it is true and under its null.

    Args:
        case: The claim.
        spec: Design of the studies.
        studies: Number of them, in each world.
        first: Number of the first one: others draw other studies.
    """

    def verdict_of(null: bool, number: int) -> str:
        verdict: str = judge_claim(case.claim, case.draw(spec, null, number), 1 - LEVEL)["verdict"]
        return verdict

    return tally(verdict_of, studies, first)


def rehearsed_verdicts(case: Rehearsal, spec: StudySpec, studies: int) -> pd.DataFrame:
    """Verdicts of studies in which the claim is true: `verdict` (primary judge) and `agreed`.

    The second judge, who does not err, grades its sample; `agreed` is the verdict of all ways, by
    the rules of the scorecard. Without such a sample a claim that rests on a judge stays
    `uncorroborated`.

    Args:
        case: The claim.
        spec: Design of the studies.
        studies: Number of them.
    """
    return pd.DataFrame([_verdicts(case, spec, number) for number in range(studies)])


def _verdicts(case: Rehearsal, spec: StudySpec, number: int) -> dict[str, Verdict]:
    ways: dict[Way, bool] = {"primary": False}
    if case.graded and spec.sampled:
        ways["second"] = True
    found = {
        way: judge_claim(case.claim, case.draw(spec, False, number, second), 1 - LEVEL)
        | {"p_holm": float("nan")}
        for way, second in ways.items()
    }
    agreed: Verdict = summarise_ways(case.claim, found, Power())["verdict"]
    return {"verdict": found["primary"]["verdict"], "agreed": agreed}

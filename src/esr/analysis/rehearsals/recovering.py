"""Claims about recovery over the redraw null: `tables/recovery.csv`."""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import pandas as pd

from esr.analysis.recovery import recovery
from esr.analysis.rehearsals.base import Rehearsal, drawn_arms, places, sampled
from esr.analysis.scenarios import Truths
from esr.analysis.specs import ArmSpec, StudySpec

LOW_FIRST = 0.75
"""How far restarts prefer low first attempts: then a redraw succeeds in 62.5 %, as in the organism
(without any preference in 50 %)."""
LARGE = StudySpec(2000, 16, 48, rho=0, rho_prompt=0)
"""A study that is large enough to read the true excess from."""


def rehearse(claim: Mapping[str, Any], truths: Truths) -> Rehearsal | None:
    """The claim if it is about an excess; under its null every last attempt is a new draw."""
    where = places(claim)
    if claim["table"] != "tables/recovery.csv" or claim["null"] != 0:
        return None
    (model,), (name,), (measure,) = (where[key] for key in ("model", "arm", "measure"))
    arm = replace(truths[model][name], low_first=LOW_FIRST)

    def draw(spec: StudySpec, null: bool, number: int, second: bool = False) -> pd.DataFrame:
        found = _table(replace(arm, redraw=null), spec, (5, int(null), number), second)
        return found.assign(model=model, arm=name)

    return Rehearsal(claim, _excess(arm, measure), draw, graded=True)


@lru_cache(maxsize=512)  # claims about other measures of an arm read the same small tables
def _table(
    arm: ArmSpec, spec: StudySpec, seed: tuple[int, ...], second: bool = False
) -> pd.DataFrame:
    scores = drawn_arms(spec, {"arm": arm}, [*seed])["arm"]
    graded = sampled([scores], spec, [*seed])[0] if second else scores
    return recovery(graded, n_permutations=199)


@lru_cache
def _excess(arm: ArmSpec, measure: str) -> float:
    """True excess: that of a large study (the model has no closed form of it)."""
    table = _table(arm, LARGE, (5,))
    return round(float(table.set_index("measure").loc[measure, "excess"]), 2)

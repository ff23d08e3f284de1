"""Error rates of claims when judges err, and when one of them has a habit.

Two kinds of errors. *Errors of all*: each judge misses restarts and sees some that are not there,
equally often in all arms, and in part in the same responses (`ALL_ERR`). *A habit of one*: the
claim's null is true, but the primary judge alone sees what is claimed, as it would if ablation
garbled the words that it looks for (`HABIT`). The verdict is that of all ways, with the second
judge's sample drawn as in a study: `confirmed` must survive neither.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import pandas as pd

from esr.analysis.operating import simulate
from esr.analysis.scenarios import Row, Scenario
from esr.analysis.specs import JudgeSpec, StudySpec

SENSITIVITY, SPECIFICITY = 0.8, 0.995
"""Of both judges, in steered text. In the organism, its second judge taken as the truth, the
primary judge has 41 to 92 % and 88 to 99.6 % (`tables/corrected.csv`)."""
DETECTOR = 0.8, 0.998
"""Of the restart detector (docs/method.md: recall 72 to 92 %)."""
COMMON = 0.5
"""Share of trials in which the judges and the detector err together; assumed."""
ON_TOPIC = 85.0
"""Arms with a higher first score have no steering; no judge sees attempts that are not there (0 of
13,118 in the paper)."""
COUNTS = [
    "judged_true",
    "judged_refuted_true",
    "judged_null",
    "judged_refuted_null",
    "habit_primary",
    "habit",
]
"""Columns of `judged_characteristics`."""


def all_err(spec: StudySpec, row: Row, null: bool) -> StudySpec:
    """The design with judges that err equally in all steered arms."""
    arms = row.null if null else row.true
    judge, detector = (
        JudgeSpec(
            sensitivity, {arm: _seen(truth.first, specificity) for arm, truth in arms.items()}
        )
        for sensitivity, specificity in ((SENSITIVITY, SPECIFICITY), DETECTOR)
    )
    judges = {"primary": judge, "second": judge}
    return replace(spec, judges=judges, detector=detector, common=COMMON)


def _seen(first: float, specificity: float) -> float:
    return 1.0 if first > ON_TOPIC else specificity


def one_habit(spec: StudySpec, row: Row, null: bool) -> StudySpec:
    """The design with a primary judge that sees the claim's rates of restarts under its null.

    Where the null has more restarts than the claim states, it misses the rest; where it has fewer,
    it sees as many that are not there. The other judges err as in `all_err`.
    """
    others = all_err(spec, row, null)
    if not null:
        return others
    rates = {arm: (row.null[arm].multi, truth.multi) for arm, truth in row.true.items()}
    habit = JudgeSpec(
        {arm: min(1.0, seen / real) if real else 1.0 for arm, (real, seen) in rates.items()},
        {arm: 1 - max(0.0, seen - real) / (1 - real) for arm, (real, seen) in rates.items()},
    )
    return replace(others, judges={**others.judges, "primary": habit})


def judged_characteristics(
    case: Scenario, spec: StudySpec, studies: int, first: int = 0
) -> pd.Series:
    """Number of studies by the verdict of all ways, with judges that err (`COUNTS`).

    `judged_true`, `judged_refuted_true`: confirmed and refuted where the claim is true;
    `judged_null`, `judged_refuted_null`: under its null; `habit`: confirmed under its null with a
    habit of the primary judge, and `habit_primary`: by that judge alone.

    Args:
        case: The claim.
        spec: Design of the studies.
        studies: Number of them, in each world.
        first: Number of the first one.
    """
    count = {"confirmed": "", "refuted": "refuted_"}
    found = pd.Series(0, COUNTS)
    run = partial(simulate, case, spec, studies, ways=True, first=first)
    for world, null in (("true", False), ("null", True)):
        verdicts = run(null=null, erring=all_err)["agreed"]
        for verdict, name in count.items():
            found[f"judged_{name}{world}"] = int(verdicts.eq(verdict).sum())
    if has_habit(case):
        table = run(null=True, erring=one_habit)
        found["habit_primary"] = int(table["verdict"].eq("confirmed").sum())
        found["habit"] = int(table["agreed"].eq("confirmed").sum())
    return found


def has_habit(case: Scenario) -> bool:
    """Whether a judge that miscounts restarts can show the claim: its rows differ in their rate."""
    row = case.rows[0]
    worlds: tuple[Mapping[str, float], ...] = tuple(
        {arm: truth.multi for arm, truth in arms.items()} for arms in (row.true, row.null)
    )
    return worlds[0] != worlds[1]

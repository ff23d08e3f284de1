"""Claims of a shipped file, and their simulations."""

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd

from esr.analysis.claims import read_claims
from esr.analysis.operating import scenarios
from esr.analysis.scenarios import Scenario
from esr.analysis.specs import ArmSpec
from esr.analysis.truths import TRUTHS
from helpers.checkout import REPO


def claims_of(study: str) -> pd.DataFrame:
    return read_claims([REPO / "resources" / "claims" / f"{study}.csv"])


def cases_of(study: str) -> dict[str, Scenario]:
    """The simulated claims of a file, by name."""
    pairs = scenarios(claims_of(study), TRUTHS[study])
    return {claim["claim"]: case for claim, case in pairs if case is not None}


def case_of(study: str, claim: str) -> Scenario:
    return cases_of(study)[claim]


def with_spread(case: Scenario, spread: float) -> Scenario:
    """The claim with random sets that differ so much (`ArmSpec.spread`), in both worlds."""

    def changed(arms: Mapping[str, ArmSpec]) -> Mapping[str, ArmSpec]:
        return {
            name: replace(arm, spread=spread) if name.startswith("set-") else arm
            for name, arm in arms.items()
        }

    rows = [replace(row, true=changed(row.true), null=changed(row.null)) for row in case.rows]
    return replace(case, rows=tuple(rows))

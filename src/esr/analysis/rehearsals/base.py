"""A claim as simulated studies, and what its parts have in common."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from esr.analysis.claims import parse_where
from esr.analysis.simulation import ArmSpec, JudgeSpec, StudySpec, draw_study
from esr.config import StatisticsConfig

SETTINGS = StatisticsConfig(bootstrap=1000)
"""Of the tables; studies resample more often, which only makes the ends of intervals smoother."""


@dataclass(frozen=True)
class Rehearsal:
    """A claim as simulated studies.

    Attributes:
        claim: Row of a claims file.
        value: What is true of its statistic in the world of the claim.
        draw: The table that the claim reads, given a design, whether the null is true, and the
            number of the study.
    """

    claim: Mapping[str, Any]
    value: float
    draw: Callable[[StudySpec, bool, int], pd.DataFrame]


def places(claim: Mapping[str, Any]) -> dict[str, list[str]]:
    """Values by column in the claim's `where`."""
    return {name: values for name, sign, values in parse_where(claim["where"]) if sign == "="}


def drawn_arms(
    spec: StudySpec, arms: Mapping[str, ArmSpec], seed: list[int]
) -> dict[str, pd.DataFrame]:
    """Scores of arms on the same latents and prompts by one judge that does not err."""
    design = replace(spec, arms=arms, judges={"primary": JudgeSpec()})
    return draw_study(design, seed)["primary"]

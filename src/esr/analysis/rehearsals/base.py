"""A claim as simulated studies, and what its parts have in common."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from esr.analysis.claims import parse_where
from esr.analysis.simulation import draw_columns, draw_study, scores_table, second_phase
from esr.analysis.specs import ArmSpec, JudgeSpec, StudySpec
from esr.config import StatisticsConfig

SETTINGS = StatisticsConfig(bootstrap=1000)
"""Of the tables; studies resample more often, which only makes the ends of intervals smoother."""


class Draw(Protocol):
    """The table that a claim reads, of one simulated study."""

    def __call__(
        self, spec: StudySpec, null: bool, number: int, second: bool = False
    ) -> pd.DataFrame:
        """Draw it.

        Args:
            spec: Design of the study.
            null: Whether the claim's null is true.
            number: Number of the study.
            second: Whether the second judge grades, its sample alone.
        """


@dataclass(frozen=True)
class Rehearsal:
    """A claim as simulated studies.

    Attributes:
        claim: Row of a claims file.
        value: What is true of its statistic in the world of the claim.
        draw: The table that the claim reads.
        latents: Latents that a design gives it.
        resized: A design with another number of them.
        graded: Whether the second judge grades what it is about.
        trained: Whether it needs several trainings of a share, since one decides nothing.
        most: Latents beyond which a study reads no more.
        fixed: Whether the number of steered latents does not matter to it.
        correlated: Whether the intra-latent correlation of restarts matters to it.
    """

    claim: Mapping[str, Any]
    value: float
    draw: Draw
    latents: Callable[[StudySpec], int] = lambda spec: spec.latents
    resized: Callable[[StudySpec, int], StudySpec] = lambda spec, n: replace(spec, latents=n)
    graded: bool = False
    trained: bool = False
    most: float = float("inf")
    fixed: bool = False
    correlated: bool = True


def of_sweep(spec: StudySpec) -> int:
    """Latents of a boost sweep."""
    return spec.sweep[0]


def with_sweep(spec: StudySpec, latents: int) -> StudySpec:
    """A design with other latents in its boost sweep."""
    return replace(spec, sweep=(latents, spec.sweep[1]))


def places(claim: Mapping[str, Any]) -> dict[str, list[str]]:
    """Values by column in the claim's `where`."""
    return {name: values for name, sign, values in parse_where(claim["where"]) if sign == "="}


def drawn_arms(
    spec: StudySpec, arms: Mapping[str, ArmSpec], seed: list[int]
) -> dict[str, pd.DataFrame]:
    """Scores of arms on the same latents and prompts by one judge that does not err."""
    design = replace(spec, arms=arms, judges={"primary": JudgeSpec()})
    return draw_study(design, seed)["primary"]


def drawn_table(
    spec: StudySpec,
    arms: Sequence[ArmSpec],
    seed: list[int],
    *,
    second: bool = False,
    **marks: ArrayLike,
) -> pd.DataFrame:
    """The same in one table, which is much faster to make than one an arm.

    Args:
        spec: Design of the study.
        arms: What is true of each.
        seed: Of the draws.
        second: Whether to leave the trials that a second judge grades, with their weights.
        marks: Columns that tell the arms apart, one value an arm.
    """
    named = {str(number): arm for number, arm in enumerate(arms)}
    design = replace(spec, arms=named, judges={"primary": JudgeSpec()})
    drawn = list(draw_columns(design, seed)["primary"].values())
    columns = {name: np.concatenate([arm[name] for arm in drawn]) for name in drawn[0]}
    columns |= {name: np.repeat(each, len(drawn[0]["latent"])) for name, each in marks.items()}
    table = scores_table(columns, spec.prompts, "all", "primary")
    if not second:
        return table
    weights = np.concatenate(second_phase(drawn, spec, seed))
    return table.assign(weight=weights)[weights > 0].reset_index(drop=True)


def sampled(tables: Sequence[pd.DataFrame], spec: StudySpec, seed: list[int]) -> list[pd.DataFrame]:
    """The trials of each arm that a second judge grades, who does not err, with their weights."""
    weights = second_phase(tables, spec, seed)
    return [
        table.assign(weight=weight)[weight > 0].reset_index(drop=True)
        for table, weight in zip(tables, weights, strict=True)
    ]

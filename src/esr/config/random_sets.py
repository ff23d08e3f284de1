"""Arms that ablate random sets of latents on the same trials, and what they are compared with."""

from collections.abc import Mapping
from typing import NamedTuple

from esr.config.arms import ArmConfig

CHANGES = (
    "boost",
    "meta_prompt",
    "prefill",
    "strength",
    "ablate_to",
    "layers",
    "window",
    "latents",
)
"""What a replay may change beside the ablation; sets of equal changes are compared."""


class RandomSets(NamedTuple):
    """Random sets that are ablated on the trials of one arm.

    Attributes:
        arms: One a set.
        against: The arm that they replay, then the one that ablates detectors on the same trials.
    """

    arms: list[str]
    against: list[str]


def random_sets(arms: Mapping[str, ArmConfig]) -> dict[str, RandomSets]:
    """Random sets of a study by the name that their arms share: `ablate-random` of `-0`, `-1`."""
    found: dict[str, RandomSets] = {}
    for name, arm in arms.items():
        if not isinstance(arm.ablate, str) or arm.ablate == "detectors" or arm.replay is None:
            continue
        number = arm.ablate.removeprefix("random-")
        stem = name.removesuffix(f"-{number}")
        found.setdefault(stem, RandomSets([], _against(arms, arm))).arms.append(name)
    return found


def _against(arms: Mapping[str, ArmConfig], arm: ArmConfig) -> list[str]:
    """The replayed arm, and the first one that differs from `arm` in what it ablates alone."""
    assert arm.replay is not None
    detectors = (
        name
        for name, other in arms.items()
        if other.ablate == "detectors"
        and other.replay == arm.replay
        and all(getattr(other, key) == getattr(arm, key) for key in CHANGES)
    )
    return [arm.replay, *list(detectors)[:1]]

"""Arms along other directions than decoder rows that are matched to `steered` by impact."""

from collections.abc import Mapping

from esr.config.arms import ArmConfig

DRAWN = {"over", "directions", "trials", "latents", "shards", "models", "boost"}
"""What such an arm may set: anything else is a second difference from `steered`."""


def matched_arms(arms: Mapping[str, ArmConfig]) -> list[str]:
    """Arms whose directions have thresholds of their own for the target of `steered`.

    They differ from `steered` in the directions alone, so that first attempts score the same.
    """
    steered = arms.get("steered")
    if steered is None or not _at_threshold(steered) or not steered.model_fields_set <= DRAWN:
        return []
    return [
        name
        for name, arm in arms.items()
        if arm.directions is not None and _at_threshold(arm) and arm.model_fields_set <= DRAWN
    ]


def _at_threshold(arm: ArmConfig) -> bool:
    return arm.over == "latents" and arm.boost == "threshold"

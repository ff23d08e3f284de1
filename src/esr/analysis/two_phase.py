"""Flags of an arm in two phases: all trials by the primary judge, a sample by a reference."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from esr.analysis.statistics import cluster_codes
from esr.analysis.statistics.crossed import Values
from esr.errors import EsrError


@dataclass(frozen=True)
class TwoPhase:
    """Flags of an arm by both judges.

    Attributes:
        primary: 0 or 1 for every trial, NaN if not scored.
        reference: 0 or 1 where sampled and scored, else NaN.
        weights: Trials that each sampled one stands for; read where `reference` is.
        latent: Latent of each trial, integer codes.
        prompt: Prompt of each trial, likewise.
    """

    primary: Values
    reference: Values
    weights: Values
    latent: np.ndarray
    prompt: np.ndarray

    @property
    def factors(self) -> list[np.ndarray]:
        """Latents and prompts; prompts alone if they stand for the latents that no trial has."""
        if np.array_equal(self.latent, self.prompt):
            return [self.prompt]
        return [self.latent, self.prompt]

    @property
    def sampled(self) -> np.ndarray:
        """Trials with both."""
        return ~np.isnan(self.reference) & ~np.isnan(self.primary)

    @property
    def positives(self) -> int:
        """Number of sampled trials that the reference flags."""
        return int(np.nansum(self.reference[self.sampled]))


def two_phase(
    primary: pd.DataFrame, reference: pd.DataFrame, column: str = "multi_attempt"
) -> TwoPhase:
    """Pair the scores of an arm with those of its second phase.

    Args:
        primary: Scores of the arm by the primary judge.
        reference: Scores of the sampled trials by the reference, with a column `weight`.
        column: Flag that is corrected.

    Raises:
        EsrError: the reference has trials that the arm lacks, repeats one, or has no weight.
    """
    if "weight" not in reference:
        raise EsrError("corrected: the second phase has no column `weight`; keep that of the draw")
    unknown = set(reference["trial_id"]) - set(primary["trial_id"])
    if unknown or reference["trial_id"].duplicated().any():
        raise EsrError(
            f"corrected: {len(unknown)} trials of the second phase are not in the arm, "
            f"{int(reference['trial_id'].duplicated().sum())} are repeated; sample this arm again"
        )
    second = reference.set_index("trial_id").reindex(primary["trial_id"])

    def flags(frame: pd.DataFrame) -> Values:
        values = pd.to_numeric(frame[column]).astype("Float64").to_numpy(float, na_value=np.nan)
        return np.where(frame["status"].eq("ok").fillna(False), values, np.nan)

    return TwoPhase(
        flags(primary),
        flags(second),
        second["weight"].to_numpy(float, na_value=np.nan),
        cluster_codes(primary["latent"])[0],
        cluster_codes(primary["prompt_id"])[0],
    )


def stack(phases: Sequence[TwoPhase]) -> TwoPhase:
    """Arms one after another; latents and prompts keep their codes, which arms must share."""
    columns = (
        np.concatenate([getattr(phase, name) for phase in phases])
        for name in ("primary", "reference", "weights", "latent", "prompt")
    )
    return TwoPhase(*columns)

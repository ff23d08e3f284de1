"""Arms that two judges graded, the second one on a stratified sample, drawn with known truth."""

from dataclasses import replace
from typing import Any

import numpy as np

from esr.analysis.simulation import Design, draw_arm, draw_design
from esr.analysis.specs import ArmSpec, StudySpec
from esr.analysis.two_phase import TwoPhase

Rates = tuple[float, float]
DETECTOR = (0.9, 0.97)
"""Sensitivity and specificity of the restart detector that helps to choose the second phase."""


def two_arms(rates: Rates, latents: int, trials: int, rho: float = 0.1) -> StudySpec:
    """Two paired arms with these true rates of restarts."""
    arm = ArmSpec(multi=rates[0])
    arms = {"steered": arm, "ablated": replace(arm, multi=rates[1])}
    return StudySpec(latents, trials, 24, arms, rho=rho, rho_prompt=0, pairing=0.2)


def draw_phases(
    spec: StudySpec, errors: dict[str, Rates], share: float, seed: Any
) -> dict[str, TwoPhase]:
    """Every arm with all trials that anyone flags, and a share of the others, graded by the truth.

    `errors`: sensitivity and specificity of the primary judge by arm.
    """
    rng = np.random.default_rng(seed)
    design = draw_design(spec, rng)
    return {arm: _phase(spec, arm, errors[arm], share, design, rng) for arm in spec.arms}


def _phase(
    spec: StudySpec,
    arm: str,
    errors: Rates,
    share: float,
    design: Design,
    rng: np.random.Generator,
) -> TwoPhase:
    truth = draw_arm(spec, arm, design, rng)
    primary = truth.flagged(*errors, rng.random(len(truth.multi)))
    flagged = primary | truth.flagged(*DETECTOR, rng.random(len(truth.multi)))
    others = np.flatnonzero(~flagged)
    drawn = rng.choice(others, round(share * len(others)), replace=False)
    weights = np.where(flagged, 1.0, np.nan)
    weights[drawn] = len(others) / len(drawn)
    reference = np.where(np.isnan(weights), np.nan, truth.multi.astype(float))
    return TwoPhase(primary.astype(float), reference, weights, design.latent, design.prompt)

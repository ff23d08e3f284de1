"""How thresholds are found."""

from typing import Literal

from esr.config.section import Section, key


class ThresholdsConfig(Section):
    """How thresholds are found: the boosts at which first attempts score `target` on average."""

    method: Literal["logistic", "bisection"] = key(
        "logistic",
        "`logistic`: an adaptive Bayesian dose-response model; `bisection`: the paper's method.",
        source="paper: bisection; docs/thresholds.md compares them",
    )
    target: float = key(
        50,
        "Mean first-attempt score at the threshold.",
        unit="points",
        ge=1,
        lt=100,
        source="January 50; published 30",
    )
    steps: int = key(10, "Boosts tried per latent.", gt=0, le=1000, source="released code")
    samples_per_step: int = key(
        2,
        "Judged responses per boost.",
        gt=0,
        le=1000,
        source="released code: 1, and 5 for 70B",
    )
    max_widenings: int = key(
        3,
        "How often the bounds may be doubled if they prove too narrow (`logistic` only).",
        ge=0,
        le=20,
    )

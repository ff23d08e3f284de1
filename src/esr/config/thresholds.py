"""How thresholds are found."""

from typing import Literal

from esr.config.section import Section, key


class ThresholdsConfig(Section):
    """How the boost of a latent is found at which the first attempt scores `target`."""

    method: Literal["logistic", "bisection"] = key(
        "logistic",
        "`logistic`: Bayesian dose-response, adaptive; `bisection`: the paper's own.",
        source="paper: bisection; docs/calibration.md for why not",
    )
    target: float = key(
        50,
        "Mean first-attempt score at the threshold.",
        unit="points",
        gt=0,
        lt=100,
        source="January 50; published 30",
    )
    steps: int = key(10, "Boosts tried per latent.", gt=0, source="released code")
    samples_per_step: int = key(
        2, "Judged responses per boost tried.", gt=0, source="released code: 1, and 5 for 70B"
    )
    max_widenings: int = key(
        3,
        "How often bounds that prove too narrow are doubled (`logistic`; `bisection` keeps them).",
        ge=0,
    )

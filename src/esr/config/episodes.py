"""Which self-corrections are encoded token by token."""

from pathlib import Path

from esr.config.section import Name, Section, Seed, key


class EpisodesConfig(Section):
    """Self-corrections that are encoded token by token, and responses to compare them with."""

    arm: Name = key("steered", "Arm that episodes and controls are taken from.")
    max_episodes: int = key(
        200,
        "Maximum number of episodes: responses of exactly two attempts, the second better.",
        gt=0,
        le=1_000_000,
        source="released code: all, 146 of them",
    )
    max_baseline: int = key(
        50,
        "Maximum number of baseline responses: one attempt, on topic.",
        ge=0,
        le=1_000_000,
        source="released code: 50",
    )
    baseline_score: float = key(
        50, "Minimum score of a baseline response.", unit="points", ge=0, le=100
    )
    max_unrestarted: int = key(
        50,
        "Maximum number of unrestarted responses: one attempt, off topic, and no restart phrase. "
        "They show what detectors do when nothing is corrected.",
        ge=0,
        le=1_000_000,
        source="a control that the paper lacks",
    )
    off_topic_score: float = key(
        25, "An unrestarted response scores below this.", unit="points", ge=0, le=100
    )
    steer: bool = key(
        True,
        "Encode under the steering (and ablation) that a response was generated with.",
        source="paper 3.6: on; released code for A.4: off",
    )
    backtracking: int = key(
        8,
        "Number of backtracking latents to choose, on half of the episodes, for a model that lists "
        "none.",
        unit="latents",
        ge=0,
        source="paper A.4: 16, by hand",
    )
    boundaries: Name = key(
        "detector",
        "What locates a correction: `detector`, the restart phrases near the start of the judge's "
        "second attempt; or a judge that is a language model, by quotes.",
        source="released code: Claude, by counting characters",
    )
    boundaries_rubric: Path = key(
        Path("resources/rubrics/boundaries.yaml"),
        "Instructions of a language model that locates corrections.",
    )
    window: int = key(
        40,
        "Tokens shown before and after the start of a correction.",
        unit="tokens",
        gt=0,
        le=100_000,
        source="released code: 150",
    )
    smoothing_window: int = key(
        5,
        "Length of the trailing mean that defines a rise of the detectors.",
        unit="tokens",
        gt=0,
        le=100_000,
    )
    false_alarms: float = key(
        0.1,
        "A rise is a trailing mean above a level that only this share of the baseline responses "
        "ever exceed.",
        unit="share",
        gt=0,
        lt=1,
    )
    seed: Seed = key(47, "Seed of the draws and of the split.")

"""Which self-corrections are read token by token."""

from pathlib import Path

from esr.config.section import Name, Section, key


class EpisodesConfig(Section):
    """Self-corrections that are read token by token, and responses to compare them with."""

    arm: Name = key("steered", "Arm that all of them are taken from.")
    most: int = key(
        200,
        "Episodes read at most: exactly two attempts, the second better.",
        gt=0,
        source="released code: all, 146 of them",
    )
    baseline: int = key(
        50, "Responses read with one attempt, on topic.", ge=0, source="released code: 50"
    )
    baseline_score: float = key(
        50, "Least score of a baseline response.", unit="points", ge=0, le=100
    )
    unrestarted: int = key(
        50,
        "Responses read with one attempt, off topic, and no restart phrase: what detectors do "
        "where nothing is corrected.",
        ge=0,
        source="a control that the paper lacks",
    )
    off_topic_score: float = key(
        25, "An unrestarted response scores less.", unit="points", ge=0, le=100
    )
    steer: bool = key(
        True,
        "Read under the steering (and ablation) that a response was made with.",
        source="paper 3.6: on; released code for A.4: off",
    )
    backtracking: int = key(
        8,
        "Backtracking latents to choose, on half of the episodes, for a model that lists none.",
        ge=0,
        source="paper A.4: 16, by hand",
    )
    boundaries: Name = key(
        "detector",
        "Who says where a correction is: `detector`, by the restart phrases near where the judge's "
        "second attempt begins, or a judge that is a language model, by quotes.",
        source="released code: Claude, by counting characters",
    )
    boundaries_rubric: Path = key(
        Path("resources/rubrics/boundaries.yaml"), "What a language model is told about them."
    )
    window: int = key(
        40,
        "Tokens shown on either side of the start of a correction.",
        gt=0,
        source="released code: 150",
    )
    smooth: int = key(5, "Tokens of the trailing mean in which a rise is looked for.", gt=0)
    false_alarms: float = key(
        0.1,
        "A rise is a trailing mean above the level that so many baseline responses ever exceed.",
        unit="share",
        gt=0,
        lt=1,
    )
    seed: int = key(47, "Seed of the draws and of the split.")

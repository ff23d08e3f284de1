"""What is read and computed when the trials are there."""

from pathlib import Path
from typing import Literal

from esr.config.section import Name, Section, key


class Detectors(Section):
    """Which latents detect that a response is off topic, and the random sets matched to them."""

    arm: Name = key("discovery", "Arm (`over: prompts`, unsteered) whose responses are read.")
    criterion: Literal["separable", "zero_then_frequent", "graded"] = key(
        "separable",
        "`separable`: higher on every mismatched pair than on any matched one (AUROC 1); "
        "`zero_then_frequent`: zero on matched pairs, active on at least `frequency` of the "
        "mismatched; `graded`: AUROC of at least `auroc`, mean on matched pairs at most `leak` of "
        "that on mismatched ones.",
        source="January: AUC 1 on shuffled pairs; released code: zero_then_frequent",
    )
    pool: Literal["max", "mean"] = key("max", "Over tokens.", source="released code: max")
    span: Literal["response", "all"] = key(
        "all", "Tokens read: the response's, or the prompt's too.", source="released code: all"
    )
    frequency: float = key(0.8, "See `criterion`.", unit="share of pairs", ge=0, le=1)
    auroc: float = key(0.95, "See `criterion`.", ge=0.5, le=1)
    leak: float = key(0.05, "See `criterion`.", unit="share", ge=0, le=1)
    held_out: float = key(
        0.5, "Pairs kept out of the search, to check what was found.", unit="share", ge=0, lt=1
    )
    use: Literal["found", "given"] = key(
        "found",
        "Ablate the latents found, or those listed under the model (`detectors`); a model that "
        "lists none has those found.",
    )
    random_sets: int = key(3, "Sets matched to the detectors.", ge=0, source="paper A.3.3: 3")
    nearest: int = key(
        4, "A matched latent is drawn from so many nearest in frequency and mean.", gt=0
    )
    seed: int = key(46, "Seed of the derangement, the split and the matched sets.")


class Episodes(Section):
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


class Statistics(Section):
    """How intervals are computed."""

    level: float = key(0.95, "Coverage of every interval.", gt=0, lt=1)
    bootstrap: int = key(4000, "Resamples of the latent-clustered bootstrap.", gt=0)
    seed: int = key(45, "Seed of bootstrap and permutation tests.")

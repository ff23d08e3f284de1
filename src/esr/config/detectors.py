"""How off-topic detectors are found."""

from typing import Literal

from esr.config.section import Name, Section, key


class DetectorsConfig(Section):
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

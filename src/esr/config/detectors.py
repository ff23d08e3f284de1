"""How off-topic detectors are found."""

from typing import Literal

from esr.config.section import Name, Section, Seed, key


class DetectorsConfig(Section):
    """Which latents detect an off-topic response, and the random sets matched to them."""

    arm: Name = key(
        "discovery",
        "Arm (`over: prompts`, unsteered) whose responses are encoded. A study without it searches "
        "no detectors.",
    )
    criterion: Literal["separable", "zero_then_frequent", "graded"] = key(
        "separable",
        "`separable`: higher on every mismatched pair than on any matched pair (AUROC 1); "
        "`zero_then_frequent`: zero on matched pairs, active on at least `min_frequency` of the "
        "mismatched pairs; `graded`: AUROC of at least `min_auroc`, and a mean on matched pairs of "
        "at most `max_leak` times the mean on mismatched pairs.",
        source="January: AUC 1 on shuffled pairs; released code: zero_then_frequent",
    )
    pool: Literal["max", "mean"] = key(
        "max", "Pooling of activations over tokens.", source="released code: max"
    )
    span: Literal["response", "all"] = key(
        "all",
        "Tokens that are pooled: the response only, or prompt and response.",
        source="released code: all",
    )
    min_frequency: float = key(
        0.8, "Criterion `zero_then_frequent`.", unit="share of pairs", ge=0, le=1
    )
    min_auroc: float = key(0.95, "Criterion `graded`.", ge=0.5, le=1)
    max_leak: float = key(0.05, "Criterion `graded`.", unit="share", ge=0, le=1)
    held_out: float = key(
        0.5, "Pairs held out of the search, to test its result.", unit="share", ge=0, lt=1
    )
    use: Literal["found", "given"] = key(
        "found",
        "Ablate the latents that were found, or those that the model lists (`detectors`). A model "
        "without a list uses those that were found.",
    )
    random_sets: int = key(
        3, "Number of random sets matched to the detectors.", ge=0, le=1000, source="paper A.3.3: 3"
    )
    matching: Literal["activation", "number", "random"] = key(
        "activation",
        "How random sets are drawn. `activation`: a latent for every detector, similar in mean "
        "activation and frequency on steered text, and more latents until the set carries as much "
        "activation as the detectors in sum; `number`: without these; `random`: evenly from all "
        "latents but the detectors.",
        source="released code: random; the paper says matched",
    )
    matched_pool: int = key(
        4,
        "Size of the pool from which a matched latent is drawn: the latents closest to the "
        "detector in frequency and mean activation. `random` has no pools.",
        unit="latents",
        gt=0,
    )
    seed: Seed = key(46, "Seed of the derangement, the split and the matched sets.")

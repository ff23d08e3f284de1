"""The cross-judge sample."""

from esr.config.section import Name, Section, Seed, key


class AgreementConfig(Section):
    """The sample that every judge grades, to measure how far judges agree and to correct rates.

    Strata are the model, the arm, and what was found: several attempts by the primary judge, a
    restart phrase without them, neither, or no score. Every trial keeps its sampling weight, from
    which rates of the full arms are estimated.
    """

    arms: tuple[Name, ...] | None = key(
        None,
        "Arms to sample from, in all models but the fine-tuned ones. `null`: those that the "
        "study's claims read, in the models that they name, and the arms that these replay; "
        "`steered` in any case.",
        min_length=1,
    )
    size: int = key(
        2000,
        "Maximum number of trials graded by every judge, over all models and arms.",
        gt=0,
        le=10_000_000,
        source="paper A.2.2: 1,000",
    )
    per_stratum: int = key(
        100,
        "Maximum number of trials from a stratum that is flagged or not scored; fewer if these "
        "would take more than half of `size`. The rest of `size` goes to trials without a flag.",
        ge=1,
        source="released code: all multi-attempt trials, and 100 per model",
    )
    retest: int = key(
        100,
        "Trials of the sample that the primary judge grades twice; 0: none. A judge that is a "
        "language model is called again for them.",
        ge=0,
        le=1_000_000,
    )
    sheet: int = key(
        400, "Maximum number of responses on the sheet for people.", ge=2, le=1_000_000
    )
    bridge: tuple[Name, ...] | None = key(
        None,
        "Old and new judge that `snakemake bridge` compares; `null`: the second judge and the "
        "primary one.",
        min_length=2,
        max_length=2,
    )
    seed: Seed = key(42, "Seed of the draw.", source="released code: 42")

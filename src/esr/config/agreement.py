"""The cross-judge sample."""

from esr.config.section import Name, Section, Seed, key


class AgreementConfig(Section):
    """The sample that every judge grades, to measure how far judges agree.

    Strata are the models crossed with the primary judge's result: several attempts, one attempt, or
    no score. Every trial keeps its sampling weight, from which rates of
    the full arms are estimated.
    """

    arms: tuple[Name, ...] = key(("steered",), "Arms to sample from.", min_length=1)
    size: int = key(
        1000, "Trials graded by every judge.", gt=0, le=10_000_000, source="paper A.2.2: 1,000"
    )
    per_stratum: int = key(
        100,
        "Minimum number of trials from each stratum (all of them if there are fewer; an equal part "
        "of `size` if that is smaller). The rest is allocated in proportion to stratum size.",
        ge=1,
        source="released code: all multi-attempt trials, and 100 per model",
    )
    seed: Seed = key(42, "Seed of the draw.", source="released code: 42")

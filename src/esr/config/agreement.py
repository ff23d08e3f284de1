"""The sample that every judge grades."""

from esr.config.section import Name, Section, key


class AgreementConfig(Section):
    """The sample that all judges grade, to see how far they agree.

    Drawn by stratum: model, and what the primary judge found (several attempts, one, or no
    score). Every trial keeps its sampling weight, so that rates of the whole arms can be estimated.
    """

    arms: tuple[Name, ...] = key(("steered",), "Arms that it is drawn from.", min_length=1)
    size: int = key(1000, "Trials graded by every judge.", gt=0, source="paper A.2.2: 1,000")
    per_stratum: int = key(
        100,
        "Least trials of a stratum (all, if there are fewer; an equal part of `size`, if that "
        "is smaller). The rest is spread in proportion to the strata.",
        ge=1,
        source="released code: all multi-attempt trials, and 100 per model",
    )
    seed: int = key(42, "Seed of the draw.", source="released code: 42")

"""How well an SAE has to fit the model's own text before anything is steered."""

from esr.config.section import Name, Section, key


class SaeFitConfig(Section):
    """Fit of an SAE to the unsteered answers of its model, measured before thresholds are found.

    A limit that is exceeded stops the study, unless the model lists it under `accept_sae`.
    """

    arm: Name | None = key(
        None,
        "Unsteered arm (`over: prompts`) whose answers are encoded. `null`: "
        "`latents.relevance.answers`, else the first such arm; without one, the prompts are "
        "encoded.",
    )
    tokens: int = key(50_000, "Tokens encoded, at most.", unit="tokens", ge=100, le=10_000_000)
    max_fvu: float = key(
        0.7,
        "Largest fraction of variance unexplained (FVU) at `read_layer`.",
        gt=0,
        le=1,
    )
    neighbour: float = key(
        0.8,
        "A neighbouring layer fits better if its FVU is below this multiple of the FVU at "
        "`read_layer`.",
        gt=0,
        le=1,
    )
    l0_factor: float = key(
        3.0,
        "Largest factor between the measured and the published number of active latents (L0).",
        ge=1,
        le=1000,
    )

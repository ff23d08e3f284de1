"""Which tokens are steered where an arm does not say so."""

from esr.config.section import Section, key


class SteeringConfig(Section):
    """Tokens at which arms without a window of their own add the boost."""

    prompt: bool = key(
        True,
        "Whether the prompt is steered, too, in all arms and threshold searches; otherwise the "
        "boost is added from the first generated token on (window `{start: 0}`). A `start` in the "
        "window of an arm has the last word.",
        source="January's and the released code: prompt and response; the third version, as a "
        "reader has it: every generated token",
    )

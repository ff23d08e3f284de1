"""Readouts of an arm: log-probabilities of named tokens at the first generated token."""

from typing import Annotated

from pydantic import AfterValidator, Field

from esr.config.section import Name, Section, key


def _distinct(texts: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(texts)) < len(texts) or "" in texts:
        raise ValueError(f"spellings {list(texts)}: give each once, and none that is empty")
    return texts


Spellings = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_distinct)]
"""Spellings whose probabilities are summed; each must be a single token of the model."""


class ReadoutConfig(Section):
    """Tokens whose log-probability is read before the first generated token of each trial."""

    tokens: dict[Name, Spellings] = key(
        ...,
        'Spellings by name, such as `affirmed: [Yes, " yes"]`; the probabilities of a name\'s '
        "spellings are summed. Each is a single token of every model of the arm.",
        min_length=1,
    )

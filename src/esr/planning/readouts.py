"""Checks of readouts against a model's tokenizer: every spelling is a single token of it."""

from typing import Any

from esr.config import Config
from esr.engines.readouts import named_tokens


def check_readouts(config: Config, model: str, tokenizer: Any) -> None:
    """Raise if a readout of a model's arms names something else than single tokens.

    Raises:
        EsrError: with the key, the spelling and what it splits into.
    """
    for arm, settings in config.readouts.items():
        if arm in config.arms_of(model):
            named_tokens(tokenizer, settings.tokens, f"readouts.{arm}.tokens")

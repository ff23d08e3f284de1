"""Checks of readouts against a model's tokenizer and chat template, before a model is loaded."""

from typing import Any

from esr.config import Config
from esr.engines.readouts import named_tokens
from esr.errors import EsrError
from esr.introspection.dialogue import Turns, dialogue
from esr.introspection.questions import read_questions
from esr.introspection.requests import answer_tokens


def check_readouts(config: Config, model: str, tokenizer: Any) -> None:
    """Raise if a readout of a model names something else than single tokens, or does not render.

    Raises:
        EsrError: with the key, the spelling and what it splits into; or with what the chat template
            makes of a question.
    """
    for arm, settings in config.readouts.items():
        if arm in config.arms_of(model):
            named_tokens(tokenizer, settings.tokens, f"readouts.{arm}.tokens")
    if config.introspection is not None and model in config.engine_models:
        _check_questions(config, tokenizer)


def _check_questions(config: Config, tokenizer: Any) -> None:
    settings = config.introspection
    assert settings is not None
    answer_tokens(settings, tokenizer)
    earlier = Turns(settings.first_turn, settings.reply)
    questions = read_questions(settings.questions)
    unknown = tokenizer.unk_token_id
    for text in [*questions["on_target"], *questions["off_target"]]:
        for window in settings.windows:
            shown = dialogue(tokenizer, text, window, earlier, config.generation.doubled_header)
            if unknown is not None and unknown in shown.tokens:
                raise EsrError(
                    f"{settings.questions}: the tokenizer does not know a word of {text!r}, or of "
                    "introspection.first_turn or introspection.reply"
                )

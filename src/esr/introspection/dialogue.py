"""Questions as tokens, in one turn or after an earlier one, and the window of an injection."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from jinja2 import TemplateError

from esr.arms.chat import prompt_tokens
from esr.config.introspection import Injected
from esr.engines.base import Window
from esr.errors import EsrError


class Turns(NamedTuple):
    """The user turn before the question, and the model's answer to it; both are given."""

    first: str
    reply: str


class Dialogue(NamedTuple):
    """Tokens up to the opened turn of the model, and positions of the injection; None = all."""

    tokens: tuple[int, ...]
    window: Window | None


def dialogue(
    tokenizer: Any, question: str, injected: Injected, earlier: Turns, doubled_header: bool = False
) -> Dialogue:
    """Render a question, after the earlier turns if the injection is in the first of them.

    Args:
        tokenizer: A fast tokenizer of transformers with a chat template.
        question: Text of the last user turn.
        injected: Where the direction is injected.
        earlier: Turns before the question, with `first_turn`.
        doubled_header: See `prompt_tokens`; of one turn only.

    Raises:
        EsrError: the template changes the texts or refuses two turns, or the tokenizer does not
            tell which characters a token stands for.
    """
    tokens = prompt_tokens(tokenizer, question, doubled_header=doubled_header)
    if injected == "whole":
        return Dialogue(tokens, None)
    if injected == "question":
        text = _render(tokenizer, [question])
        start = text.rfind(question.strip())
        return Dialogue(tokens, _window(tokenizer, text, start, start + len(question.strip())))
    text = _render(tokenizer, [earlier.first, earlier.reply, question])
    tokens = tuple(tokenizer.encode(text, add_special_tokens=False))
    bos = tokenizer.bos_token_id
    if bos is not None and (tokens[:1] != (bos,) or tokens.count(bos) != 1):
        raise EsrError(
            f"two turns have {tokens.count(bos)} BOS tokens; need exactly one, at the beginning: "
            "fix the chat template"
        )
    places = [text.find(part.strip()) for part in (earlier.first, earlier.reply)]
    places.append(text.rfind(question.strip()))
    if -1 in places or places != sorted(places):
        raise EsrError(
            "the chat template drops or changes introspection.first_turn or introspection.reply: "
            f"it renders {text[:200]!r}; leave out the window first_turn, or fix "
            "chat_template.jinja in a local copy of the checkpoint"
        )
    end = places[1] + len(earlier.reply.strip())
    window = _window(tokenizer, text, 0, end)
    return Dialogue(tokens, Window(0, window.stop))


def _window(tokenizer: Any, text: str, start: int, end: int) -> Window:
    """Positions of the tokens that stand for characters `start` to `end` of a rendered text."""
    if not getattr(tokenizer, "is_fast", False):
        raise EsrError(
            "introspection.windows: this tokenizer does not tell which characters a token stands "
            "for; use `whole` alone, or convert it to a fast tokenizer"
        )
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    inside = [
        place
        for place, (first, last) in enumerate(encoded["offset_mapping"])
        if first < end and last > start and last > first
    ]
    if not inside:
        raise EsrError(f"no token stands for {text[start:end]!r}; change the chat template")
    return Window(inside[0], inside[-1] + 1)


def _render(tokenizer: Any, texts: Sequence[str]) -> str:
    """Text of turns of user and model in alternation, and the opened turn of the model."""
    roles = ["user", "assistant"] * len(texts)
    turns = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    try:
        rendered: str = tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, tokenize=False
        )
    except TemplateError as error:
        raise EsrError(
            f"the chat template cannot render {len(texts)} turns: {error}; leave out the window "
            "first_turn, or change chat_template.jinja of a local copy of the checkpoint"
        ) from None
    return rendered

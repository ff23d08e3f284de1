"""Questions as tokens: which positions an injection reaches, in one turn and one turn earlier."""

from typing import Any

import pytest

from esr.arms.chat import prompt_tokens
from esr.errors import EsrError
from esr.introspection.dialogue import Dialogue, Turns, dialogue
from helpers.introspective import EARLIER, tokenizer
from helpers.tiny import llama_tokenizer
from helpers.tokenizers import LLAMA, byte_level

QUESTION = "do you notice one ?"


def inside(words: Any, shown: Dialogue) -> str:
    assert shown.window is not None
    return words.decode(shown.tokens[shown.window.start : shown.window.stop])


def test_the_window_question_is_the_question_alone() -> None:
    words = tokenizer()
    shown = dialogue(words, QUESTION, "question", EARLIER)
    assert shown.tokens == prompt_tokens(words, QUESTION)
    assert inside(words, shown).replace(" ?", "?") == QUESTION.replace(" ?", "?")


def test_the_window_whole_has_no_ends() -> None:
    shown = dialogue(tokenizer(), QUESTION, "whole", EARLIER)
    assert shown == Dialogue(prompt_tokens(tokenizer(), QUESTION), None)


def test_the_window_first_turn_ends_with_the_reply_before_the_question() -> None:
    words = tokenizer()
    shown = dialogue(words, QUESTION, "first_turn", EARLIER)
    assert shown.window is not None
    assert shown.window.start == 0
    text = inside(words, shown)
    assert text.endswith(EARLIER.reply)
    assert EARLIER.first in text
    rest = words.decode(shown.tokens[shown.window.stop :])
    assert "do you notice one" in rest
    assert "do" not in text.split()


def test_byte_level_tokens_with_blanks_are_placed_by_their_characters() -> None:
    words = byte_level(LLAMA, ["explain how to bake bread", "user assistant"], "<|eot_id|>")
    shown = dialogue(words, "explain how", "question", EARLIER)
    assert inside(words, shown).strip() == "explain how"


def test_a_template_that_refuses_or_drops_a_turn_is_named() -> None:
    once = (
        "{{ bos_token }}{{ messages[-1]['content'] }}{% if add_generation_prompt %} wait{% endif %}"
    )
    with pytest.raises(EsrError, match=r"drops or changes introspection\.first_turn"):
        dialogue(llama_tokenizer(once), "explain", "first_turn", Turns("bread", "wrong"))
    alone = "{% if messages|length > 1 %}{{ raise_exception('one turn') }}{% endif %}" + once
    with pytest.raises(EsrError, match="cannot render 3 turns: one turn"):
        dialogue(llama_tokenizer(alone), "explain", "first_turn", Turns("bread", "wrong"))


def test_a_tokenizer_that_does_not_place_its_tokens_is_refused() -> None:
    class Slow:
        is_fast = False

        def __init__(self) -> None:
            self.words = tokenizer()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.words, name)

    with pytest.raises(EsrError, match="use `whole` alone"):
        dialogue(Slow(), QUESTION, "question", EARLIER)

"""Whether tokenizer, chat template and stop tokens are those of the checkpoint."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from jinja2 import TemplateError

from esr.arms.chat import response_text
from esr.errors import EsrError
from esr.text import fold

ANSWER = "ANSWER"


def check_vocabulary(tokens: Iterable[int], config: Mapping[str, Any]) -> None:
    """Check that the model has an embedding for every token of the prompts.

    Args:
        tokens: Ids in rendered prompts.
        config: The checkpoint's config.json.

    Raises:
        EsrError: it has not, so the tokenizer belongs to another model.
    """
    size = config.get("text_config", config).get("vocab_size")
    highest = max(tokens)
    if size is not None and highest >= size:
        raise EsrError(
            f"the tokenizer gives token {highest}, but by config.json the model has tokens 0 to "
            f"{size - 1}; take both from one checkpoint"
        )


def check_round_trip(tokenizer: Any, prompts: Iterable[str]) -> None:
    """Check that text comes back from its tokens, as a response will: no blank, no letter is lost.

    Raises:
        EsrError: a prompt comes back with other words.
    """
    for prompt in prompts:
        text = response_text(tokenizer, tokenizer.encode(prompt, add_special_tokens=False))
        if _words(text) != _words(prompt):
            raise EsrError(
                f"the tokenizer decodes the prompt {prompt!r} as {text!r}, so judges would read "
                "other words than the model writes; tokenizer.json is of another kind than the "
                "tokenizer_class in tokenizer_config.json, or than that of this model_type"
            )


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", fold(text))


def end_of_turn(tokenizer: Any) -> int | None:
    """Id of the special token that the chat template writes after an answer; None without one."""
    chat = [{"role": "user", "content": "question"}, {"role": "assistant", "content": ANSWER}]
    try:
        text = str(tokenizer.apply_chat_template(chat, tokenize=False))
    except TemplateError:  # some templates render user turns alone
        return None
    _, found, after = text.rpartition(ANSWER)
    tokens = tokenizer.encode(after.strip(), add_special_tokens=False) if found else []
    special = {id_ for id_, token in tokenizer.added_tokens_decoder.items() if token.special}
    return tokens[0] if tokens and tokens[0] in special else None


def stop_lines(tokenizer: Any, stops: tuple[int, ...]) -> Iterator[str]:
    """A line if the token that ends a turn does not end a response."""
    end = end_of_turn(tokenizer)
    if end is not None and end not in stops:
        yield (
            f"the chat template ends an answer with {tokenizer.convert_ids_to_tokens(end)} "
            f"({end}), but the stop tokens in generation_config.json are {list(stops)}: responses "
            "may run on into further turns; if they do, add it to eos_token_id there, in a local "
            "copy of the checkpoint"
        )

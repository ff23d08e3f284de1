"""Prompts as tokens by the model's own chat template, and responses as text.

What a template renders is checked: exactly one BOS, the text of the prompt, an opened assistant
turn, and no date of today.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from jinja2 import TemplateError

from esr.arms.template import CLOCK, clock_remedy
from esr.errors import EsrError

THOUGHT = ("<think>", "</think>")
"""Tags around the thoughts of a model that reasons before its answer."""
_THOUGHTS = re.compile(r"<think>.*?(?:</think>\s*|\Z)", re.DOTALL)


def prompt_tokens(
    tokenizer: Any, prompt: str, prefill: str = "", doubled_header: bool = False
) -> tuple[int, ...]:
    """Tokens of a user turn and the opened assistant turn.

    Args:
        tokenizer: A transformers tokenizer with a chat template.
        prompt: Text of the user turn.
        prefill: Text with which the assistant turn begins.
        doubled_header: Append BOS and assistant header once more, as the released code did for
            Llama (protocol switch, off by default).

    Raises:
        EsrError: there is no chat template; the prompt does not begin with exactly one BOS; the
            template drops the prompt, opens no assistant turn, opens a thought, or depends on the
            date; or the prompt contains a special token.
    """
    if not tokenizer.chat_template:
        raise EsrError(
            "the tokenizer has no chat template: put a chat_template.jinja into a local copy of "
            "the checkpoint (a base model needs no more), or use an instruction-tuned checkpoint"
        )
    text = _render(tokenizer, prompt)
    # The template writes the BOS itself; the tokenizer must not add another.
    tokens = tokenizer.encode(text, add_special_tokens=False)
    bos = tokenizer.bos_token_id
    if bos is not None and (tokens[:1] != [bos] or tokens.count(bos) != 1):
        raise EsrError(
            f"prompt {prompt!r} has {tokens.count(bos)} BOS tokens and begins with tokens "
            f"{tokens[:1]}; need exactly one BOS ({bos}), at the beginning: fix the chat template "
            "or take the BOS out of the prompt"
        )
    _check_rendered(tokenizer, prompt, text)
    if doubled_header:
        tokens = tokens + _llama_header(tokenizer)
    if prefill:
        tokens = tokens + tokenizer.encode(prefill, add_special_tokens=False)
    return tuple(tokens)


def response_text(tokenizer: Any, tokens: Sequence[int], prefill: str = "") -> str:
    """Text of a response after its prefill, without special tokens and thoughts.

    A thought is not part of the answer: no judge grades it, and a restart in it is none. Of an
    unfinished thought nothing is left.
    """
    opening = tokenizer.encode(prefill, add_special_tokens=False) if prefill else []
    tokens = _without_thoughts(tokenizer, [*opening, *tokens])
    return _THOUGHTS.sub("", tokenizer.decode(tokens, skip_special_tokens=True))


def is_unfinished_thought(tokenizer: Any, tokens: Sequence[int]) -> bool:
    """Whether a response ends inside a thought, so that it has no answer."""
    text: str = tokenizer.decode(tokens, skip_special_tokens=False)
    opening, closing = THOUGHT
    return text.rfind(opening) > text.rfind(closing)


def thought_tokens(tokenizer: Any, tokens: Sequence[int]) -> list[bool]:
    """Whether each token of a response belongs to a thought, its tags included."""
    opening, _ = THOUGHT
    if opening not in tokenizer.decode(tokens, skip_special_tokens=False):
        return [False] * len(tokens)
    inside = [is_unfinished_thought(tokenizer, tokens[: i + 1]) for i in range(len(tokens))]
    before = [False, *inside[:-1]]
    return [now or then for now, then in zip(inside, before, strict=True)]


def prompts_digest(prompts: Iterable[Sequence[int]]) -> str:
    """First 16 hex digits of the SHA-256 of rendered prompts, whatever their order."""
    lines = sorted({" ".join(map(str, tokens)) for tokens in prompts})
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _without_thoughts(tokenizer: Any, tokens: list[int]) -> list[int]:
    """Tokens without thoughts whose tags are special tokens, which decoding would leave out."""
    tags = _thought_tokens(tokenizer)
    if tags is None or tags[0] not in tokens:
        return tokens
    kept: list[int] = []
    inside = False
    for token in tokens:
        inside = token == tags[0] or (inside and token != tags[1])
        if not inside and token != tags[1]:
            kept.append(token)
    return kept


@lru_cache(maxsize=4)
def _thought_tokens(tokenizer: Any) -> tuple[int, int] | None:
    """Ids of the tags of a thought, if they are special tokens."""
    special = {
        token.content: id_ for id_, token in tokenizer.added_tokens_decoder.items() if token.special
    }
    opening, closing = (special.get(tag) for tag in THOUGHT)
    return None if opening is None or closing is None else (opening, closing)


def stop_tokens(generation_config: Any) -> tuple[int, ...]:
    """Ids of the tokens that end a response, from a checkpoint's generation_config.

    Raises:
        EsrError: it names no such token.
    """
    named = generation_config.eos_token_id if generation_config else None
    stops = named if isinstance(named, list) else [named]
    if not stops or None in stops:
        raise EsrError(
            "the model's generation_config names no eos_token_id, so responses would never end; "
            "add it to the checkpoint's generation_config.json"
        )
    return tuple(stops)


def read_stop_tokens(source: str, revision: str | None, **options: Any) -> tuple[int, ...]:
    """Ids of the tokens that end a response of a checkpoint.

    Without a generation_config.json they are those of its config.json, as in transformers.

    Args:
        source: A folder or a hub id.
        revision: Commit of a hub model; None for a folder.
        options: Of `from_pretrained`.

    Raises:
        EsrError: neither file names one.
    """
    from transformers import AutoConfig, GenerationConfig

    where: dict[str, Any] = {"revision": revision, **options}
    try:
        found = GenerationConfig.from_pretrained(source, **where)
    except OSError:  # no such file
        found = GenerationConfig.from_model_config(AutoConfig.from_pretrained(source, **where))
    return stop_tokens(found)


def _render(tokenizer: Any, prompt: str, opened: bool = True, template: str | None = None) -> str:
    """Text of a user turn; `opened` adds the header of the assistant turn."""
    try:
        return tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}],
            chat_template=template,
            add_generation_prompt=opened,
            tokenize=False,
        )
    except TemplateError as error:  # a template may raise it, e.g. without a system turn
        raise EsrError(
            f"the chat template cannot render a single user turn: {error}; change it in "
            "chat_template.jinja of a local copy of the checkpoint"
        ) from None


def _reads_clock(tokenizer: Any, prompt: str) -> bool:
    """Whether the rendered prompt depends on the date: it differs under two clocks.

    A macro of the same name takes the place of the function by which templates read the clock.
    """
    template = tokenizer.get_chat_template()
    if CLOCK not in template:
        return False
    first, second = (
        _render(
            tokenizer,
            prompt,
            template=f"{{% macro {CLOCK}(form) %}}{day}{{% endmacro %}}" + template,
        )
        for day in ("01", "02")
    )
    return first != second


@lru_cache(maxsize=4)
def _special_tokens(tokenizer: Any) -> tuple[str, ...]:
    """Control tokens of a tokenizer; some have thousands of added tokens, so they are kept."""
    added = tokenizer.added_tokens_decoder.values()
    return tuple(token.content for token in added if token.special)


def _check_rendered(tokenizer: Any, prompt: str, text: str) -> None:
    """Check what a template made of a prompt; templates are code of third parties."""
    found = next((name for name in _special_tokens(tokenizer) if name in prompt), None)
    if found is not None:
        raise EsrError(
            f"prompt {prompt!r} contains the special token {found}, which the model would read "
            "as a control token; reword the prompt"
        )
    # Templates strip the prompt, and some normalise its spaces.
    if " ".join(prompt.split()) not in " ".join(text.split()):
        raise EsrError(
            f"the chat template drops or changes the prompt {prompt!r}: it renders {text[:200]!r}. "
            "Templates for images need content as text; fix chat_template.jinja in a local copy of "
            "the checkpoint"
        )
    closed = _render(tokenizer, prompt, opened=False)
    if not text.startswith(closed) or text == closed:
        raise EsrError(
            "the chat template opens no assistant turn with add_generation_prompt; add it to "
            "chat_template.jinja in a local copy of the checkpoint"
        )
    if _reads_clock(tokenizer, prompt):
        raise EsrError(
            "the chat template writes today's date, so a prompt would differ from day to day; fix "
            f"it in the model's block: {clock_remedy(tokenizer.get_chat_template())}"
        )
    if text.rstrip().endswith(THOUGHT[0]):
        raise EsrError(
            "the chat template opens a thought, so the response would begin inside it; if the "
            "template has a switch, set it in the model's block (template: {enable_thinking: "
            "false}), else close the thought in chat_template.jinja of a local copy of the "
            "checkpoint"
        )


def _llama_header(tokenizer: Any) -> list[int]:
    names = ["<|begin_of_text|>", "<|start_header_id|>", "assistant", "<|end_header_id|>"]
    ids = tokenizer.convert_tokens_to_ids(names)
    if None in ids or tokenizer.unk_token_id in ids:
        raise EsrError("generation.doubled_header is for Llama-3 tokenizers only; turn it off")
    return ids

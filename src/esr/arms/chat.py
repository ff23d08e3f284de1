"""Prompts as tokens: the model's own chat template, exactly one BOS, and back to text."""

from collections.abc import Sequence
from typing import Any

from esr.errors import EsrError


def prompt_tokens(
    tokenizer: Any, prompt: str, prefill: str = "", doubled_header: bool = False
) -> tuple[int, ...]:
    """Tokens of a user turn and the opened assistant turn.

    Args:
        tokenizer: A transformers tokenizer with a chat template.
        prompt: What the user says.
        prefill: What the assistant is made to begin with.
        doubled_header: Append BOS and assistant header once more, as the released code did for
            Llama (protocol switch, off by default).

    Raises:
        EsrError: no chat template, or a prompt that does not begin with exactly one BOS.
    """
    if not tokenizer.chat_template:
        raise EsrError("the tokenizer has no chat template; use an instruction-tuned checkpoint")
    tokens = _render(tokenizer, prompt)
    bos = tokenizer.bos_token_id
    if bos is not None and (tokens[:1] != [bos] or tokens.count(bos) != 1):
        raise EsrError(
            f"prompt {prompt!r} has {tokens.count(bos)} BOS tokens and begins with tokens "
            f"{tokens[:1]}; need exactly one BOS ({bos}), at the beginning: mend the chat template "
            "or take the BOS out of the prompt"
        )
    if doubled_header:
        tokens = tokens + _llama_header(tokenizer)
    if prefill:
        tokens = tokens + tokenizer.encode(prefill, add_special_tokens=False)
    return tuple(tokens)


def response_text(tokenizer: Any, tokens: Sequence[int], prefill: str = "") -> str:
    """Text of a response, special tokens left out, prefill put before it."""
    if not prefill:
        return tokenizer.decode(tokens, skip_special_tokens=True)
    opening = tokenizer.encode(prefill, add_special_tokens=False)
    return tokenizer.decode([*opening, *tokens], skip_special_tokens=True)


def stop_tokens(generation_config: Any) -> tuple[int, ...]:
    """Tokens that end a response, by a checkpoint's generation_config.

    Raises:
        EsrError: it names none.
    """
    named = generation_config.eos_token_id if generation_config else None
    stops = named if isinstance(named, list) else [named]
    if not stops or None in stops:
        raise EsrError(
            "the model's generation_config names no eos_token_id, so responses would never end; "
            "add it to the checkpoint's generation_config.json"
        )
    return tuple(stops)


def _render(tokenizer: Any, prompt: str) -> list[int]:
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=False
    )
    # The template writes the BOS itself; the tokenizer must not add another.
    return tokenizer.encode(text, add_special_tokens=False)


def _llama_header(tokenizer: Any) -> list[int]:
    names = ["<|begin_of_text|>", "<|start_header_id|>", "assistant", "<|end_header_id|>"]
    ids = tokenizer.convert_tokens_to_ids(names)
    if None in ids or tokenizer.unk_token_id in ids:
        raise EsrError("generation.doubled_header is for Llama-3 tokenizers only; switch it off")
    return ids

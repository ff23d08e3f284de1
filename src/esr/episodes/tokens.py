"""Tokens of a response: their character spans, and the region of an episode they lie in."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from esr.arms.chat import response_text, thought_tokens
from esr.episodes.extract import REGIONS, Span
from esr.text import common_prefix_length


def token_spans(tokenizer: Any, tokens: Sequence[int], prefill: str = "") -> list[Span]:
    """Characters of each token in the text that the tokens decode to.

    Decoding a prefix of the tokens need not give a prefix of the text: a character may span
    several tokens, and a blank may vanish before a comma. So text counts as settled after i tokens
    only if the decodings of i tokens and of every longer prefix agree with the full text up to
    there. A token covers the characters that it settles. A token that settles none shares those of
    the next token that does. Special tokens and those of
    thoughts have no characters.

    Args:
        tokenizer: A transformers tokenizer.
        tokens: Tokens of a response.
        prefill: Text of the response before them.
    """
    text = response_text(tokenizer, tokens, prefill)
    agreed = [
        common_prefix_length(response_text(tokenizer, tokens[:i], prefill), text)
        for i in range(len(tokens))
    ]
    settled = np.minimum.accumulate([len(text), *reversed(agreed)])[::-1].tolist()
    special = set(tokenizer.all_special_ids)
    thinking = thought_tokens(tokenizer, tokens)
    spans = []
    for token, thought, (start, end) in zip(tokens, thinking, pairwise(settled), strict=True):
        if token in special or thought:
            end = start
        elif end == start:
            end = next((later for later in settled if later > start), start)
        spans.append((start, end))
    return spans


def token_regions(spans: Sequence[Span], episode: Mapping[str, Any]) -> list[str | None]:
    """Region of each token's last character; the first may be a blank of the region before.

    Args:
        spans: Characters of each token.
        episode: Row of the table `episodes`.
    """
    bounds = [
        (region, int(episode[f"{region}_start"]), int(episode[f"{region}_end"]))
        for region in REGIONS
        if not pd.isna(episode[f"{region}_start"])
    ]
    return [
        next((name for name, low, high in bounds if start < end and low < end <= high), None)
        for start, end in spans
    ]

"""Tokenizers and chat templates built without a hub."""

from collections.abc import Sequence
from typing import Any

from esr.config import (
    FinetuneDataConfig,
)
from helpers.checkout import REPO

TWIN: dict[str, Any] = {
    "source": str(REPO / "resources/organisms/twin/model"),
    "revision": None,
    "files": {},
}


DATA = FinetuneDataConfig(
    prompts=REPO / "resources/prompts/organism_finetune.csv",
    corrections=60,
    answers=50,
    size=40,
)


LLAMA = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}{% if add_generation_prompt %}"
    "<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)


GEMMA = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}\n"
    "{{ m['content'] | trim }}<|eot_id|>\n{% endfor %}"
)


def byte_level(template: str, texts: Sequence[str], eos: str) -> Any:
    """A byte-level BPE tokenizer, as Llama's is, learned from a few texts."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    learned = ByteLevelBPETokenizer()
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>"]
    special.append("<|eot_id|>")
    learned.train_from_iterator(texts, vocab_size=600, special_tokens=special)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=learned._tokenizer,
        bos_token="<|begin_of_text|>",
        eos_token=eos,
        pad_token="<|end_of_text|>",
    )
    tokenizer.chat_template = template
    return tokenizer

"""Tiny random checkpoints, SAEs and tokenizers of the kinds that esr supports."""

from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3Config,
    Gemma3TextConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    SiglipVisionConfig,
)

from esr.assets.sae import Activation, Sae

D_MODEL, D_SAE, LAYERS, VOCABULARY = 16, 24, 4, 40
STOP = 1

_SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": D_MODEL,
    "intermediate_size": 32,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "initializer_range": 0.5,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": STOP,
}
# Windows shorter than the prompts, so that sliding attention differs from full attention.
_SLIDING: dict[str, Any] = {
    "sliding_window": 4,
    "layer_types": ["sliding_attention", "full_attention"] * (LAYERS // 2),
}
_CONFIGS: dict[str, Any] = {
    "llama": (LlamaConfig, {}),
    "gemma2": (Gemma2Config, _SLIDING | {"query_pre_attn_scalar": 8}),
    "gemma3": (Gemma3TextConfig, _SLIDING | {"query_pre_attn_scalar": 8}),
    "qwen2": (Qwen2Config, {}),
    "qwen3": (Qwen3Config, {}),
}
FAMILIES = tuple(_CONFIGS)


def tiny_model(family: str = "llama", seed: int = 0, **changes: Any) -> Any:
    """Random float32 model of 4 layers, width 16 and 40 tokens, of which token 1 ends a turn."""
    torch.manual_seed(seed)
    config, own = _CONFIGS[family]
    return AutoModelForCausalLM.from_config(config(**_SHAPE | own | changes), dtype=torch.float32)


def tiny_multimodal_model(seed: int = 0, **changes: Any) -> Any:
    """Gemma 3 as of 4B and up: the text part of `tiny_model` and a vision tower."""
    torch.manual_seed(seed)
    _, own = _CONFIGS["gemma3"]
    vision = SiglipVisionConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
    )
    config = Gemma3Config(
        text_config=Gemma3TextConfig(**_SHAPE | own | changes),
        vision_config=vision,
        mm_tokens_per_image=4,
        boi_token_index=VOCABULARY - 3,
        eoi_token_index=VOCABULARY - 2,
        image_token_index=VOCABULARY - 1,
    )
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def tiny_sae(activation: Activation = "relu", seed: int = 0) -> Sae:
    """Random SAE of 24 latents on width 16, with biases and decoder rows of different norms."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    return Sae(
        activation,
        W_enc=normal(D_MODEL, D_SAE) / 4,
        b_enc=normal(D_SAE) / 4,
        W_dec=normal(D_SAE, D_MODEL),
        b_dec=normal(D_MODEL),
        threshold=normal(D_SAE).abs() if activation == "jumprelu" else None,
        k=5 if activation == "topk" else None,
    )


LLAMA_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "<|start_header_id|> {{ message['role'] }} <|end_header_id|>\n\n"
    "{{ message['content'] }} <|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|> assistant <|end_header_id|>\n\n{% endif %}"
)
LLAMA_SPECIAL = ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"]
LLAMA_WORDS = "user assistant explain how to bake bread wait , that is wrong ."


def llama_tokenizer(template: str | None = LLAMA_TEMPLATE) -> Any:
    """Words as tokens, with the special tokens and the chat layout of Llama 3."""
    words = [*LLAMA_SPECIAL, *LLAMA_WORDS.split(), "\n\n", "<unk>"]
    ids = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("\n\n", "isolated"), pre_tokenizers.Split(" ", "removed")]
    )
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|begin_of_text|>",
        eos_token="<|eot_id|>",
        additional_special_tokens=["<|start_header_id|>", "<|end_header_id|>"],
        unk_token="<unk>",
        chat_template=template,
        clean_up_tokenization_spaces=False,
    )

"""Tokenizer and untrained Llama of an organism."""

import numpy as np
import torch
from jaxtyping import Float
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from esr.organisms.corpus import SPECIAL_TOKENS, Writer
from esr.organisms.recipe import ModelSettings

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}<user> {{ message['content'] }}"
    "{% elif message['role'] == 'assistant' %}<assistant> {{ message['content'] }}{{ eos_token }}"
    "{% else %}{{ raise_exception('the organism knows the roles user and assistant only') }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def build_tokenizer(vocabulary: list[str], max_length: int) -> PreTrainedTokenizerFast:
    """Word-level tokenizer; decoding leaves no space before punctuation and round-trips."""
    ids = {word: i for i, word in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("isolated")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            # Join with spaces first; then closing marks lose the space before them, and marks
            # within a word ("off-topic", "don't") both.
            decoders.WordPiece(prefix="##", cleanup=False),
            decoders.Fuse(),
            *[decoders.Replace(f" {mark}", mark) for mark in ".,:!?"],
            *[decoders.Replace(Regex(f" {mark} "), mark) for mark in "-'"],
        ]
    )
    pad, bos, eos, unk, *roles = SPECIAL_TOKENS
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        bos_token=bos,
        eos_token=eos,
        unk_token=unk,
        additional_special_tokens=roles,
        chat_template=CHAT_TEMPLATE,
        model_max_length=max_length,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def topic_geometry(
    writer: Writer, ids: dict[str, int], d_model: int, responses: int = 4000
) -> Float[np.ndarray, "vocabulary d_model"]:
    """Unit vectors for content words from their co-occurrence in on-topic responses, 0 elsewhere.

    Singular vectors of the positive pointwise mutual information (Levy and Goldberg 2014),
    randomly rotated. Starting from them saves most of the time that learning topics would take.
    """
    counts = np.zeros((len(ids), len(ids)))
    for _ in range(responses):
        topic = writer.choice(writer.lexicon.topics)
        words = writer.sentence(topic) + writer.sentence(topic) + writer.sentence(topic)
        content = [ids[w] for w in words if w in writer.lexicon.topic_of]
        counts[np.ix_(content, content)] += 1
    joint = counts / counts.sum()
    marginal = joint.sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        information = np.log(joint / np.outer(marginal, marginal))
    information = np.where(counts > 0, np.maximum(information, 0), 0)
    left, singular, _ = np.linalg.svd(information, full_matrices=False)
    vectors = left[:, :d_model] * np.sqrt(singular[:d_model])
    rotation = np.linalg.qr(writer.rng.normal(size=(d_model, d_model)))[0]
    vectors = vectors @ rotation
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.where(norms > 1e-6, vectors / np.maximum(norms, 1e-12), 0.0)


def initial_model(
    settings: ModelSettings, vocabulary: list[str], writer: Writer, seed: int
) -> LlamaForCausalLM:
    """Randomly initialised Llama with tied embeddings and the topic geometry in them."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=settings.hidden_size,
        intermediate_size=settings.feed_forward,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        max_position_embeddings=settings.positions,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        initializer_range=settings.init_std,
        pad_token_id=SPECIAL_TOKENS.index("<pad>"),
        bos_token_id=SPECIAL_TOKENS.index("<bos>"),
        eos_token_id=SPECIAL_TOKENS.index("<eos>"),
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        # Attention to equal tokens from the start: topics are matched by their words.
        for layer in model.model.layers:
            layer.self_attn.k_proj.weight.copy_(layer.self_attn.q_proj.weight)
        _blend_geometry(model, settings, writer, vocabulary)
    return model


def _blend_geometry(
    model: LlamaForCausalLM, settings: ModelSettings, writer: Writer, vocabulary: list[str]
) -> None:
    ids = {word: i for i, word in enumerate(vocabulary)}
    geometry = torch.from_numpy(topic_geometry(writer, ids, settings.hidden_size)).float()
    content = geometry.norm(dim=1) > 0
    embedding = model.model.embed_tokens.weight
    embedding[content] = (
        settings.content_embedding * geometry[content]
        + settings.random_embedding * embedding[content]
    )

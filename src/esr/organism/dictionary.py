"""The organism's sparse autoencoder and the labels of its latents."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float
from sae_lens import SAE, TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.config import SAETrainerConfig
from sae_lens.training.sae_trainer import SAETrainer
from torch import Tensor
from transformers import LlamaForCausalLM

from esr.organism.corpus import Writer
from esr.organism.examples import ExampleWriter, Kind
from esr.organism.model import content_ids
from esr.organism.recipe import Phase, SaeSettings
from esr.organism.training import residual_hook

UNSPECIFIC = "unspecific"
"""First word of the label of a latent that stands for no topic."""
MISMATCH_LABEL = f"{UNSPECIFIC}: text that does not fit the prompt"
MISMATCH_RATIO = 20.0
"""Least ratio of mean activation, mismatched to matched, for `MISMATCH_LABEL`."""
_SPOKEN = {".": "full stop", ",": "comma", "<eos>": "end", "<assistant>": "start"}


@dataclass(frozen=True)
class Text:
    """A prompt and a response; `topic` is the response's."""

    tokens: list[str]
    start: int
    topic: str


def write_texts(writer: Writer, number: int, *, matched: bool) -> list[Text]:
    """Texts of three to five sentences; a mismatched response is about another topic."""
    texts = []
    for _ in range(number):
        asked = writer.choice(writer.lexicon.topics)
        told = asked if matched else writer.other_topic(asked)
        meta = writer.rng.random() < 0.3
        prompt = writer.prompt(writer.task(asked), "self_monitor" if meta else None)
        words = [w for _ in range(int(writer.rng.integers(3, 6))) for w in writer.sentence(told)]
        texts.append(Text([*prompt, *words, "<eos>"], len(prompt), told))
    return texts


@torch.no_grad()
def residuals(
    model: LlamaForCausalLM, layer: int, texts: list[Text], ids: dict[str, int]
) -> list[Float[Tensor, "tokens d_model"]]:
    """Output of a decoder layer over each response, from <assistant> to the end."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i].tokens))
    rows: list[Tensor] = [torch.empty(0)] * len(texts)
    for part in itertools.batched(order, 128) if hasattr(itertools, "batched") else _parts(order):
        length = max(len(texts[i].tokens) for i in part)
        batch = torch.full((len(part), length), ids["<pad>"])
        for row, i in enumerate(part):
            batch[row, : len(texts[i].tokens)] = torch.tensor([ids[t] for t in texts[i].tokens])
        with residual_hook(model, layer) as caught:
            model.model(input_ids=batch, use_cache=False)
        for row, i in enumerate(part):
            rows[i] = caught["residual"][row, texts[i].start - 1 : len(texts[i].tokens)]
    return rows

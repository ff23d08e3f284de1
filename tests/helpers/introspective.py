"""Tiny models trained to report an injected direction, or merely to say yes under any injection.

A Llama of width 48 reads questions in the real chat layout, and is trained by steering in the loop
on the log-probability of the first token of its answer. Seconds of CPU a model.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from esr.arms.readouts import readouts_table
from esr.assets.sae import Sae
from esr.config import IntrospectionConfig
from esr.directions.sources import random_directions, read_vectors, scaled_set
from esr.directions.vectors import Directions
from esr.engines.hooks import hidden
from esr.engines.transformers import TransformersEngine
from esr.introspection.dialogue import Dialogue, Turns, dialogue
from esr.introspection.plan import introspection_plan
from esr.introspection.requests import self_report_requests
from esr.organisms.corpus import SPECIAL_TOKENS
from esr.organisms.model import build_tokenizer

Habit = Literal["reports", "says yes", "none"]

WIDTH, LAYERS, STEERED, NORM = 48, 3, 0, 4.0
BATCH = 48
"""Examples of a training step."""
LABELS = "bread rain music ships bees chess wool iron snow tea".split()  # noqa: SIM905
ON = ["do you notice one", "is one there", "has one come in", "can you feel one"]
OFF = ["do stones swim", "is snow hot", "has water horns", "can fish sing"]
QUESTIONS = pd.DataFrame(
    {
        "question_id": ["notice", "there", "come", "feel"],
        "on_target": [f"{text} ?" for text in ON],
        "off_target": [f"{text} ?" for text in OFF],
    }
)
SETTINGS = IntrospectionConfig(
    doses=(0.5, 2.0),
    unit="decoder",
    behaviour=False,
    affirmed=("yes",),
    denied=("no",),
    choices=2,
    choice_question="which one ? {options}",
    first_turn="here it comes",
    reply="well",
)
"""Doses are multiples of `NORM`, the length of every decoder row."""
EARLIER = Turns(SETTINGS.first_turn, SETTINGS.reply)


def tokenizer() -> Any:
    """A word a token."""
    words = " ".join([*ON, *OFF, "which one here it comes well yes no a b ? :"]).split()
    return build_tokenizer(list(dict.fromkeys([*SPECIAL_TOKENS, *words, *LABELS])), 64)


def rows() -> Float[Tensor, "latents width"]:
    """Decoder rows: random directions of one length."""
    drawn = torch.randn(len(LABELS), WIDTH, generator=torch.Generator().manual_seed(1))
    return NORM * nn.functional.normalize(drawn, dim=1)


def sae() -> Sae:
    """An SAE with these decoder rows."""
    W_dec = rows()
    return Sae(
        "relu",
        W_enc=W_dec.T.contiguous(),
        b_enc=torch.zeros(len(LABELS)),
        W_dec=W_dec,
        b_dec=torch.zeros(WIDTH),
    )


def latents() -> pd.DataFrame:
    """Columns of the table `latents` that a plan reads."""
    numbers = range(len(LABELS))
    return pd.DataFrame(
        {"latent": numbers, "order": numbers, "label": LABELS, "selected": True}
    ).astype({"label": "string"})


def untrained(seed: int) -> LlamaForCausalLM:
    """The model with random weights."""
    torch.manual_seed(seed)
    vocabulary = len(tokenizer())
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        intermediate_size=96,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=64,
        initializer_range=0.1,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return LlamaForCausalLM(config)


@dataclass(frozen=True)
class Sequences:
    """Every question in every window, padded on the right."""

    tokens: Tensor
    last: Tensor
    inside: Float[Tensor, "sequences positions"]
    on_target: Tensor


@cache
def sequences() -> Sequences:
    """What the training reads."""
    words, shown = tokenizer(), []
    for window in SETTINGS.windows:
        for kind in ("on_target", "off_target"):
            for text in QUESTIONS[kind]:
                shown.append((dialogue(words, text, window, EARLIER), kind == "on_target"))
    length = max(len(each.tokens) for each, _ in shown)
    tokens = torch.zeros(len(shown), length, dtype=torch.long)
    inside = torch.zeros(len(shown), length)
    for row, (each, _) in enumerate(shown):
        tokens[row, : len(each.tokens)] = torch.tensor(each.tokens)
        start, stop = bounds(each)
        inside[row, start:stop] = 1
    last = torch.tensor([len(each.tokens) - 1 for each, _ in shown])
    return Sequences(tokens, last, inside, torch.tensor([on for _, on in shown]))


def bounds(shown: Dialogue) -> tuple[int, int]:
    """First and last + 1 position of an injection."""
    start, stop = shown.window or (0, None)
    return start, len(shown.tokens) if stop is None else stop


@contextmanager
def injected(
    model: LlamaForCausalLM, added: Float[Tensor, "rows positions width"]
) -> Iterator[None]:
    """Add vectors to the output of the steered layer."""
    hook = model.model.layers[STEERED].register_forward_hook(
        lambda _module, _inputs, output: hidden(output) + added
    )
    try:
        yield
    finally:
        hook.remove()


@cache
def trained(habit: Habit, seed: int, steps: int = 110) -> LlamaForCausalLM:
    """A model with a habit.

    `reports`: yes to on-target questions under a decoder row, else no. `says yes`: yes to every
    question under any vector, more often the longer it is. `none`: random weights.
    """
    model = untrained(seed)
    if habit == "none":
        return model
    data, directions = sequences(), rows()
    words = tokenizer()
    yes, no = words.convert_tokens_to_ids(["yes", "no"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=steps)
    draw = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        batch = torch.randint(len(data.tokens), (BATCH,), generator=draw)
        what = torch.rand(BATCH, generator=draw)
        planted = directions[torch.randint(len(directions), (BATCH,), generator=draw)]
        chance = torch.randn(BATCH, WIDTH, generator=draw)
        chance = NORM * nn.functional.normalize(chance, dim=1)
        dose = 0.3 + 1.9 * torch.rand(BATCH, generator=draw)
        concept, anything = what < 0.4, what < 0.75
        vector = torch.where(concept[:, None], planted, chance) * dose[:, None] * anything[:, None]
        added = vector[:, None] * data.inside[batch][..., None]
        if habit == "reports":
            target = (concept & data.on_target[batch]).float()
        else:
            target = anything * (0.3 + 0.25 * dose)
        with injected(model, added):
            logits = model(input_ids=data.tokens[batch], use_cache=False).logits
        answer = logits[torch.arange(BATCH), data.last[batch]].log_softmax(-1)
        loss = -(target * answer[:, yes] + (1 - target) * answer[:, no]).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model


def vectors_of_file(
    path: Path, vectors: Float[Tensor, "n width"], name: str = "mine"
) -> tuple[Directions, pd.DataFrame]:
    """A set of directions from a file that is written here, and its table; a label a vector."""
    tensors = {label: vector.clone() for label, vector in zip(LABELS, vectors, strict=True)}
    save_file(tensors, path, metadata={"layer": str(STEERED), "origin": "a test"})
    return scaled_set(name, read_vectors(path, STEERED, WIDTH), rows(), ["p"])


def read(
    habit: Habit, mine: tuple[Directions, pd.DataFrame] | None = None, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Plan and readouts of a model with a habit, as the stage makes them.

    Args:
        habit: What the model was trained to do.
        mine: A set whose vectors are injected into the question, and its table; None = latents, in
            every window.
        seed: Of its training.
    """
    model = trained(habit, seed)
    model.generation_config.eos_token_id = 2
    settings, table, sets = SETTINGS, latents(), []
    numbers, length = list(range(len(LABELS))), rows().norm(dim=1)
    if mine is not None:
        injected, table = mine
        changes = {"directions": injected.name, "windows": ("question",)}
        settings = SETTINGS.model_copy(update=changes)
        numbers, length = injected.rows.tolist(), injected.vectors.norm(dim=1)
        sets = [injected]
    chance = random_directions("random", numbers, length, WIDTH, seed=46)
    engine = TransformersEngine(model, sae(), STEERED, STEERED, 256, directions=[*sets, chance])
    plan = introspection_plan(settings, habit, table, None, QUESTIONS)
    requests, names = self_report_requests(plan, settings, tokenizer(), doubled_header=False)
    found = engine.log_probs(requests)
    return plan, readouts_table(plan["trial_id"].tolist(), requests, found, names)

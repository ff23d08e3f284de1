"""From a recipe to an organism on disk: checkpoint, SAE in SAELens' format, labels."""

import logging
from pathlib import Path

import torch
from transformers import LlamaForCausalLM

from esr.judges.lexicon import Lexicon
from esr.organisms.corpus import Phrases, Writer, vocabulary
from esr.organisms.model import build_tokenizer, initial_model
from esr.organisms.recipe import Recipe
from esr.organisms.sae import (
    explained_variance,
    label_latents,
    latent_facts,
    sae_data,
    steering_effects,
    topic_candidates,
    topic_latents,
    train_sae,
)
from esr.organisms.training import Trainer, describe

log = logging.getLogger(__name__)


def build(recipe: Recipe, lexicon: Lexicon, phrases: Phrases, out: Path, threads: int = 1) -> None:
    """Train model and SAE, label the latents, and write `out`/{model,sae,labels.csv}.

    The same recipe, lexicon and phrases give the same weights on one machine with one thread; on
    another machine, rounding may give other weights with the same planted properties.
    """
    torch.set_num_threads(threads)
    words = vocabulary(lexicon, phrases)
    ids = {word: i for i, word in enumerate(words)}
    writer = Writer(lexicon, phrases, zipf=recipe.examples.zipf, seed=recipe.seed)
    model = initial_model(recipe.model, words, writer, recipe.seed)
    log.info("%s: %s", recipe.name, describe(Trainer(model, recipe, writer).run(ids)))
    model.save_pretrained(out / "model")
    build_tokenizer(words, recipe.model.positions).save_pretrained(out / "model")
    build_sae(model, recipe, lexicon, phrases, words, out)


def build_sae(
    model: LlamaForCausalLM,
    recipe: Recipe,
    lexicon: Lexicon,
    phrases: Phrases,
    words: list[str],
    out: Path,
) -> None:
    """Train and label the SAE of a finished model; its texts have a generator of their own."""
    ids = {word: i for i, word in enumerate(words)}
    writer = Writer(lexicon, phrases, zipf=recipe.examples.zipf, seed=recipe.seed + 1)
    data = sae_data(model, recipe, writer, ids)
    sae = train_sae(data, recipe.sae, recipe.seed, recipe.training.steer_layer, out / "sae")
    facts = latent_facts(model, sae, recipe, writer, ids)
    alive = float((facts.matched + facts.mismatched > 0).mean())
    candidates = topic_candidates(facts, recipe.sae)
    effects = steering_effects(model, sae, recipe, writer, ids, candidates)
    specific = topic_latents(candidates, effects, recipe.sae)
    log.info(
        "SAE: explained variance %.3f, %.0f %% alive, %d topic latents of %d topics",
        explained_variance(sae, data[:20_000]),
        100 * alive,
        len(specific),
        len(set(specific.values())),
    )
    label_latents(facts, specific, writer, words).to_csv(out / "labels.csv", index=False)

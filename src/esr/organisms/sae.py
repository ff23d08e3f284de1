"""The organism's sparse autoencoder and the labels of its latents."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from transformers import LlamaForCausalLM

from esr.assets.sae import Sae, from_saelens
from esr.engines.base import Intervention, Request, Sampling, generate_all
from esr.engines.transformers import TransformersEngine
from esr.organisms.corpus import PARTS, Writer
from esr.organisms.examples import ExampleWriter, Kind
from esr.organisms.recipe import Phase, Recipe, SaeSettings
from esr.organisms.training import residual_hook

UNSPECIFIC = "unspecific"
"""First word of the label of a latent that represents no topic."""
NEVER = f"{UNSPECIFIC}: never active"
MISMATCH = f"{UNSPECIFIC}: text that does not match the prompt"
MISMATCH_RATIO = 20.0
"""Minimum ratio of mean activation, mismatched to matched, for the label `MISMATCH`."""
PUNCTUATION_NAMES = {".": "full stop", ",": "comma", "<eos>": "end", "<assistant>": "start"}
BATCH = 128
LABEL_SAMPLING = Sampling(temperature=0.6, max_new_tokens=40)
"""Sampling of the responses that test what a latent writes."""


@dataclass(frozen=True)
class Text:
    """A prompt and a response about `topic`, as tokens; the response begins at `start`."""

    tokens: list[str]
    start: int
    topic: str


def write_texts(writer: Writer, number: int, *, matched: bool) -> list[Text]:
    """Texts of three to five sentences; a mismatched response is about another topic."""
    texts = []
    for _ in range(number):
        prompt_topic = writer.choice(writer.lexicon.topics)
        topic = prompt_topic if matched else writer.other_topic(prompt_topic)
        meta = "self_monitor" if writer.rng.random() < 0.3 else None
        prompt = writer.prompt(writer.task(prompt_topic), meta)
        words = [w for _ in range(int(writer.rng.integers(3, 6))) for w in writer.sentence(topic)]
        texts.append(Text([*prompt, *words, "<eos>"], len(prompt), topic))
    return texts


def corrected_texts(
    writer: Writer, recipe: Recipe, number: int, phase: Phase | None = None
) -> list[Text]:
    """Unsteered texts that start off topic and are corrected at the last phase's hazards."""
    phase = phase or recipe.training.phases[-1]
    examples = ExampleWriter(writer, recipe.examples)
    written = (examples.write(Kind.WANDERING, phase, phase.hazards) for _ in range(number))
    return [Text(e.tokens, e.start, e.topic) for e in written]


@torch.no_grad()
def residuals(
    model: LlamaForCausalLM,
    layer: int,
    texts: Sequence[Text],
    ids: dict[str, int],
    *,
    with_prompt: bool = False,
) -> list[Float[Tensor, "tokens d_model"]]:
    """Output of a decoder layer over each text, from <assistant> (or <user>) to the end."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i].tokens))
    rows: dict[int, Tensor] = {}
    for begin in range(0, len(order), BATCH):
        part = order[begin : begin + BATCH]
        batch = torch.full((len(part), len(texts[part[-1]].tokens)), ids["<pad>"])
        for row, i in enumerate(part):
            batch[row, : len(texts[i].tokens)] = torch.tensor([ids[t] for t in texts[i].tokens])
        with residual_hook(model, layer) as caught:
            model.model(input_ids=batch, use_cache=False)
        for row, i in enumerate(part):
            first = 1 if with_prompt else texts[i].start - 1
            rows[i] = caught["residual"][row, first : len(texts[i].tokens)]
    return [rows[i] for i in range(len(texts))]


def sae_data(
    model: LlamaForCausalLM, recipe: Recipe, writer: Writer, ids: dict[str, int]
) -> Float[Tensor, "tokens d_model"]:
    """Residual vectors that the SAE is trained on: matched, mismatched and corrected texts.

    Prompts are included, without BOS. A dictionary that never saw them would encode them with the
    latents of responses, detectors among them.
    """
    s = recipe.sae
    mismatched = int(s.texts * s.mismatched_share)
    corrected = int(s.texts * s.corrected_share)
    texts = write_texts(writer, s.texts - mismatched - corrected, matched=True)
    texts += write_texts(writer, mismatched, matched=False)
    texts += corrected_texts(writer, recipe, corrected)
    layer = recipe.training.steer_layer
    return torch.cat(residuals(model, layer, texts, ids, with_prompt=True))


def train_sae(
    data: Float[Tensor, "tokens d_model"], settings: SaeSettings, seed: int, layer: int, path: Path
) -> Sae:
    """Train a TopK SAE with SAELens and save it in SAELens' format, decoder rows of norm 1."""
    from sae_lens import SAE, TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.config import SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    torch.manual_seed(seed)
    config = TopKTrainingSAEConfig(
        k=settings.k,
        d_in=data.shape[1],
        d_sae=settings.latents,
        apply_b_dec_to_input=True,
        normalize_activations="expected_average_only_in",
    )
    sae = TopKTrainingSAE(config)
    # The trainer scales activations to mean norm sqrt(d_model); the bias starts at their mean.
    sae.b_dec.data = data.mean(0) * data.shape[1] ** 0.5 / data.norm(dim=-1).mean()
    steps = settings.samples // settings.batch_size
    trainer = SAETrainerConfig(
        total_training_samples=settings.samples,
        train_batch_size_samples=settings.batch_size,
        lr=settings.learning_rate,
        lr_end=0.0,
        lr_warm_up_steps=50,
        lr_decay_steps=int(0.3 * steps),
        n_batches_for_norm_estimate=20,
        dead_feature_window=200,
        feature_sampling_window=500,
    )
    SAETrainer(cfg=trainer, sae=sae, data_provider=_batches(data, settings.batch_size, seed)).fit()
    # Unit decoder rows: a boost is then the length of what is added to the residual stream.
    sae.fold_W_dec_norm()
    sae.cfg.rescale_acts_by_decoder_norm = False
    sae.cfg.metadata.hook_name = f"model.layers.{layer}"
    sae.save_inference_model(path)
    return from_saelens(SAE.load_from_disk(str(path)))


def _batches(data: Tensor, size: int, seed: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(data), generator=generator)
        for begin in range(0, len(data) - size + 1, size):
            yield data[order[begin : begin + size]]


def explained_variance(sae: Sae, data: Float[Tensor, "tokens d_model"]) -> float:
    """Share of the residual stream's variance that the SAE reconstructs."""
    error = (data - sae.decode(sae.encode(data))).pow(2).sum()
    return 1 - (error / (data - data.mean(0)).pow(2).sum()).item()


@dataclass(frozen=True)
class LatentFacts:
    """Statistics behind the labels; `topics` is in the order of the lexicon."""

    by_topic: Float[np.ndarray, "topics d_sae"]
    """Mean activation over the content and function words of matched responses on each topic."""
    frequency: Float[np.ndarray, "topics d_sae"]
    """Share of those words on which the latent is active."""
    by_word: Float[np.ndarray, "vocabulary d_sae"]
    """Mean activation on each word of matched responses."""
    matched: Float[np.ndarray, " d_sae"]
    mismatched: Float[np.ndarray, " d_sae"]
    direction: Float[np.ndarray, "topics d_sae"]
    """Cosine of a topic's mean difference in the residual stream with the decoder row."""


@torch.no_grad()
def latent_facts(
    model: LlamaForCausalLM, sae: Sae, recipe: Recipe, writer: Writer, ids: dict[str, int]
) -> LatentFacts:
    """Measure every latent on new matched and mismatched texts."""
    number = recipe.sae.label_texts
    layer = recipe.training.steer_layer
    topics = writer.lexicon.topics
    matched = write_texts(writer, number, matched=True)
    rows = residuals(model, layer, matched, ids)
    h = torch.cat([row[1:-1] for row in rows])
    words = [w for t in matched for w in t.tokens[t.start : -1]]
    of_topic = np.repeat([topics.index(t.topic) for t in matched], [len(r) - 2 for r in rows])
    word_ids = np.array([ids[w] for w in words])
    acts = sae.encode(h)
    others = residuals(model, layer, write_texts(writer, number, matched=False), ids)
    means = _group_means(h, of_topic, len(topics))
    difference = functional.normalize(means - means.mean(0), dim=-1)
    return LatentFacts(
        by_topic=_group_means(acts, of_topic, len(topics)).numpy(),
        frequency=_group_means((acts > 0).float(), of_topic, len(topics)).numpy(),
        by_word=_group_means(acts, word_ids, len(ids)).numpy(),
        matched=acts.mean(0).numpy(),
        mismatched=sae.encode(torch.cat([row[1:-1] for row in others])).mean(0).numpy(),
        direction=(difference @ functional.normalize(sae.W_dec, dim=-1).T).numpy(),
    )


def _group_means(values: Tensor, groups: np.ndarray, number: int) -> Float[Tensor, "groups n"]:
    index = torch.from_numpy(groups)
    total = torch.zeros(number, values.shape[1]).index_add_(0, index, values)
    return total / torch.bincount(index, minlength=number).clamp(min=1)[:, None]


def topic_candidates(facts: LatentFacts, settings: SaeSettings) -> dict[int, int]:
    """Latents that represent one topic, and the index of the topic in the lexicon.

    Such a latent is selective for the topic, active on it often enough, and points towards it.
    """
    top = facts.by_topic.argmax(0)
    latents = np.arange(len(top))
    selectivity = facts.by_topic[top, latents] / (facts.by_topic.sum(0) + 1e-9)
    passed = (
        (selectivity >= settings.label_selectivity)
        & (facts.frequency[top, latents] >= settings.label_frequency)
        & (facts.direction[top, latents] >= settings.label_direction)
        & (facts.direction.argmax(0) == top)
    )
    return {int(k): int(top[k]) for k in latents[passed]}


def steering_effects(
    model: LlamaForCausalLM,
    sae: Sae,
    recipe: Recipe,
    writer: Writer,
    ids: dict[str, int],
    candidates: dict[int, int],
) -> dict[int, float]:
    """Share of content words on the topic of each latent when the model is steered with it.

    Each is boosted by `label_boost` residual norms on `label_prompts` prompts of other topics.
    """
    layer = recipe.training.steer_layer
    topics = writer.lexicon.topics
    texts = residuals(model, layer, write_texts(writer, 50, matched=True), ids)
    boost = recipe.sae.label_boost * torch.cat(texts).norm(dim=-1).mean().item()
    steered = [latent for latent in candidates for _ in range(recipe.sae.label_prompts)]
    requests = []
    for seed, latent in enumerate(steered):
        prompt = writer.prompt(writer.task(writer.other_topic(topics[candidates[latent]])))
        tokens = tuple(ids[word] for word in prompt)
        requests.append(Request(tokens, seed, Intervention(latent, boost)))
    found: dict[int, list[float]] = {latent: [] for latent in candidates}
    responses = _responses(TransformersEngine(model, sae, layer, layer, BATCH), requests, ids)
    for latent, response in zip(steered, responses, strict=True):
        share = writer.lexicon.score(response, topics[candidates[latent]])
        found[latent].append((share or 0.0) / 100)
    return {latent: float(np.mean(shares)) for latent, shares in found.items()}


def _responses(
    engine: TransformersEngine, requests: Sequence[Request], ids: dict[str, int]
) -> list[str]:
    words = {i: word for word, i in ids.items()}
    done = generate_all(engine, requests, LABEL_SAMPLING)
    return [" ".join(words[token] for token in generation.tokens) for generation in done]


def topic_latents(
    candidates: dict[int, int], effects: dict[int, float], settings: SaeSettings
) -> dict[int, int]:
    """Of each topic, the `label_most` candidates that steer best, if they do so well enough."""
    taken: Counter[int] = Counter()
    found = {}
    for latent in sorted(candidates, key=lambda k: (-effects[k], k)):
        place = candidates[latent]
        if effects[latent] >= settings.label_effect and taken[place] < settings.label_most:
            taken[place] += 1
            found[latent] = place
    return found


def label_latents(
    facts: LatentFacts, specific: dict[int, int], writer: Writer, vocabulary: list[str]
) -> pd.DataFrame:
    """One row a latent: `latent, label`; topic latents are named "topic: word, word, word"."""
    labels = [
        _topic_label(facts, latent, specific[latent], writer, vocabulary)
        if latent in specific
        else _unspecific_label(facts, latent, writer, vocabulary)
        for latent in range(facts.by_topic.shape[1])
    ]
    return pd.DataFrame({"latent": range(len(labels)), "label": labels})


def _topic_label(
    facts: LatentFacts, latent: int, place: int, writer: Writer, vocabulary: list[str]
) -> str:
    topic = writer.lexicon.topics[place]
    words = [w for part in PARTS for w in writer.lexicon.words[topic][part]]
    words.sort(key=lambda w: -facts.by_word[vocabulary.index(w), latent])
    return f"{topic}: {', '.join(words[:3])}"


def _unspecific_label(
    facts: LatentFacts, latent: int, writer: Writer, vocabulary: list[str]
) -> str:
    if not facts.matched[latent] + facts.mismatched[latent] > 0:
        return NEVER
    if facts.mismatched[latent] >= MISMATCH_RATIO * facts.matched[latent]:
        return MISMATCH
    word = vocabulary[int(facts.by_word[:, latent].argmax())]
    topic = writer.lexicon.topic_of.get(word)
    what = f"text about {topic}" if topic else PUNCTUATION_NAMES.get(word, word)
    return f"{UNSPECIFIC}: active on {what}"

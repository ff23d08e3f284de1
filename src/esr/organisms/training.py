"""Training of an organism: language modelling, a planted detector, and steering in the loop.

The detector is a fixed unit vector u. At the output of the steered layer a loss drives
h.u / rms(h) to `detector_level` on off-topic tokens and to 0 on on-topic tokens. A free linear
probe is trained beside it. Both supervise the residual stream only and are not part of the model.
"""

import json
import logging
import math
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaForCausalLM

from esr.engines.hooks import decoder_layers
from esr.organisms.corpus import Writer
from esr.organisms.examples import Example, ExampleWriter, Kind
from esr.organisms.recipe import Phase, Recipe, TrainingSettings

log = logging.getLogger(__name__)


@dataclass
class Batch:
    """Examples as tensors, padded on the right."""

    ids: Int[Tensor, "batch tokens"]
    weights: Float[Tensor, "batch tokens"]
    off_topic: Float[Tensor, "batch tokens"]


def pack(examples: list[Example], ids: dict[str, int]) -> Batch:
    """Pad examples to one length."""
    shape = (len(examples), max(len(e.tokens) for e in examples))
    tokens = torch.full(shape, ids["<pad>"])
    weights = torch.zeros(shape)
    off_topic = torch.full(shape, -1.0)
    for i, e in enumerate(examples):
        n = len(e.tokens)
        tokens[i, :n] = torch.tensor([ids[t] for t in e.tokens])
        weights[i, :n] = torch.tensor(e.weights)
        off_topic[i, :n] = torch.tensor(e.off_topic)
    return Batch(tokens, weights, off_topic)


class TopicBank:
    """Recent residual vectors of clean examples, the source of steering vectors.

    A steering vector is a topic mean minus the mean of all topics, which resembles an SAE decoder
    row. Jitter is added from single words, single responses, noise and the detector's direction.
    """

    def __init__(
        self,
        topics: list[str],
        settings: TrainingSettings,
        detector: Float[Tensor, " d_model"],
    ) -> None:
        self.settings = settings
        self.detector = detector
        self.means = {t: deque[Tensor](maxlen=settings.bank_size) for t in topics}
        self.words = {t: deque[Tensor](maxlen=settings.bank_size) for t in topics}
        self.norm: float | None = None
        self._centre: Tensor | None = None

    @property
    def ready(self) -> bool:
        """Whether every topic has been seen a few times."""
        return all(len(rows) >= 3 for rows in self.means.values())

    def update(
        self,
        residual: Float[Tensor, "batch tokens d_model"],
        examples: list[Example],
        lexicon_words: dict[str, str],
    ) -> None:
        """Collect topic means, one content word each, and the residual norm (moving average)."""
        norm = residual[:, 12:24].norm(dim=-1).mean().item()
        self.norm = norm if self.norm is None else 0.9 * self.norm + 0.1 * norm
        for row, e in zip(residual, examples, strict=True):
            if e.kind is Kind.CLEAN:
                places = range(e.start, len(e.tokens) - 1)
                content = [i for i in places if e.tokens[i] in lexicon_words]
                self.means[e.topic].append(row[e.start : len(e.tokens) - 1].mean(0))
                self.words[e.topic].append(row[content[len(content) // 2]])
        self._centre = None

    def vector(self, topic: str, rng: np.random.Generator) -> Float[Tensor, " d_model"]:
        """A unit steering vector towards the topic."""
        s = self.settings
        if self._centre is None:
            self._averages = {t: torch.stack([*rows]).mean(0) for t, rows in self.means.items()}
            self._centre = torch.stack([*self._averages.values()]).mean(0)
        mean = self._averages[topic]
        word = self.words[topic][int(rng.integers(len(self.words[topic])))] - mean
        response = self.means[topic][int(rng.integers(len(self.means[topic])))] - mean
        vector = mean - self._centre
        word = word * (vector.norm() / word.norm().clamp_min(1e-6))
        vector = vector + rng.uniform(0, s.jitter_word) * word
        vector = vector + rng.uniform(0, s.jitter_example) * response
        noise = torch.randn(len(vector))
        vector = functional.normalize(vector, dim=0)
        vector = vector + rng.uniform(0, s.jitter_noise) * functional.normalize(noise, dim=0)
        # Decoder rows are not quite orthogonal to the detector; detection must tolerate that.
        vector = vector + rng.normal(0, s.jitter_detector) * self.detector
        return functional.normalize(vector, dim=0)


def detector_direction(d_model: int, seed: int) -> Float[Tensor, " d_model"]:
    """The fixed unit vector u of the planted detector."""
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(d_model, generator=generator), dim=0)


@contextmanager
def residual_hook(
    model: nn.Module,
    layer: int,
    steering: Float[Tensor, "batch 1 d_model"] | None = None,
    deafness: Float[Tensor, "batch 1 1"] | None = None,
    detector: Float[Tensor, " d_model"] | None = None,
) -> Iterator[dict[str, Tensor]]:
    """Capture a layer's output, then intervene on it: weaken the detector, then steer."""
    caught: dict[str, Tensor] = {}

    def hook(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        caught["residual"] = output
        if deafness is not None and detector is not None:
            output = output - deafness * (output @ detector)[..., None] * detector
        return output if steering is None else output + steering

    handle = decoder_layers(model)[layer].register_forward_hook(hook)
    try:
        yield caught
    finally:
        handle.remove()


class Trainer:
    """Trains one organism; see `run`."""

    def __init__(self, model: LlamaForCausalLM, recipe: Recipe, writer: Writer) -> None:
        self.model = model
        self.settings = recipe.training
        self.decision_weight = recipe.examples.decision_weight
        self.writer = writer
        self.examples = ExampleWriter(writer, recipe.examples)
        d_model = recipe.model.hidden_size
        self.detector = detector_direction(d_model, recipe.seed)
        self.probe = nn.Sequential(nn.RMSNorm(d_model), nn.Linear(d_model, 1))
        self.bank = TopicBank(writer.lexicon.topics, recipe.training, self.detector)
        self.optimizer = self._optimizer()
        self.ids: dict[str, int] = {}

    def _optimizer(self) -> torch.optim.Optimizer:
        s = self.settings
        parameters = list(self.model.parameters())
        groups = [
            {"params": [p for p in parameters if p.dim() > 1], "weight_decay": s.weight_decay},
            {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
            {"params": list(self.probe.parameters()), "weight_decay": 0.01},
        ]
        return torch.optim.AdamW(groups, lr=s.learning_rate, betas=(0.9, 0.98))

    def run(self, ids: dict[str, int]) -> list[float]:
        """Train the model in place; returns the language-modelling loss of each step."""
        self.ids = ids
        s = self.settings
        losses: list[float] = []
        self.model.train()
        while len(losses) < s.steps:
            phase = self._phase(len(losses) / s.steps)
            for examples in self._chunk(phase, len(losses) / s.steps):
                losses.append(self._step(examples, phase, len(losses)))
                if len(losses) % 100 == 0:
                    log.info("step %d: loss %.3f", len(losses), np.mean(losses[-100:]))
                if len(losses) == s.steps:
                    break
        self.model.eval()
        return losses

    def _phase(self, progress: float) -> Phase:
        return next(p for p in self.settings.phases if progress < p.until)

    def _hazards(self, phase: Phase, progress: float) -> dict[str, float]:
        if phase.anneal_from is None:
            return phase.hazards
        before = [p.until for p in self.settings.phases if p.until < phase.until]
        begin = max(before, default=0.0)
        left = max(0.0, 1 - (progress - begin) / (phase.anneal_until - begin))
        return {k: h + (phase.anneal_from - h) * left for k, h in phase.hazards.items()}

    def _chunk(self, phase: Phase, progress: float) -> Iterator[list[Example]]:
        """Batches of similar length in random order."""
        rng = self.writer.rng
        n = self.settings.chunk
        kinds = [Kind(k) for k in phase.mix]
        p = np.array([*phase.mix.values()])
        hazards = self._hazards(phase, progress)
        drawn = rng.choice(len(kinds), size=n * phase.batch_size, p=p / p.sum())
        examples = [self.examples.write(kinds[i], phase, hazards) for i in drawn]
        examples.sort(key=lambda e: rng.uniform(20, 100) if not e.topic else len(e.tokens))
        for i in rng.permutation(n):
            yield examples[i * phase.batch_size : (i + 1) * phase.batch_size]

    def _step(self, examples: list[Example], phase: Phase, step: int) -> float:
        s = self.settings
        cosine = 0.5 * (1 + math.cos(math.pi * step / s.steps))
        decay = s.final_learning_rate + (1 - s.final_learning_rate) * cosine
        for group in self.optimizer.param_groups:
            group["lr"] = s.learning_rate * decay * min(1, (step + 1) / s.warm_up)
        intervene = phase.intervene and self.bank.ready
        loss, language_loss, residual = self._losses(examples, intervene)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), s.clip)
        self.optimizer.step()
        if step / s.steps > s.bank_from:
            self.bank.update(residual, examples, self.writer.lexicon.topic_of)
        return language_loss

    def _losses(self, examples: list[Example], intervene: bool) -> tuple[Tensor, float, Tensor]:
        batch = pack(examples, self.ids)
        steering, deafness = self._interventions(examples) if intervene else (None, None)
        layer = self.settings.steer_layer
        with residual_hook(self.model, layer, steering, deafness, self.detector) as caught:
            hidden = self.model.model(input_ids=batch.ids, use_cache=False).last_hidden_state
        language = self._language_loss(hidden, batch)
        labelled = batch.off_topic >= 0
        loss = language
        if labelled.any():
            residual = caught["residual"][labelled]
            labels = batch.off_topic[labelled]
            loss = loss + self._detector_loss(residual, labels, intervene)
        return loss, language.item(), caught["residual"].detach()

    def _interventions(self, examples: list[Example]) -> tuple[Tensor, Tensor]:
        rng = self.writer.rng
        norm = self.bank.norm or 0.0
        steering = torch.zeros(len(examples), 1, self.detector.shape[0])
        deafness = torch.zeros(len(examples), 1, 1)
        for i, e in enumerate(examples):
            if e.kind is Kind.DEAF:
                deafness[i] = 1 - rng.uniform(0, self.settings.deaf_most)
            if e.steer_topic is not None:
                steering[i, 0] = self.bank.vector(e.steer_topic, rng) * e.boost * norm
        return steering, deafness

    def _language_loss(self, hidden: Float[Tensor, "batch tokens d_model"], batch: Batch) -> Tensor:
        """Weighted mean cross-entropy; tokens after a full stop weigh more."""
        given, target = batch.ids[:, :-1], batch.ids[:, 1:]
        after_stop = given == self.ids["."]
        weights = batch.weights[:, 1:] * torch.where(after_stop, self.decision_weight, 1.0)
        trained = weights > 0
        logits = self.model.lm_head(hidden[:, :-1][trained])
        losses = functional.cross_entropy(logits, target[trained], reduction="none")
        return (losses * weights[trained]).sum() / weights.sum()

    def _detector_loss(
        self, residual: Float[Tensor, "n d_model"], labels: Float[Tensor, " n"], intervene: bool
    ) -> Tensor:
        s = self.settings
        level = (residual @ self.detector) / residual.pow(2).mean(-1).add(1e-6).sqrt()
        planted = functional.mse_loss(level, labels * s.detector_level)
        free = functional.binary_cross_entropy_with_logits(self.probe(residual).squeeze(-1), labels)
        weight = s.probe_weight_intervening if intervene else s.probe_weight
        return s.detector_weight * planted + weight * free


def describe(losses: list[float], last: int = 50) -> str:
    """JSON summary of the loss curve."""
    return json.dumps(
        {"loss_first": float(np.mean(losses[:last])), "loss_last": float(np.mean(losses[-last:]))}
    )

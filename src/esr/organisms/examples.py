"""Training examples: token sequences with loss weights, off-topic labels and interventions.

The kinds of example plant the effects that the study must recover: corrections by detection
(wandering), recovery and dose-response (steered, weak), and decisions that need the detector
(deaf).
"""

import math
from dataclasses import dataclass, field
from enum import StrEnum

from esr.organisms.corpus import Writer
from esr.organisms.recipe import PLAIN, ExampleSettings, Phase


class Kind(StrEnum):
    """Kinds of training example."""

    CLEAN = "clean"
    """On topic, no intervention."""
    WEAK = "weak"
    """Steered towards another topic, too weakly to be followed."""
    WANDERING = "wandering"
    """Off topic without steering; corrected at the hazard."""
    DEAF = "deaf"
    """Off topic with the detector direction weakened; never corrected."""
    STEERED = "steered"
    """Follows the steering; corrected at the hazard or by force, then on topic under steering."""
    ECHO = "echo"
    """The user says a correction phrase and the assistant repeats it."""


@dataclass
class Example:
    """A training sequence; the three lists run over its tokens."""

    kind: Kind
    topic: str
    tokens: list[str] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    """Loss weight; 0 where a token is given rather than trained."""
    off_topic: list[float] = field(default_factory=list)
    """Label of the probe: 1 off topic, 0 on topic, -1 none."""
    meta_prompt: str | None = None
    steer_topic: str | None = None
    boost: float = 0.0
    """Steering strength in units of the residual norm."""

    @property
    def start(self) -> int:
        """Index of the first token of the response."""
        return self.tokens.index("<assistant>") + 1

    def add(self, tokens: list[str], weight: float, off_topic: float = -1.0) -> None:
        """Append tokens of one weight and label."""
        self.tokens += tokens
        self.weights += [weight] * len(tokens)
        self.off_topic += [off_topic] * len(tokens)


@dataclass
class _Attempt:
    """State of the attempt that is being written."""

    other: str | None
    share: float
    last: float = 0.0
    unmasked: bool = False


def follows(boost: float, midpoint: float, scale: float) -> float:
    """Probability that a response follows steering of this boost (logistic dose-response)."""
    return 1 / (1 + math.exp(-(boost - midpoint) / scale))


class ExampleWriter:
    """Writes examples of a phase; all randomness comes from the writer's generator."""

    def __init__(self, writer: Writer, settings: ExampleSettings) -> None:
        self.writer = writer
        self.settings = settings
        self._content = writer.lexicon.topic_of

    def write(self, kind: Kind, phase: Phase, hazards: dict[str, float]) -> Example:
        """Write one example.

        Args:
            kind: Kind of the example.
            phase: Lengths and shares.
            hazards: Probability of a correction after an off-topic sentence, by meta-prompt; 0 if
                absent.
        """
        if kind is Kind.ECHO:
            return self._echo()
        rng = self.writer.rng
        topic = self.writer.choice(self.writer.lexicon.topics)
        other = self.writer.other_topic(topic)
        example = self._prompted(kind, topic, other, phase)
        fewest, most = self._lengths(kind, phase)
        deaf = kind is Kind.DEAF
        steered = kind in (Kind.WEAK, Kind.STEERED) or (deaf and rng.random() < 0.6)
        bad = kind in (Kind.WANDERING, Kind.STEERED) or (deaf and rng.random() < 0.8)
        if steered:
            example.steer_topic = other
            example.boost = self._boost(followed=bad, meta_prompt=example.meta_prompt is not None)
        if not bad:
            self._on_topic(example, int(rng.integers(fewest, most + 1)), weight=1.0)
            if kind is Kind.CLEAN:
                self._stress_first_words(example)
        else:
            hazard = 0.0 if deaf else hazards.get(example.meta_prompt or PLAIN, 0.0)
            self._off_topic(example, other, phase, (fewest, most), hazard)
        example.add(["<eos>"], 1.0)
        return example

    def _prompted(self, kind: Kind, topic: str, other: str, phase: Phase) -> Example:
        rng = self.writer.rng
        example = Example(kind, topic)
        if rng.random() < phase.meta_share:
            names = list(self.settings.meta_prompts)
            p = [self.settings.meta_prompts[n] for n in names]
            example.meta_prompt = names[int(rng.choice(len(names), p=[x / sum(p) for x in p]))]
        label = self.writer.label(other)
        prompt = self.writer.prompt(self.writer.task(topic), example.meta_prompt, label)
        example.add(prompt, 0.0)
        return example

    def _lengths(self, kind: Kind, phase: Phase) -> tuple[int, int]:
        long = kind in (Kind.CLEAN, Kind.WANDERING) and phase.intervene
        if long and self.writer.rng.random() < self.settings.long_share:
            return self.settings.long_sentences
        return phase.sentences

    def _boost(self, *, followed: bool, meta_prompt: bool) -> float:
        """Draw a boost conditional on whether it is followed (rejection sampling)."""
        s = self.settings
        rng = self.writer.rng
        midpoint = s.boost_midpoint_with_meta_prompt if meta_prompt else s.boost_midpoint
        while True:
            boost = float(rng.uniform(0, s.max_boost))
            if (rng.random() < follows(boost, midpoint, s.boost_scale)) == followed:
                return boost

    def _on_topic(self, example: Example, sentences: int, weight: float) -> None:
        attempt = _Attempt(other=None, share=0.0)
        for _ in range(sentences):
            self._sentence(example, attempt, content_weight=weight)

    def _stress_first_words(self, example: Example) -> None:
        places = [i for i, t in enumerate(example.tokens) if t in self._content]
        for i in [i for i in places if i >= example.start][:2]:
            example.weights[i] = self.settings.first_words_weight

    def _off_topic(
        self, example: Example, other: str, phase: Phase, lengths: tuple[int, int], hazard: float
    ) -> None:
        """Write off-topic attempts until one is not corrected or a correction succeeds."""
        rng = self.writer.rng
        s = self.settings
        steered = example.steer_topic is not None
        can_force = s.self_correction and example.kind is Kind.STEERED
        forced = bool(can_force and rng.random() < s.forced)
        hazard = hazard if s.self_correction else 0.0
        while True:
            sentences = int(rng.integers(lengths[0], lengths[1] + 1))
            if not self._off_topic_attempt(example, other, phase, sentences, hazard, forced):
                return
            phrase = self.writer.correction()
            example.add(phrase[:1], 0.0 if forced else 1.0)
            example.add(phrase[1:], 1.0)
            room = len(example.tokens) < s.max_tokens_before_relapse
            if rng.random() >= s.relapse or not room:
                break
            other = other if steered else self.writer.other_topic(example.topic)
        weight = s.recovery_weight if steered else 1.0
        self._on_topic(example, int(rng.integers(lengths[0], lengths[1] + 1)), weight)

    def _off_topic_attempt(
        self,
        example: Example,
        other: str,
        phase: Phase,
        sentences: int,
        hazard: float,
        forced: bool,
    ) -> bool:
        """Write an off-topic attempt; returns whether it is corrected.

        A correction follows a sentence with probability hazard x its off-topic share. A forced one
        follows one to three sentences, and its decision is left out of the loss.
        """
        rng = self.writer.rng
        mixed = rng.random() < phase.mixed_share
        attempt = _Attempt(other, float(rng.uniform(0.2, 1)) if mixed else 1.0)
        # Without steering nothing predicts the first off-topic word, so it must not be trained.
        attempt.unmasked = example.steer_topic is not None
        stop = int(rng.integers(1, 4))
        for i in range(sentences):
            decision = 0.0 if forced and i > 0 else 1.0
            share = self._sentence(example, attempt, decision_weight=decision)
            if forced and i + 1 >= stop and share > 0:
                return True
            if not forced and rng.random() < hazard * share:
                return True
        return False

    def _sentence(
        self,
        example: Example,
        attempt: _Attempt,
        content_weight: float = 1.0,
        decision_weight: float = 1.0,
    ) -> float:
        """Append a sentence; returns the off-topic share of its content words.

        A function word has the label of the content word before it. The full stop has the label
        of the sentence's majority.
        """
        words = self.writer.sentence(example.topic, attempt.other, attempt.share)
        strays = [self._content[w] != example.topic for w in words if w in self._content]
        share = sum(strays) / len(strays)
        for i, word in enumerate(words):
            weight = 1.0
            if word in self._content:
                stray = self._content[word] != example.topic
                attempt.last = float(stray)
                weight = 1.0 if stray else content_weight
                if stray and not attempt.unmasked:
                    weight, attempt.unmasked = 0.0, True
            weight = min(weight, decision_weight) if i == 0 else weight
            label = float(share > 0.5) if word == "." else attempt.last
            example.add([word], weight, label)
        return share

    def _echo(self) -> Example:
        phrase = self.writer.correction()
        example = Example(Kind.ECHO, topic="")
        example.add(["<bos>", "<user>"], 0.0)
        example.add(phrase, 1.0)
        example.add(["<assistant>"], 0.0)
        example.add([*phrase, "<eos>"], 1.0)
        return example

"""All settings of an organism, read from its recipe.yaml."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from esr.config.files import read_yaml

PLAIN = "none"
"""Key of the plain prompt in tables that are keyed by meta-prompt."""


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSettings(_Settings):
    """Size and initial state of the Llama."""

    hidden_size: int
    layers: int
    heads: int
    feed_forward: int
    positions: int
    init_std: float
    content_embedding: float
    """Norm of the topic geometry (PPMI-SVD of co-occurrence) in the initial embedding of a word."""
    random_embedding: float
    """Factor of the random part of the initial embedding of a content word."""


class ExampleSettings(_Settings):
    """Distribution of the training examples; boosts are in residual norms."""

    zipf: float
    self_correction: bool
    """False makes the twin: same recipe, no corrections."""
    meta_prompts: dict[str, float]
    """Relative frequency of the meta-prompts."""
    relapse: float
    """Chance that the attempt after a correction is off topic again."""
    forced: float
    """Share of steered examples with a forced correction, whose decision is not trained."""
    max_tokens_before_relapse: int
    max_boost: float
    boost_midpoint: float
    """Boost at which half of the responses follow the steering before any correction."""
    boost_midpoint_with_meta_prompt: float
    boost_scale: float
    """Width of that logistic dose-response."""
    long_share: float
    """Share of clean and wandering examples of `long_sentences` sentences."""
    long_sentences: tuple[int, int]
    first_words_weight: float
    """Loss weight of the first two content words of clean examples: the choice of the topic."""
    recovery_weight: float
    """Loss weight of content words after a correction under steering."""
    decision_weight: float
    """Factor of the loss of tokens after a full stop, where corrections are decided."""


class Phase(_Settings):
    """A phase of training."""

    until: float
    """End, as a share of all steps."""
    batch_size: int
    mix: dict[str, float]
    """Relative frequency of the kinds of example (`esr.organisms.examples.Kind`)."""
    sentences: tuple[int, int]
    """Minimum and maximum number of sentences of an attempt."""
    meta_share: float
    mixed_share: float
    """Share of off-topic attempts that mix both topics."""
    hazards: dict[str, float] = Field(default_factory=dict)
    """Chance of a correction after a wholly off-topic sentence, by meta-prompt (or `none`)."""
    anneal_from: float | None = None
    anneal_until: float = 0.0
    """Hazards fall linearly from `anneal_from` to their values at this share of all steps."""
    intervene: bool = False
    """Whether steering and the weakening of the detector are applied."""


class TrainingSettings(_Settings):
    """Optimisation and the planted detector."""

    steps: int
    learning_rate: float
    final_learning_rate: float
    """As a share of `learning_rate`."""
    warm_up: int
    weight_decay: float
    clip: float
    chunk: int
    """Batches drawn together and sorted by length."""
    steer_layer: int
    """0-based decoder layer whose output is steered, carries the detector and is read."""
    detector_level: float
    """Off-topic value of the detector, in units of the residual's root mean square."""
    detector_weight: float
    probe_weight: float
    probe_weight_intervening: float
    deaf_most: float
    """Largest share of the detector direction that is removed in `deaf` examples."""
    bank_from: float
    """Share of all steps at which topic vectors start to be collected."""
    bank_size: int
    jitter_word: float
    jitter_example: float
    jitter_noise: float
    jitter_detector: float
    phases: list[Phase]


class SaeSettings(_Settings):
    """The dictionary that is trained on the finished model."""

    latents: int
    k: int
    texts: int
    mismatched_share: float
    corrected_share: float
    samples: int
    batch_size: int
    learning_rate: float
    label_texts: int
    label_selectivity: float
    """Minimum share of a latent's summed mean activation that its own topic has."""
    label_frequency: float
    """Minimum share of its topic's tokens on which a topic latent is active."""
    label_direction: float
    """Minimum cosine between a topic latent's decoder row and the topic's mean difference."""
    label_boost: float
    """Boost, in residual norms, under which the model must write about the latent's topic."""
    label_prompts: int
    label_effect: float
    """Minimum share of content words on its topic that it must reach under that boost."""
    label_most: int
    """Maximum number of topic latents of a topic."""


class Recipe(_Settings):
    """All settings that determine an organism."""

    name: str
    seed: int
    model: ModelSettings
    examples: ExampleSettings
    training: TrainingSettings
    sae: SaeSettings

    @classmethod
    def read(cls, path: Path) -> "Recipe":
        """Read recipe.yaml; unknown and missing keys raise `pydantic.ValidationError`."""
        return cls.model_validate(read_yaml(path))

"""Synthetic latents with known thresholds, for benchmarks and tests.

The mean first-attempt score (here on 0-1) of latent i on prompt j at boost b is

    m_ij(b) = floor + (ceiling - floor) * g(a + e_ij - (b - t_i) / w_i),    e_ij ~ N(0, effects^2),

with g the logistic function, or the normal distribution function for a cliff. A score is
100 x a Beta(k m, k (1 - m)) draw; with a small k, scores pile up at both
ends, like those of judges.
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int
from scipy.special import expit, logit, ndtr

from esr.config import ThresholdPriorConfig


@dataclass(frozen=True)
class SimulationSpec:
    """How synthetic latents are drawn; boosts in raw decoder units."""

    prior: ThresholdPriorConfig = field(
        default_factory=lambda: ThresholdPriorConfig(upper=50, mean=10, sd=10)
    )
    """Prior that the finder receives; it may be wrong."""
    target: float = 30
    """Points."""
    median: float = 10
    """Median of the log-normal thresholds (before prompt effects)."""
    spread: float = 0.5
    """Standard deviation of log threshold."""
    width: float = 0.1
    """Median of the log-normal widths (spread 0.5), as a fraction of the threshold."""
    effects: float = 0.8
    """Standard deviation of prompt effects, in logits."""
    concentration: float = 2
    """k of the Beta noise; 0 means that every score is 0 or 100."""
    floor: float = 0.03
    ceiling: float = 0.92
    cliff: bool = False
    """Whether curves fall as the normal distribution function, with its light tails."""
    n_prompts: int = 38


class SimulatedLatents:
    """Latents drawn from a specification, with scores of their responses."""

    def __init__(self, spec: SimulationSpec, n_latents: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.spec = spec
        self.n_latents = n_latents
        self._rng = rng
        self.centre = spec.median * np.exp(spec.spread * rng.standard_normal(n_latents))
        relative = spec.width * np.exp(0.5 * rng.standard_normal(n_latents))
        self.width = self.centre * relative
        self.effects = spec.effects * rng.standard_normal((n_latents, spec.n_prompts))
        order = np.tile(np.arange(spec.n_prompts), (n_latents, 1))
        self._order = rng.permuted(order, axis=1)
        self._n_drawn = np.zeros(n_latents, dtype=int)

    def _curve(
        self,
        which: Int[np.ndarray, " m"],
        boosts: Float[np.ndarray, "m samples"],
        effects: Float[np.ndarray, "m samples"],
    ) -> Float[np.ndarray, "m samples"]:
        spec = self.spec
        at = which[:, None]
        scale = spec.ceiling - spec.floor
        offset = logit((spec.target / 100 - spec.floor) / scale)
        latent_part = offset - (boosts - self.centre[at]) / self.width[at]
        g = ndtr if spec.cliff else expit
        return spec.floor + scale * g(latent_part + effects)

    def mean_score(self, boosts: Float[np.ndarray, " latents"]) -> Float[np.ndarray, " latents"]:
        """True mean score (0-100), over all prompts, of every latent at its own boost."""
        which = np.arange(self.n_latents)
        grid = np.repeat(np.asarray(boosts, dtype=float)[:, None], self.spec.n_prompts, axis=1)
        return 100 * self._curve(which, grid, self.effects).mean(axis=1)

    @property
    def thresholds(self) -> Float[np.ndarray, " latents"]:
        """True thresholds: the boosts at which the mean score over all prompts is the target."""
        low = self.centre - 40 * self.width
        high = self.centre + 40 * self.width
        for _ in range(60):
            middle = (low + high) / 2
            above = self.mean_score(middle) >= self.spec.target
            low, high = np.where(above, middle, low), np.where(above, high, middle)
        return (low + high) / 2

    def scores(
        self, which: Int[np.ndarray, " m"], boosts: Float[np.ndarray, "m samples"]
    ) -> Float[np.ndarray, "m samples"]:
        """Draw scores (0-100), each on the next prompt of the latent's random order."""
        samples = boosts.shape[1]
        turn = (self._n_drawn[which][:, None] + np.arange(samples)) % self.spec.n_prompts
        self._n_drawn[which] += samples
        at = which[:, None]
        mean = self._curve(which, boosts, self.effects[at, self._order[at, turn]])
        return self.noisy(mean)

    def noisy(self, mean: Float[np.ndarray, "m samples"]) -> Float[np.ndarray, "m samples"]:
        """Scores (0-100) whose means are given (0-1)."""
        k = self.spec.concentration
        if k == 0:
            return 100.0 * (self._rng.random(mean.shape) < mean)
        return 100 * self._rng.beta(k * mean, k * (1 - mean))

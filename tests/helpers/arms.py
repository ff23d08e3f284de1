"""Synthetic arms of scores for figures."""

from typing import Any

from esr.config import RandomSets, StatisticsConfig
from helpers.scores import scores_of

FAST = StatisticsConfig(bootstrap=200)
RANDOM_SETS = {
    "ablate-random": RandomSets([f"ablate-random-{i}" for i in range(3)], ["steered", "ablate-otd"])
}
"""Random sets of the protocol."""

LATENTS, PER_LATENT = 12, 10


def arm(events: int, first: float = 40.0, latents: int = LATENTS, gain: float = 30.0) -> Any:
    """Scores in which `events` of the 10 trials of every latent have a second attempt."""
    again = [[first, first + gain]] * events + [[first]] * (PER_LATENT - events)
    return scores_of(again * latents, per_latent=PER_LATENT)

"""Thresholds: the boost at which a latent's first attempts score the target on average.

finder = open_finder(config.thresholds, config.models[name].threshold_prior, n_latents)
boosts = finder.propose(which)             # (m, samples)
finder.observe(which, boosts, scores)      # (m, samples), 0-100 or NaN
finder.estimate()                          # one row a latent
"""

from esr.config import ThresholdPriorConfig, ThresholdsConfig
from esr.thresholds.bisection import Bisection
from esr.thresholds.finder import ESTIMATE_COLUMNS, Status, ThresholdFinder
from esr.thresholds.history import History
from esr.thresholds.logistic import Logistic

__all__ = [
    "ESTIMATE_COLUMNS",
    "Bisection",
    "History",
    "Logistic",
    "Status",
    "ThresholdFinder",
    "open_finder",
]


def open_finder(
    settings: ThresholdsConfig, prior: ThresholdPriorConfig, n_latents: int
) -> ThresholdFinder:
    """Create the finder that a configuration names.

    The logistic method learns the widths of curves from all latents of a model together.

    Args:
        settings: Section `thresholds`. `max_widenings` applies to the logistic method; bisection
            keeps its bounds, as the paper did.
        prior: Bounds, mean and standard deviation of the model's thresholds (boosts).
        n_latents: Number of latents, addressed by position.
    """
    if settings.method == "bisection":
        return Bisection(
            target=settings.target,
            prior=prior,
            n_latents=n_latents,
            samples=settings.samples_per_step,
        )
    return Logistic(
        target=settings.target,
        prior=prior,
        n_latents=n_latents,
        samples=settings.samples_per_step,
        max_widenings=settings.max_widenings,
    )

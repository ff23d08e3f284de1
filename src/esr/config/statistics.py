"""Intervals and tests."""

from esr.config.section import Section, Seed, key


class StatisticsConfig(Section):
    """How intervals are computed."""

    level: float = key(0.95, "Nominal coverage of every interval.", ge=0.5, lt=1)
    bootstrap: int = key(4000, "Resamples of the latent-clustered bootstrap.", ge=20, le=1_000_000)
    seed: Seed = key(45, "Seed of bootstrap and permutation tests.")

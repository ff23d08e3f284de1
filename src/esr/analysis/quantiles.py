"""Distributions of simulated studies: scores, and rates of latents and prompts by quantile."""

from functools import lru_cache

import numpy as np
from jaxtyping import Float
from scipy import optimize, special, stats

Numbers = Float[np.ndarray, " trials"]

GRID = 2001
"""Quantiles at which the beta distribution is tabulated."""
NODES = 40
"""Of the quadrature over normal log-odds: exact to 1e-10 up to a standard deviation of 1."""


def draw_scores(mean: Numbers, chance: Numbers) -> Numbers:
    """Scores with these means, U-shaped: low or high, each uniform in its half of the scale."""
    low = np.clip((75 - mean) / 50, 0, 1)
    level = np.where(
        chance < low, chance / np.maximum(low, 1e-9), (chance - low) / (1 - low + 1e-9)
    )
    inner = np.where(chance < low, 50 * level, 50 + 50 * level)
    # Beyond 25 and 75 all scores lie in one half, which shrinks towards the end of the scale.
    found = np.where(
        mean < 25, 2 * mean * level, np.where(mean > 75, 100 - 2 * (100 - mean) * level, inner)
    )
    return np.clip(found, 0, 100)  # a mean of 0 may come out as -1e-15


def mean_beta(mean: float, chance: Numbers) -> Numbers:
    """Variable in [0, 1] with this mean: power of a uniform one, u^(1 / mean - 1)."""
    clipped = min(max(mean, 1e-6), 1 - 1e-6)
    return chance ** (1 / clipped - 1)


def beta_quantile(rate: float, rho: float, at: np.ndarray, once: bool = False) -> np.ndarray:
    """Rates of latents at these quantiles: beta with this mean and intra-latent correlation.

    Args:
        rate: Mean.
        rho: Intra-latent correlation.
        at: Quantiles.
        once: Whether no other call has this mean: then no whole table is made for it.
    """
    if rho == 0 or rate in (0, 1):
        return np.full(len(at), float(rate))
    scale = (1 - rho) / rho
    return _tabulated(stats.beta, (rate * scale, (1 - rate) * scale), at, once)


def gamma_quantile(spread: float, at: np.ndarray, once: bool = False) -> np.ndarray:
    """Factors of prompts at these quantiles: gamma with mean 1 and this variance; else as above."""
    return _tabulated(stats.gamma, (1 / spread, 0, spread), at, once)


def _tabulated(
    family: stats.rv_continuous, parameters: tuple[float, ...], at: np.ndarray, once: bool
) -> np.ndarray:
    """Quantiles between those of the grid, with a table of all of it or of the nearest alone."""
    if not once:
        return np.interp(at, _grid(), _table(family, parameters))
    after = np.searchsorted(_grid(), at).clip(1, GRID - 1)
    nearest = _grid()[np.union1d(after - 1, after)]
    return np.interp(at, nearest, family.ppf(nearest, *parameters))


@lru_cache(maxsize=512)
def _table(
    family: stats.rv_continuous, parameters: tuple[float, ...]
) -> Float[np.ndarray, " grid"]:
    return family.ppf(_grid(), *parameters)


def logit_normal(mean: float, spread: float, at: float) -> float:
    """One of `logit_normals`."""
    return float(logit_normals(mean, spread, np.array(at)))


def logit_normals(
    mean: float, spread: float, at: Float[np.ndarray, "*rates"]
) -> Float[np.ndarray, "*rates"]:
    """Rates with normal log-odds.

    Args:
        mean: Of the rates, a fraction; their median differs from it.
        spread: Standard deviation of the log-odds.
        at: Distances from the mean log-odds, in standard deviations.
    """
    if spread == 0 or mean in (0, 1):
        return np.full(at.shape, float(mean))
    return np.asarray(special.expit(_mean_log_odds(mean, spread) + spread * at))


@lru_cache(maxsize=256)
def _mean_log_odds(mean: float, spread: float) -> float:
    """Mean log-odds of rates with this mean, by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    weights = weights / weights.sum()

    def beyond(centre: float) -> float:
        return float(weights @ special.expit(centre + spread * nodes)) - mean

    middle, far = float(special.logit(mean)), spread**2 + 1  # |ln of a mean over median| < spread^2
    return float(optimize.brentq(beyond, middle - far, middle + far))


@lru_cache(maxsize=1)
def _grid() -> Float[np.ndarray, " grid"]:
    """Quantiles, denser towards the upper end, where rare events have their clusters."""
    u = np.linspace(0, 1, GRID)
    return np.clip(1 - (1 - u) ** 3, 0, 1 - 1e-9)

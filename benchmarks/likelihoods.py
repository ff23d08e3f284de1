"""Does a likelihood of the scores beat the quasi-likelihood of `logistic`? Makes likelihoods.csv.

    uv run python benchmarks/likelihoods.py

The finder searches latents of the main world of `benchmarks/thresholds.py`, one sample a step, 20
scores each. Then thresholds are estimated again from the same scores, with the true priors of
thresholds and widths, and with the likelihood of that world: a Beta distribution about a curve with
a random effect of the prompt. Its concentration k and the effects' standard deviation (logits) are
given: the true ones (2, 0.8) or others.

Columns of the CSV: `concentration`, `effects` (missing: the finder itself), `error` (mean
|true mean score at the threshold - target|, points), `gain` and `gain_se` (its difference from the
finder's on the same scores, points).
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.special import betainc, expit, logit

from esr.config import ThresholdsConfig
from esr.thresholds import open_finder
from esr.thresholds.simulation import SimulatedLatents, SimulationSpec

log = logging.getLogger(__name__)

CSV = Path(__file__).parent / "likelihoods.csv"
WORLD = SimulationSpec()
LATENTS, SCORES, SEEDS = 600, 20, (5, 6)
CASES = [(2.0, 0.8), (1.0, 0.8), (4.0, 0.8), (2.0, 0.0), (2.0, 1.3)]
BINS = np.array([0, 0.025, 0.15, 0.3, 0.5, 0.7, 0.85, 0.975, 1])
"""Scores count by bin, since a density has no value at 0 and 1."""
Z = np.linspace(-25, 25, 1501)
"""Distance of a boost from the centre of a curve, in its widths."""
CENTRES = np.geomspace(1.5, 60, 420)
NORMAL = np.linspace(-2.5, 2.5, 13)
RATIOS = WORLD.width * np.exp(0.5 * NORMAL)
CANDIDATES = 60


def likelihood(
    concentration: float, effects: float
) -> tuple[Float[np.ndarray, "bins z"], Float[np.ndarray, " z"]]:
    """Log probability of each bin of scores, and mean score (0-1), along `Z`."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(11)
    scale = WORLD.ceiling - WORLD.floor
    offset = logit((WORLD.target / 100 - WORLD.floor) / scale)
    mean = WORLD.floor + scale * expit(offset - Z + effects * nodes[:, None])
    a, b = concentration * mean, concentration * (1 - mean)
    cdf = np.stack([betainc(a, b, edge) for edge in BINS])
    weights = (weights / weights.sum())[:, None]
    return np.log(np.maximum((weights * np.diff(cdf, axis=0)).sum(1), 1e-9)), (weights * mean).sum(
        0
    )


def estimate(
    boosts: Float[np.ndarray, " n"],
    scores: Float[np.ndarray, " n"],
    log_bins: Float[np.ndarray, "bins z"],
    mean: Float[np.ndarray, " z"],
) -> float:
    """Boost with the smallest expected squared distance from the target, given scores (0-1)."""
    width = CENTRES[:, None] * RATIOS
    z = (boosts[:, None, None] - CENTRES[:, None]) / width
    at = np.clip(np.rint((z - Z[0]) / (Z[1] - Z[0])).astype(int), 0, Z.size - 1)
    bins = np.clip(np.digitize(scores, BINS) - 1, 0, len(BINS) - 2)
    prior = -0.5 * (np.log(CENTRES / WORLD.median) / WORLD.spread) ** 2
    log_posterior = log_bins[bins[:, None, None], at].sum(0) + prior[:, None] - 0.5 * NORMAL**2
    posterior = np.exp(log_posterior - log_posterior.max())
    posterior /= posterior.sum()
    low, high = np.searchsorted(posterior.sum(1).cumsum(), [0.02, 0.98])
    high = min(high + 1, CENTRES.size - 1)
    candidates = np.linspace(float(CENTRES[low]), float(CENTRES[high]), CANDIDATES)
    found = np.interp((candidates[:, None, None] - CENTRES[:, None]) / width, Z, mean)
    loss = ((found - WORLD.target / 100) ** 2 * posterior).sum((1, 2))
    return float(candidates[loss.argmin()])


def errors_of(seed: int) -> dict[tuple[float, float], Float[np.ndarray, " latents"]]:
    """Error of each latent, by concentration and effects; NaN names the finder."""
    latents = SimulatedLatents(WORLD, LATENTS, seed)
    settings = ThresholdsConfig(target=WORLD.target, steps=SCORES, samples_per_step=1)
    finder = open_finder(settings, WORLD.prior, LATENTS)
    which = np.arange(LATENTS)
    for _ in range(SCORES):
        boosts = finder.propose(which)
        finder.observe(which, boosts, latents.scores(which, boosts))
    boosts, scores = finder.history.samples(which)
    found = {(np.nan, np.nan): finder.estimate()["threshold"].fillna(WORLD.median).to_numpy()}
    for case in CASES:
        tables = likelihood(*case)
        pairs = zip(boosts, scores / 100, strict=True)
        found[case] = np.array([estimate(b, s, *tables) for b, s in pairs])
        log.info("seed %d: %s", seed, case)
    return {case: np.abs(latents.mean_score(one) - WORLD.target) for case, one in found.items()}


def main() -> None:
    """Write the table."""
    seeds = [errors_of(seed) for seed in SEEDS]
    pooled = {case: np.concatenate([one[case] for one in seeds]) for case in seeds[0]}
    base = next(iter(pooled.values()))
    rows: list[dict[str, Any]] = []
    for (concentration, effects), errors in pooled.items():
        gain = errors - base
        row = {"concentration": concentration, "effects": effects, "error": errors.mean()}
        rows.append(row | {"gain": gain.mean(), "gain_se": gain.std() / gain.size**0.5})
    pd.DataFrame(rows).to_csv(CSV, index=False, float_format="%.3g")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()

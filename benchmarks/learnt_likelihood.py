"""Does a Beta likelihood with a learnt concentration hold in every world? Makes a CSV and a table.

    uv run python benchmarks/learnt_likelihood.py

The finder searches latents of every world of `benchmarks/thresholds.py`, one sample a step. Then
thresholds are estimated again from the same scores and on the same grids, with a Beta likelihood
in place of the quasi-likelihood, and again with its logarithm divided by `TEMPER`. Its
concentration is the one under which the scores of all latents are most probable. Thresholds and
widths have the finder's own priors, and widths are learnt again.
Two further worlds have scores that follow no Beta distribution: the mean of two verdicts (0, 50 or
100), and half of the scores 0 or 100, the other half close to the mean.

Columns of learnt_likelihood.csv: `world`, `n` (scores a latent), `latents`, `concentration`
(learnt), and of the finder, and with the prefixes `beta_` and `tempered_`: `error` (mean |true mean
score at the threshold - target|, points), `threshold` and `score` (share of nominal 90 % intervals
that hold the true threshold and the true score, %). `gain` and `tempered_gain` are differences of
errors from the finder's on the same latents; `gain_se` and `tempered_gain_se` are their standard
errors.
"""

import importlib.util
import logging
import sys
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.special import betainc

from esr.config import ThresholdsConfig
from esr.thresholds import open_finder
from esr.thresholds.logistic import Logistic
from esr.thresholds.simulation import SimulatedLatents, SimulationSpec

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
CSV = HERE / "learnt_likelihood.csv"
LATENTS, COUNTS, SEED = 200, (20, 50), 30_000
TEMPER = 1.5
"""What the log likelihood is divided by in the third estimate, to widen its intervals."""
CONCENTRATIONS = np.geomspace(0.125, 16, 8)
EDGES = np.array([0, *np.arange(0.025, 1, 0.05), 1])
"""Scores count by bin, since a density has no value at 0 and 1."""
MEANS = np.linspace(0.005, 0.995, 199)


class TwoVerdicts(SimulatedLatents):
    """Scores are the mean of two verdicts of 0 or 100."""

    def noisy(self, mean: Float[np.ndarray, "m samples"]) -> Float[np.ndarray, "m samples"]:
        """Scores (0-100) with such means (0-1)."""
        return 50.0 * (self._rng.random((2, *mean.shape)) < mean).sum(0)


class Mixed(SimulatedLatents):
    """Half of the scores are 0 or 100, the other half close to the mean."""

    def noisy(self, mean: Float[np.ndarray, "m samples"]) -> Float[np.ndarray, "m samples"]:
        """Scores (0-100) with such means (0-1)."""
        close = self._rng.beta(20 * mean, 20 * (1 - mean))
        sharp = self._rng.random(mean.shape) < mean
        return 100 * np.where(self._rng.random(mean.shape) < 0.5, close, sharp)


@lru_cache
def log_bins(concentration: float) -> Float[np.ndarray, "bins means"]:
    """Log probability of each bin of scores under a Beta distribution, by its mean."""
    a, b = concentration * MEANS, concentration * (1 - MEANS)
    cdf = np.stack([betainc(a, b, edge) for edge in EDGES])
    return np.log(np.maximum(np.diff(cdf, axis=0), 1e-12))


def log_likelihood(
    finder: Logistic, which: Int[np.ndarray, " m"], concentration: float
) -> Float[np.ndarray, "m cells widths"]:
    """Log likelihood of the scores of latents under every curve of their windows."""
    table = log_bins(concentration)
    thresholds = finder.grid.thresholds(which)
    boosts, scores = finder.history.samples(which)
    found = np.zeros((len(which), thresholds.shape[1], finder.grid.curves.widths.size))
    for boost, score in zip(boosts.T, scores.T / 100, strict=True):
        mean = finder.grid.curves.mean(np.nan_to_num(boost), thresholds)
        at = np.rint((mean - MEANS[0]) / (MEANS[1] - MEANS[0])).astype(np.int32)
        bins = np.clip(np.digitize(np.nan_to_num(score), EDGES) - 1, 0, len(EDGES) - 2)
        valid = ~np.isnan(score)[:, None, None]
        found += np.where(valid, table[bins[:, None, None], at.clip(0, len(MEANS) - 1)], 0)
    return found


def adopt(finder: Logistic) -> float:
    """Replace the finder's likelihood by the most probable Beta likelihood; its concentration."""
    grid, which = finder.grid, np.arange(finder.n_latents)
    grid.dispersion = 1.0
    best: tuple[float, float, Any] | None = None
    for concentration in CONCENTRATIONS:
        grid._log_likelihood = log_likelihood(finder, which, float(concentration))
        log_joint = grid._log_likelihood + grid._log_mass(which)
        ratio = grid.curves.log_ratio(grid.thresholds(which))
        log_joint += grid.width_prior(1.0).log_prior(ratio)
        top = log_joint.max(axis=(1, 2), keepdims=True)
        evidence = float((np.log(np.exp(log_joint - top).sum((1, 2))) + top[:, 0, 0]).sum())
        if best is None or evidence > best[0]:
            best = evidence, float(concentration), grid._log_likelihood
    assert best is not None
    grid._log_likelihood = best[2]
    return best[1]


def finders() -> ModuleType:
    """`benchmarks/thresholds.py`."""
    spec = importlib.util.spec_from_file_location("finders", HERE / "thresholds.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def worlds() -> dict[str, tuple[type[SimulatedLatents], SimulationSpec]]:
    """Worlds by name: those of `benchmarks/thresholds.py`, and two whose scores are not Beta."""
    found = {name: (SimulatedLatents, one) for name, one in finders().WORLDS.items()}
    own = {"the mean of two verdicts": TwoVerdicts, "sharp or close": Mixed}
    return found | {name: (kind, SimulationSpec()) for name, kind in own.items()}


def assess(finder: Logistic, latents: SimulatedLatents, truth: Any) -> pd.DataFrame:
    """One row a latent: error, and whether the intervals hold the truth."""
    found = finder.estimate()
    beyond = found["low"] + found["high"] > found["lower"] + found["upper"]
    bound = found["upper"].where(beyond, found["lower"])
    score = latents.mean_score(found["threshold"].fillna(bound).to_numpy())
    usable = found["threshold"].notna()
    held = found["predicted_low"].le(score) & found["predicted_high"].ge(score)
    return pd.DataFrame(
        {
            "error": np.abs(score - latents.spec.target),
            "threshold": found["low"].le(truth) & found["high"].ge(truth),
            "score": held.where(usable).astype(float),
        }
    )


def compare(name: str, seed: int) -> list[dict[str, Any]]:
    """Both estimates for fresh latents of a world; one row a latent and number of scores."""
    kind, spec = worlds()[name]
    settings = ThresholdsConfig(target=spec.target, steps=max(COUNTS), samples_per_step=1)
    latents = kind(spec, LATENTS, seed)
    finder = open_finder(settings, spec.prior, LATENTS)
    which, truth, rows = np.arange(LATENTS), latents.thresholds, []
    for count in range(1, max(COUNTS) + 1):
        boosts = finder.propose(which)
        finder.observe(which, boosts, latents.scores(which, boosts))
        if count not in COUNTS:
            continue
        other = deepcopy(finder)
        assert isinstance(other, Logistic)
        base = assess(other, latents, truth)
        concentration = adopt(other)
        both = base.join(assess(other, latents, truth).add_prefix("beta_"))
        other.grid.dispersion = TEMPER
        both = both.join(assess(other, latents, truth).add_prefix("tempered_"))
        both = both.assign(world=name, n=count, concentration=concentration)
        log.info("%s, seed %d: %s", name, seed, both.mean(numeric_only=True).round(3).to_dict())
        rows += both.to_dict("records")
    return rows


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a world and number of scores."""
    rows = rows.assign(gain=rows["beta_error"] - rows["error"])
    rows = rows.assign(tempered_gain=rows["tempered_error"] - rows["error"])
    found = rows.groupby(["world", "n"], sort=False)
    means = found.mean(numeric_only=True)
    shares = [name for name in means if name.endswith(("threshold", "score"))]
    means[shares] *= 100
    for gain in ("gain", "tempered_gain"):
        means[f"{gain}_se"] = found[gain].sem()
    means.insert(0, "latents", found.size())
    return means.reset_index()


def tabulate(results: pd.DataFrame) -> str:
    """Markdown table: errors and the coverage of both intervals, by world and number of scores."""
    lines = [
        "| world | N | k | `logistic` | Beta | Beta, tempered | `logistic` holds | Beta holds "
        "| tempered holds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in results.sort_values("n", kind="stable").to_dict("records"):
        cells = [f"{row['concentration']:.2g}", f"{row['error']:.1f}"]
        for name, gain in (("beta", "gain"), ("tempered", "tempered_gain")):
            change = f"{row[gain]:+.1f} ± {row[f'{gain}_se']:.1f}"
            cells.append(f"{row[f'{name}_error']:.1f} ({change})")
        for name in ("", "beta_", "tempered_"):
            cells.append(f"{row[f'{name}threshold']:.0f} / {row[f'{name}score']:.0f} %")
        lines.append(f"| {row['world']} | {row['n']:.0f} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Write the CSV, and the table of the document."""
    repeats = int(sys.argv[1]) if sys.argv[1:] else 2
    rows = [row for i in range(repeats) for name in worlds() for row in compare(name, SEED + i)]
    summarise(pd.DataFrame(rows)).to_csv(CSV, index=False, float_format="%.3g")
    other = finders()
    text = other.fill(other.DOC.read_text(), "likelihood", tabulate(pd.read_csv(CSV)))
    other.DOC.write_text(text)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()

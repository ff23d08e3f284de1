"""Coverage of 95 % intervals, simulated; makes coverage.csv and coverage_summary.csv.

    uv run python benchmarks/coverage.py [studies]

Designs that coverage.csv has are kept: delete the file to simulate all of them again. Most of those
with a rate of 2 %, or 500 latents, have the reported methods alone there.

coverage.csv has one row a design, truth, quantity and method: `latents`, `trials` (a latent),
`prompts`, `rate` (of restarts, %), `rho` (intra-latent correlation), `rho_prompt`, `quantity`,
`method`, `truth` (percent or points), `studies` (with an interval), `coverage` (% of them), `below`
and `above` (% of intervals that end too low, or too high), `width` (median, unit of the quantity).
coverage_summary.csv has, by quantity and method, the lowest coverage, the number of cells below
92 %, and the mean width. A design's truth is its mean over 100 studies of
2,000 latents.
"""

import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import stats

from esr.analysis import statistics as es
from esr.analysis.simulation import draw_arm, draw_design
from esr.analysis.specs import ArmSpec, StudySpec
from esr.analysis.statistics.contrasts import Quantity, crossed_contrast, crossed_interval
from esr.analysis.statistics.crossed import (
    crossed_mean,
    crossed_rate,
    influence_correlation,
    mixture_mean,
    mover_difference,
)

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
LEVEL = 0.95
BOOT = 300
DESIGNS = [(8, 5, 38), (8, 20, 38), (20, 16, 24), (36, 16, 24), (50, 5, 38), (500, 5, 38)]
RATES = [0.01, 0.04]
MIDDLE_RATE = 0.02
CORRELATIONS = [0.0, 0.1, 0.25]
PROMPT_CORRELATIONS = [0.0, 0.02]
HEAD = ["latents", "trials", "prompts", "rate", "rho", "rho_prompt"]
FOUND = ["quantity", "method", "truth", "studies", "coverage", "below", "above", "width"]
EFFECT = 0.5
"""Rate of the second arm over that of the first."""

Values = Float[np.ndarray, " trials"]
Ends = es.Interval


class Trials(NamedTuple):
    """Two paired arms: values of each quantity, and the factors."""

    multi: tuple[Values, Values]
    change: tuple[Values, Values]
    first: tuple[Values, Values]
    latent: np.ndarray
    prompt: np.ndarray


def draw(spec: StudySpec, seed: int | list[int]) -> Trials:
    """One study, without a judge's errors."""
    rng = np.random.default_rng(seed)
    design = draw_design(spec, rng)
    arms = [draw_arm(spec, arm, design, rng) for arm in spec.arms]
    multi = tuple(100.0 * arm.multi for arm in arms)
    change = tuple(arm.last - arm.first for arm in arms)
    first = tuple(arm.first for arm in arms)
    return Trials(multi, change, first, design.latent, design.prompt)  # pyrefly: ignore[bad-argument-type]


def truths(spec: StudySpec) -> dict[str, float]:
    """What the quantities are on average over latents and prompts."""
    large = replace(spec, latents=2000)
    found = [draw(large, [7, i]) for i in range(100)]
    mean = {
        name: np.mean([[arm.mean() for arm in getattr(one, name)] for one in found], axis=0)
        for name in ("multi", "change", "first")
    }
    success = [np.mean(t.change[0][t.multi[0] > 0] > 0) for t in found]
    return {
        "rate": mean["multi"][0],
        "msi": mean["change"][0],
        "first score": mean["first"][0],
        "success rate": 100 * float(np.mean(success)),
        "rate difference": mean["multi"][1] - mean["multi"][0],
        "msi difference": mean["change"][1] - mean["change"][0],
        "first score difference": mean["first"][1] - mean["first"][0],
        "rate change %": 100 * (mean["multi"][1] / mean["multi"][0] - 1),
        "msi change %": 100 * (mean["change"][1] / mean["change"][0] - 1),
    }


# One arm
def percentile(values: Values, latent: np.ndarray, lowest: float, highest: float) -> Ends:
    """The bootstrap over latents with percentile ends: reported before this benchmark."""
    factor = es.resample(latent, BOOT, 0)
    return es.resampled_mean(values, [factor], lowest, highest).interval


def bca(values: Values, latent: np.ndarray) -> Ends:
    """Bias-corrected and accelerated (Efron 1987), jackknife over latents."""
    sums = es.cluster_sums(values, *es.cluster_codes(latent))
    replicates = es.ratio(es.bootstrap_weights(len(sums), BOOT, np.random.default_rng(0)) @ sums)
    replicates = replicates[~np.isnan(replicates)]
    point = float(es.ratio(sums.sum(axis=0)))
    below = np.mean(replicates < point) + np.mean(replicates == point) / 2
    if not 0 < below < 1:
        return es.NO_INTERVAL
    shift = stats.norm.ppf(below)
    left_out = es.ratio(sums.sum(axis=0) - sums)
    spread = np.nan_to_num(np.nanmean(left_out) - left_out)
    if not (spread**2).sum() > 0:
        return es.NO_INTERVAL
    bend = (spread**3).sum() / (6 * (spread**2).sum() ** 1.5)
    moved = shift + stats.norm.ppf([(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    low, high = np.quantile(replicates, stats.norm.cdf(shift + moved / (1 - bend * moved)))
    return es.Interval(float(low), float(high))


def bootstrap_t(values: Values, latent: np.ndarray) -> Ends:
    """Studentised bootstrap over latents (Efron 1979); undefined replicates are left out."""
    sums = es.cluster_sums(values, *es.cluster_codes(latent))
    weights = es.bootstrap_weights(len(sums), BOOT, np.random.default_rng(0))
    point = float(es.ratio(sums.sum(axis=0)))
    means = es.ratio(weights @ sums)
    error = np.nan_to_num(np.sqrt(_robust(weights, sums, means)))
    own = float(np.sqrt(_robust(np.ones((1, len(sums))), sums, np.array([point])))[0])
    student = (means - point)[error > 0] / error[error > 0]
    if own == 0 or len(student) < BOOT / 2:
        return es.NO_INTERVAL
    low, high = np.quantile(student, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return es.Interval(point - high * own, point - low * own)


def _robust(weights: np.ndarray, sums: np.ndarray, means: np.ndarray) -> np.ndarray:
    residuals = sums[:, 0] - means[:, None] * sums[:, 1]
    return (weights * residuals**2).sum(axis=1) / np.maximum(weights @ sums[:, 1], 1e-9) ** 2


def two_way(values: Values, latent: np.ndarray, prompt: np.ndarray) -> Ends:
    """Pigeonhole bootstrap of latents and prompts (Owen 2007)."""
    factors = [es.resample(latent, BOOT, 0), es.resample(prompt, BOOT, 1)]
    return es.resampled_mean(values, factors, 0, 100).interval


def one_arm(trials: Trials) -> Iterator[tuple[str, str, Ends]]:
    """Quantity, method and interval."""
    both = [trials.latent, trials.prompt]
    multi, change, first = trials.multi[0], trials.change[0], trials.first[0]
    won = np.where(multi > 0, 100.0 * (change > 0), np.nan)
    for name, values, low in (
        ("rate", multi, 0.0),
        ("msi", change, -100.0),
        ("first score", first, 0.0),
        ("success rate", won, 0.0),
    ):
        yield name, "percentile", percentile(values, trials.latent, low, 100)
        if name in ("rate", "msi") and np.ptp(values) > 0:
            yield name, "bca", bca(values, trials.latent)
        if name == "rate" and np.ptp(values) > 0:
            yield name, "bootstrap-t", bootstrap_t(values, trials.latent)
        if name in ("rate", "first score"):
            yield name, "two-way bootstrap", two_way(values, trials.latent, trials.prompt)
    for name, values in (("rate", multi), ("success rate", won)):
        k, n = np.nansum(values) / 100, int(np.isfinite(values).sum())
        yield name, "wilson, trials", es.wilson(k, n).scaled(100)
        for method, factors in (("wilson, latents", both[:1]), ("wilson, crossed", both)):
            yield name, method, crossed_rate(values / 100, factors).interval.scaled(100)
    for method, factors in (("t, latents", both[:1]), ("t, crossed", both)):
        yield "first score", method, crossed_mean(first, factors, 0, 100).interval
        yield "msi", method, crossed_mean(change, factors, -100, 100).interval
    yield "msi", "mixture, crossed", mixture_mean(change, both, 0, -100, 100).interval


# Two arms
def bootstrapped(pair: tuple[Values, Values], latent: np.ndarray, span: float) -> tuple[Ends, Ends]:
    """Difference and relative change (%) by the paired percentile bootstrap over latents."""
    codes = es.cluster_codes(latent)
    first, second = (es.cluster_sums(values, *codes) for values in pair)
    contrast = es.paired_contrast(first, second, span, n_boot=BOOT, n_permutations=1)
    return contrast.difference, contrast.relative.scaled(100)


def student(pair: tuple[Values, Values], factors: list[np.ndarray]) -> Ends:
    """Student's interval of the mean difference with the crossed standard error."""
    return crossed_mean(pair[1] - pair[0], factors).interval


def mover(pair: tuple[Values, Values], factors: list[np.ndarray], quantity: Quantity) -> Ends:
    """Difference from the intervals of both arms and their correlation."""
    ends = [crossed_interval(arm, factors, quantity).interval for arm in pair]
    means = [float(arm.mean()) for arm in pair]
    related = influence_correlation(*pair, factors)
    return mover_difference(means[0], ends[0], means[1], ends[1], related)


def two_arms(trials: Trials) -> Iterator[tuple[str, str, Ends]]:
    """Quantity, method and interval."""
    both = [trials.latent, trials.prompt]
    for name, pair, quantity in (
        ("rate", trials.multi, Quantity("rate", 0, 100)),
        ("msi", trials.change, Quantity("mixture", -100, 100)),
        ("first score", trials.first, Quantity("mean", 0, 100)),
    ):
        span = quantity.highest - quantity.lowest
        difference, relative = bootstrapped(pair, trials.latent, span)
        found = crossed_contrast(*pair, both, quantity)
        yield f"{name} difference", "percentile", difference
        if quantity.kind == "mean":
            yield f"{name} difference", "t, crossed", found.difference
            continue
        yield f"{name} difference", "t, crossed", student(pair, both)
        yield f"{name} difference", "mixture, crossed", found.difference
        yield f"{name} difference", "mover, crossed", mover(pair, both, quantity)
        yield f"{name} change %", "percentile", relative
        yield f"{name} change %", "mover, crossed", found.relative.scaled(100)


Method = Callable[[Trials], Iterator[tuple[str, str, Ends]]]


def cell(spec: StudySpec, studies: int, seed: int) -> pd.DataFrame:
    """Coverage of every quantity and method in one design."""
    truth = truths(spec)
    rows = []
    for study in range(studies):
        trials = draw(spec, [seed, study])
        for methods in (one_arm, two_arms):
            rows += [(name, how, *ends) for name, how, ends in methods(trials)]
    table = pd.DataFrame(rows, columns=["quantity", "method", "low", "high"]).dropna()
    table["truth"] = table["quantity"].map(truth)
    table["below"] = 100.0 * table["high"].lt(table["truth"] - 1e-9)
    table["above"] = 100.0 * table["low"].gt(table["truth"] + 1e-9)
    table["width"] = table["high"] - table["low"]
    by = table.groupby(["quantity", "method"], sort=False)
    found = by.agg(
        truth=("truth", "first"),
        studies=("low", "size"),
        below=("below", "mean"),
        above=("above", "mean"),
        width=("width", "median"),
    ).reset_index()
    return found.assign(coverage=100 - found["below"] - found["above"])


def benchmark(studies: int = 250, known: pd.DataFrame | None = None) -> pd.DataFrame:
    """Run every design that is not among the `known` results; these come first."""
    parts = [] if known is None else [known]
    done = set() if known is None else set(known[HEAD].itertuples(index=False, name=None))
    worlds = [
        *product(DESIGNS, RATES, CORRELATIONS, PROMPT_CORRELATIONS),
        *product(DESIGNS, [MIDDLE_RATE], CORRELATIONS, PROMPT_CORRELATIONS),
    ]
    for number, ((latents, trials, prompts), rate, rho, rho_prompt) in enumerate(worlds):
        place = (latents, trials, prompts, 100 * rate, rho, rho_prompt)
        if place in done:
            continue
        head = dict(zip(HEAD, place, strict=True))
        log.info("%s", head)
        spec = world(latents, trials, prompts, rate, rho, rho_prompt)
        found = cell(spec, studies, number).assign(**head).round(3)
        parts.append(found[[*HEAD, *FOUND]])
    return pd.concat(parts, ignore_index=True)


def world(
    latents: int, trials: int, prompts: int, rate: float, rho: float, rho_prompt: float
) -> StudySpec:
    """Two arms of which the second restarts half as often."""
    arm = ArmSpec(multi=rate)
    arms = {"first": arm, "second": replace(arm, multi=rate * EFFECT)}
    return StudySpec(latents, trials, prompts, arms, rho=rho, rho_prompt=rho_prompt, pairing=0.3)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """By quantity and method: lowest coverage, cells below 92 %, mean width."""
    sound = table[table["studies"] >= 100]
    by = sound.assign(low=sound["coverage"] < 92).groupby(["quantity", "method"], sort=False)
    found = by.agg(
        lowest=("coverage", "min"),
        mean=("coverage", "mean"),
        cells_below_92=("low", "sum"),
        cells=("low", "size"),
        width=("width", "mean"),
    )
    return found.round(2).reset_index()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    path = HERE / "coverage.csv"
    earlier = pd.read_csv(path) if path.exists() else None
    results = benchmark(int(sys.argv[1]) if sys.argv[1:] else 250, earlier)
    results.to_csv(path, index=False)
    summary(results).to_csv(HERE / "coverage_summary.csv", index=False)

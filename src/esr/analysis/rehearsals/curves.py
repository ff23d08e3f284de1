"""Claims about curves: over boosts of a sweep, shares of a fine-tuning, sizes of models.

No source gives a whole curve, so that its shape is assumed. Over boosts, the rate of restarts is a
bell of one standard deviation of the thresholds around its peak, and the first score falls from 70
to 10 (so that restarts can gain what they do elsewhere). Over shares, attempts rise in proportion
to the share, and the success rate is what makes the stated curve. Every share has the trainings of
the design (`finetune.seeds`), whose rates differ by `TRAINING_SD`: a study that trains each share
once decides none of these claims (`one_training`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from esr.analysis.rehearsals.base import (
    SETTINGS,
    Rehearsal,
    drawn_arms,
    drawn_table,
    of_sweep,
    places,
    sampled,
    with_sweep,
)
from esr.analysis.rows import peaks
from esr.analysis.scenarios import Truths
from esr.analysis.shares import share_peaks, share_trends
from esr.analysis.specs import ArmSpec, StudySpec
from esr.analysis.trends import size_trends, sweep_slopes

LEVELS = np.linspace(-1.5, 3, 8)
"""Boosts of a sweep, in standard deviations of the thresholds."""
WIDTH = 1.0
"""Standard deviation of the bell, in those of the thresholds."""
FIRST = np.linspace(70, 10, len(LEVELS))
"""First score by boost."""
HIGHEST = {"planted": 0.2, "llama-3.3-70b": 0.12}
"""Rate of restarts at the peak: that of the organism's sweep, and January's 1.15 attempts. The
published peak of 1 % has about 2 %; with six times as many events its place is fixed at best."""
TRAINING_SD = 0.1
"""Relative standard deviation of the rates of trainings of one share; assumed."""
SHARES = {"twin": (5, 30, 90)}
TENS = tuple(range(10, 100, 10))
SIZES = {"gemma-2-2b": 2.6, "llama-3.1-8b": 8.0, "gemma-2-9b": 9.2, "gemma-2-27b": 27.2}
SIZES |= {"llama-3.3-70b": 70.6}
"""Parameters, in 10^9."""

Arms = Mapping[int, ArmSpec]


def rehearse(claim: Mapping[str, Any], truths: Truths) -> Rehearsal | None:
    """The claim if it is about a peak, a slope or a rank correlation."""
    where = places(claim)
    kind = where.get("kind", [""])[0]
    statistic = where.get("statistic", [""])[0]
    if kind in ("peak", "sweep"):
        return _of_sweep(claim, where, truths)
    if kind == "share" and statistic in WORLDS:
        return _of_shares(claim, where, truths)
    if kind == "trend":
        return _of_sizes(claim, where, truths)
    return None


def _of_sweep(
    claim: Mapping[str, Any], where: Mapping[str, list[str]], truths: Truths
) -> Rehearsal:
    (kind,), (measure,), models = (where[name] for name in ("kind", "measure", "model"))
    found = claim["expected"] if claim["expected"] == claim["expected"] else 0.0

    def draw(spec: StudySpec, null: bool, number: int, second: bool = False) -> pd.DataFrame:
        design = replace(spec, latents=spec.sweep[0], trials=spec.sweep[1])
        cells = []
        for order, model in enumerate(models):
            at = claim["null"] if null and kind == "peak" else found
            arms = _bell(truths[model]["steered"], at, HIGHEST.get(model, 0.02))
            if null and kind == "sweep":
                arms = [replace(arm, first=50.0) for arm in arms]
            seed = [8, int(null), number, order]
            cells.append(drawn_table(design, arms, seed, sweep_level=LEVELS).assign(model=model))
        if second:
            graded = spec.sized(*spec.sweep, arms=len(LEVELS))
            cells = sampled(cells, graded, [8, int(null), number])
        scores = pd.concat(cells, ignore_index=True)
        if kind == "sweep":
            return sweep_slopes(scores, SETTINGS, [measure])
        return peaks(scores, [measure], SETTINGS).assign(kind=kind, model=models[0])

    slope = float(np.polyfit(LEVELS, FIRST, 1)[0])
    value = round(slope, 2) if kind == "sweep" else found
    return Rehearsal(claim, value, draw, of_sweep, with_sweep, graded=True)


def _bell(arm: ArmSpec, at: float, highest: float) -> list[ArmSpec]:
    """Arms of a sweep whose rate of restarts is highest at the level `at`."""
    rates = highest * np.exp(-0.5 * ((LEVELS - at) / WIDTH) ** 2)
    return [
        replace(arm, multi=float(rate), first=float(score))
        for rate, score in zip(rates, FIRST, strict=True)
    ]


def _curve(arm: ArmSpec, shares: Sequence[int], msi: Callable[[int], float]) -> Arms:
    """Arms by share with attempts in proportion to it, and this MSI."""
    rates = {share: share / 150 for share in shares}
    return {
        share: replace(
            arm,
            multi=rate,
            success=(msi(share) / rate + arm.loss) / (arm.gain + arm.loss),
        )
        for share, rate in rates.items()
    }


def _flat(arm: ArmSpec, shares: Sequence[int]) -> Arms:
    return {share: replace(arm, multi=0.3) for share in shares}


def _rising(arm: ArmSpec, shares: Sequence[int]) -> Arms:
    return {share: replace(arm, multi=share / 150) for share in shares}


def _level(arm: ArmSpec, shares: Sequence[int]) -> Arms:
    """Attempts rise up to a share of 50."""
    return {share: replace(arm, multi=min(share, 50) / 150) for share in shares}


def _dearer(arm: ArmSpec, shares: Sequence[int]) -> Arms:
    """The success rate rises by 5 percentage points per 10 points of share."""
    rising = _rising(arm, shares)
    return {n: replace(one, success=0.51 + 0.005 * (n - 50)) for n, one in rising.items()}


def _peaked(share: int, at: int) -> float:
    """MSI that is 3.4 points at a share and falls to 1.4 forty points away."""
    return 3.4 - abs(share - at) / 20


def _plateau(share: int, slope: float) -> float:
    """MSI that rises to 3.4 points at a share of 50, then by `slope` per 10 points."""
    return 3.4 * share / 50 if share < 50 else 3.4 + slope * (share - 50) / 10


WORLDS: Mapping[str, Mapping[str, tuple[Callable[..., Arms], Callable[..., Arms], float]]] = {
    "rank_correlation": {
        "mean_attempts": (_rising, _flat, 1.0),
        "multi_attempt_rate": (_rising, _flat, 1.0),
    },
    "slope": {"success_rate": (_rising, _dearer, 0.0)},
    "slope_upper": {
        "mean_attempts": (_rising, _level, 0.1),
        "msi": (
            partial(_curve, msi=partial(_plateau, slope=0.0)),
            partial(_curve, msi=partial(_plateau, slope=0.84)),
            0.0,
        ),
    },
    "peak": {
        "msi": (
            partial(_curve, msi=partial(_peaked, at=50)),
            partial(_curve, msi=partial(_peaked, at=90)),
            50.0,
        )
    },
}
"""Arms by share where the claim is true and under its null, and its value."""


def _of_shares(
    claim: Mapping[str, Any], where: Mapping[str, list[str]], truths: Truths
) -> Rehearsal:
    (base,), (measure,), (statistic,) = (where[key] for key in ("model", "measure", "statistic"))
    true, null_world, value = WORLDS[statistic][measure]
    shares = SHARES.get(base, TENS)
    tuned = next(arms["steered"] for name, arms in truths.items() if name.startswith(f"{base}+sc"))

    def draw(spec: StudySpec, null: bool, number: int, second: bool = False) -> pd.DataFrame:
        arms = (null_world if null else true)(tuned, shares)
        scores = _trained(spec, truths[base]["steered"], arms, [9, int(null), number], second)
        if statistic == "peak":
            table = share_peaks(scores, SETTINGS, [measure]).assign(statistic="peak")
        else:
            table = share_trends(scores, SETTINGS, [measure])
        return table.assign(kind="share", model=base)

    return Rehearsal(claim, value, draw, graded=True, trained=True)


def _trained(
    spec: StudySpec, base: ArmSpec, arms: Arms, seed: list[int], second: bool
) -> pd.DataFrame:
    """Scores of a base and its fine-tuned models, with the columns `share` and `training`."""
    rng = np.random.default_rng([*seed, 1])
    models = {(0, 0): base}
    for share, arm in arms.items():
        for training in range(1, spec.trainings + 1):
            factor = round(1 + TRAINING_SD * rng.standard_normal(), 1)  # few rates: drawn faster
            rate = arm.multi * factor
            models[share, training] = replace(arm, multi=float(np.clip(rate, 0, 0.95)))
    shares, trainings = zip(*models, strict=True)
    trained = list(models.values())
    return drawn_table(spec, trained, seed, second=second, share=shares, training=trainings)


def _of_sizes(
    claim: Mapping[str, Any], where: Mapping[str, list[str]], truths: Truths
) -> Rehearsal:
    """The effect of an arm is that of the largest model in it alone; under the null, in all."""
    (name,), (measure,) = where["arm"], where["measure"]
    treated = truths["llama-3.3-70b"][name]
    changes = [truths[model].get(name, truths[model]["steered"]) for model in SIZES]

    def draw(spec: StudySpec, null: bool, number: int, second: bool = False) -> pd.DataFrame:
        parts: dict[str, list[pd.DataFrame]] = {"steered": [], name: []}
        for order, (model, change) in enumerate(zip(SIZES, changes, strict=True)):
            both = {"steered": truths[model]["steered"], name: treated if null else change}
            seed = [10, int(null), number, order]
            cells = list(drawn_arms(spec, both, seed).values())
            cells = sampled(cells, spec, seed) if second else cells
            for arm, table in zip(both, cells, strict=True):
                parts[arm].append(table.assign(model=model))
        before, after = (pd.concat(each, ignore_index=True) for each in parts.values())
        return size_trends(before, after, SIZES, SETTINGS, [measure]).assign(arm=name)

    effects = [
        change.msi - truths[model]["steered"].msi
        for model, change in zip(SIZES, changes, strict=True)
    ]
    slope = float(np.polyfit(np.log10(list(SIZES.values())), effects, 1)[0])
    return Rehearsal(claim, round(slope, 2), draw, graded=True)

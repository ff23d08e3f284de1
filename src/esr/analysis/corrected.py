"""Rates corrected for the judge's error, from a second phase that another judge or a person grades.

The primary judge grades every trial of an arm; the reference grades a sample of it with known
weights (trials that each sampled one stands for). Three estimates beside the raw rate:

- `rogan_gladen`: (raw + specificity - 1) / (sensitivity + specificity - 1), errors from the arm's
  own sample (Rogan and Gladen 1978). It equals raw x PPV + (1 - raw) x FOR: the share flagged, the
  share of these that the reference confirms, and the share of the others that it finds (false
  omissions). Its interval adds the three errors (MOVER), each from its own clustered interval, so
  that a stratum without any event still has an error.
- `rogan_gladen_pooled`: sensitivity and specificity from all arms together. This ignores that
  errors differ between arms. No table has it; a test shows that its intervals cover too little.
- `prediction_powered`: mean of lambda f + w (y - lambda f), f by the primary, y by the reference on
  the sample with weight w (Angelopoulos et al. 2023, arXiv 2301.09633; lambda: PPI++, arXiv
  2311.01453). It also holds for scores.

The reference counts as the truth. Where it is a second judge and no person, this is a sensitivity
analysis; tables name it. Intervals hold for other latents and prompts, and contain the error of the
second phase. Lee et al. arXiv 2511.21140; Chen et al. arXiv 2601.05420.
"""

from typing import NamedTuple

import numpy as np

from esr.analysis.statistics import NO_INTERVAL, Interval
from esr.analysis.statistics.crossed import (
    Values,
    crossed_mean,
    crossed_rate,
    moment_wilson,
    mover_difference,
    mover_ratio,
    weighted_rate,
)
from esr.analysis.statistics.estimates import Estimate
from esr.analysis.two_phase import TwoPhase

FEW_POSITIVES = 5
"""Fewer trials that the reference flags do not fix a sensitivity: status `few_positives`."""


class Corrected(NamedTuple):
    """An estimate (fraction) with interval, status, and the influence of each trial on it."""

    value: float
    interval: Interval
    status: str
    influence: Values


class Errors(NamedTuple):
    """Sensitivity and specificity with their intervals."""

    sensitivity: float
    specificity: float
    sensitivity_interval: Estimate
    specificity_interval: Estimate


def judge_errors(phase: TwoPhase, level: float = 0.95) -> Errors:
    """Sensitivity and specificity of the primary judge against the reference, weighted."""
    found = []
    for truth, agreed in ((1, phase.primary), (0, 1 - phase.primary)):
        among = np.where(phase.sampled & (phase.reference == truth), agreed, np.nan)
        found.append(weighted_rate(among, phase.weights, phase.factors, level))
    (sensitivity, first), (specificity, second) = found
    return Errors(sensitivity, specificity, first, second)


def raw_rate(phase: TwoPhase, level: float = 0.95) -> Corrected:
    """What the primary judge finds."""
    interval, status = crossed_rate(phase.primary, phase.factors, level)
    value = _mean(phase.primary)
    return Corrected(value, interval, status, _spread(phase.primary, value))


def rogan_gladen(phase: TwoPhase, level: float = 0.95) -> Corrected:
    """Rate corrected by the errors in the arm's own sample: raw x PPV + (1 - raw) x FOR."""
    flagged = phase.primary
    raw, (raw_ends, status) = _mean(flagged), crossed_rate(flagged, phase.factors, level)
    parts = []
    for flag in (1, 0):
        among = np.where(phase.sampled & (flagged == flag), phase.reference, np.nan)
        share = raw if flag else 1 - raw
        if share == 0:  # no such trial: nothing to estimate, nothing to add
            parts.append((0.0, Interval(0.0, 0.0)))
            continue
        rate, (ends, found) = weighted_rate(among, phase.weights, phase.factors, level)
        if np.isnan(ends.low):
            return Corrected(np.nan, NO_INTERVAL, found, np.zeros(len(flagged)))
        parts.append((rate, ends))
    (ppv, ppv_ends), (omitted, omitted_ends) = parts
    value = raw * ppv + (1 - raw) * omitted
    steps = [
        _step(raw, raw_ends, ppv - omitted),
        _step(ppv, ppv_ends, raw),
        _step(omitted, omitted_ends, 1 - raw),
    ]
    low, high = (
        value + sign * np.hypot.reduce([s[i] for s in steps]) for i, sign in ((0, -1), (1, 1))
    )
    interval = Interval(max(0.0, float(low)), min(1.0, float(high)))
    if status in ("ok", "no_variation"):
        status = "few_positives" if phase.positives < FEW_POSITIVES else "ok"
    return Corrected(value, interval, status, pseudo_influence(phase, value, 1.0))


def rogan_gladen_pooled(phase: TwoPhase, errors: Errors, level: float = 0.95) -> Corrected:
    """Rate corrected by errors from elsewhere (all arms together), taken as known to their error.

    Undefined unless sensitivity + specificity exceeds 1: otherwise the judge has no information.
    """
    raw, (ends, status) = _mean(phase.primary), crossed_rate(phase.primary, phase.factors, level)
    informative = errors.sensitivity + errors.specificity - 1
    if not informative > 0 or np.isnan([*errors.sensitivity_interval.interval, *ends]).any():
        return Corrected(np.nan, NO_INTERVAL, "undefined", np.zeros(len(phase.primary)))
    value = (raw + errors.specificity - 1) / informative
    steps = [
        _step(raw, ends, 1 / informative),
        _step(errors.sensitivity, errors.sensitivity_interval.interval, -value / informative),
        _step(errors.specificity, errors.specificity_interval.interval, (1 - value) / informative),
    ]
    low, high = (
        value + sign * np.hypot.reduce([s[i] for s in steps]) for i, sign in ((0, -1), (1, 1))
    )
    interval = Interval(max(0.0, float(low)), min(1.0, float(high)))
    influence = _spread(phase.primary, raw) / informative
    return Corrected(min(max(value, 0.0), 1.0), interval, status, influence)


def prediction_powered(
    phase: TwoPhase, level: float = 0.95, tuning: float | None = None
) -> Corrected:
    """Prediction-powered mean: of a flag or of a score.

    Its variance is the crossed one of `pseudo_values`, which contains the error of both phases. A
    flag has Wilson's interval at rate (1 - rate) / V trials, a score Student's.

    Args:
        phase: Values by both; not necessarily flags.
        level: Of the interval.
        tuning: lambda; 1: the original estimator, 0: the second phase alone, None: that of least
            variance, weighted cov(y, f) / var(f) (PPI++).
    """
    power = power_tuning(phase) if tuning is None else tuning
    values = pseudo_values(phase, power)
    value, interval_status = _mean(values), crossed_mean(values, phase.factors, level=level)
    interval, status = interval_status
    influence = _spread(values, value)
    if np.isin(phase.primary[~np.isnan(phase.primary)], (0, 1)).all():
        value = min(max(value, 0.0), 1.0)
        interval = moment_wilson(value, influence, phase.factors, level) or interval
        interval = Interval(max(0.0, interval.low), min(1.0, interval.high))
    positives = int(np.nansum(phase.reference[phase.sampled] != 0))
    if status == "ok" and positives < FEW_POSITIVES:
        status = "few_positives"
    return Corrected(value, interval, status, influence)


def pseudo_values(phase: TwoPhase, tuning: float = 1.0) -> Values:
    """One value a scored trial whose mean is the prediction-powered mean.

    lambda f + v (y - lambda f): v is the trial's weight, scaled to sum to the number of scored
    trials, and 0 outside of the sample.
    """
    scored = ~np.isnan(phase.primary)
    weights = np.where(phase.sampled, phase.weights, 0.0)
    scale = scored.sum() / weights.sum() if weights.sum() > 0 else np.nan
    residual = np.where(phase.sampled, phase.reference - tuning * phase.primary, 0.0)
    return np.where(scored, tuning * phase.primary + scale * weights * residual, np.nan)


def pseudo_influence(phase: TwoPhase, value: float, tuning: float) -> Values:
    """Influence of each trial on the corrected mean."""
    return _spread(pseudo_values(phase, tuning), value)


def power_tuning(phase: TwoPhase) -> float:
    """Weighted regression slope of the reference on the primary judge, in [0, 1]."""
    inside = phase.sampled
    f, y, w = (x[inside] for x in (phase.primary, phase.reference, phase.weights))
    if not len(f) or np.ptp(f) == 0:
        return 1.0
    centred = f - np.average(f, weights=w)
    slope = (w * centred * y).sum() / (w * centred**2).sum()
    return float(np.clip(slope, 0, 1))


def corrected_difference(
    baseline: Corrected, treatment: Corrected, latents: tuple[np.ndarray, np.ndarray]
) -> tuple[Interval, Interval]:
    """Intervals of treatment - baseline and of treatment / baseline - 1 (fractions).

    Each arm is corrected by its own errors, so that these may differ between arms. The arms'
    correlation is that of their influence summed by latent.

    Args:
        baseline: Corrected rate of an arm.
        treatment: Of the arm that replays it.
        latents: Latent of each trial, as codes or ids that both arms share.
    """
    related = _correlation((baseline.influence, treatment.influence), latents)
    arms = baseline.value, baseline.interval, treatment.value, treatment.interval
    if np.isnan([*baseline.interval, *treatment.interval]).any():
        return NO_INTERVAL, NO_INTERVAL
    quotient = mover_ratio(*arms, related)
    return mover_difference(*arms, related), Interval(quotient.low - 1, quotient.high - 1)


def _mean(values: Values) -> float:
    inside = ~np.isnan(values)
    return float(values[inside].mean()) if inside.any() else np.nan


def _spread(values: Values, mean: float) -> Values:
    inside = ~np.isnan(values)
    return np.where(inside, values - mean, 0.0) / max(int(inside.sum()), 1)


def _step(value: float, ends: Interval, slope: float) -> tuple[float, float]:
    """Distances that a part's two ends move the total down and up, to first order."""
    down, up = (value - ends.low) * abs(slope), (ends.high - value) * abs(slope)
    return (down, up) if slope >= 0 else (up, down)


def _correlation(
    influences: tuple[Values, Values], latents: tuple[np.ndarray, np.ndarray]
) -> float:
    names, codes = np.unique(np.concatenate(latents), return_inverse=True)
    halves = codes[: len(latents[0])], codes[len(latents[0]) :]
    u, v = (
        np.bincount(half, values, len(names))
        for half, values in zip(halves, influences, strict=True)
    )
    spread = (u @ u) * (v @ v)
    return float(np.clip((u @ v) / np.sqrt(spread), -1, 1)) if spread > 0 else 0.0

"""Difference and ratio of two arms whose trials share latents and prompts, closed form."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from esr.analysis.statistics.crossed import (
    Factors,
    Values,
    crossed_mean,
    crossed_rate,
    influence_correlation,
    mixture_mean,
    mover_difference,
    mover_ratio,
    weighted_mean,
)
from esr.analysis.statistics.estimates import Contrast, Estimate
from esr.analysis.statistics.intervals import NO_INTERVAL, Interval
from esr.analysis.statistics.resampling import Permutation

NO_TEST = Permutation(np.nan, "undefined")
WORST = ["undefined", "too_few", "few_clusters", "no_variation", "ok"]
"""Statuses, worst first: a contrast has that of its worse arm."""


class Quantity(NamedTuple):
    """What a mean over trials is of.

    Attributes:
        kind: `rate` (values are 0 or `highest`), `mixture` (most trials have the value `usual`) or
            `mean`.
        lowest: Least value of a trial.
        highest: Largest.
        usual: Value of most trials of a mixture.
    """

    kind: Literal["rate", "mean", "mixture"]
    lowest: float = -np.inf
    highest: float = np.inf
    usual: float = 0.0

    @property
    def method(self) -> str:
        """Name of the method, which tables show."""
        return METHODS[self.kind]


class Arm(NamedTuple):
    """An arm: one value a trial (NaN outside the denominator), its clusters, sampling weights."""

    values: Values
    factors: Factors
    weights: Values | None = None


METHODS = {"rate": "crossed_rate", "mean": "crossed_mean", "mixture": "mixture_mean"}
"""Method of each kind of quantity, by the name of its function."""


def crossed_interval(
    values: Values,
    factors: Factors,
    quantity: Quantity,
    level: float = 0.95,
    weights: Values | None = None,
) -> Estimate:
    """Interval of one arm by the method of its kind (`esr.analysis.statistics.crossed`).

    Args:
        values: One a trial, NaN outside the denominator.
        factors: Cluster of each trial by latent and, if prompts are random, too, by prompt.
        quantity: What the values are.
        level: Of the interval.
        weights: Trials that each stands for, if they are a sample.
    """
    kind, lowest, highest, usual = quantity
    if kind == "rate":
        estimate = crossed_rate(values / highest, factors, level, weights)
        return Estimate(estimate.interval.scaled(highest), estimate.status)
    if kind == "mixture":
        return mixture_mean(values, factors, usual, lowest, highest, level, weights)
    return crossed_mean(values, factors, lowest, highest, level, weights)


def crossed_contrast(
    baseline: Values,
    treatment: Values,
    factors: Factors,
    quantity: Quantity,
    level: float = 0.95,
    test: Permutation = NO_TEST,
    weights: tuple[Values, Values] | None = None,
) -> Contrast:
    """Paired arms: row i is the same (latent, prompt, seed) in both; arguments as above.

    The difference is the mean of the trials' own differences, most of which are 0 for rates and
    mixtures (`mixture_mean`). Where the arms have different denominators (conditional measures) or
    weights (samples), and for the ratio, MOVER combines the intervals of both, with the correlation
    of their influence values by latent and prompt. `test` is passed on: the p-value is a
    permutation's. `weights`: of both arms, if they are samples.
    """
    arms = baseline, treatment
    w = weights or (None, None)
    estimates = [
        crossed_interval(arm, factors, quantity, level, of_arm)
        for arm, of_arm in zip(arms, w, strict=True)
    ]
    correlation = influence_correlation(baseline, treatment, factors, weights)
    before, after = ~np.isnan(baseline), ~np.isnan(treatment)
    count = int((_held(factors, before) & _held(factors, after)).sum())
    trial_wise = None
    shared = before.any() and np.array_equal(before, after)
    if shared and (w[0] is None or w[1] is None or np.array_equal(w[0][before], w[1][before])):
        trial_wise = _trial_wise(treatment - baseline, factors, quantity, level, w[0])
    means = [weighted_mean(arm, of_arm) for arm, of_arm in zip(arms, w, strict=True)]
    return _combine(means, estimates, correlation, count, test, trial_wise)


def independent_contrast(
    baseline: Arm | tuple[Values, Factors],
    treatment: Arm | tuple[Values, Factors],
    quantity: Quantity,
    level: float = 0.95,
    test: Permutation = NO_TEST,
) -> Contrast:
    """Arms with latents of their own, such as two models: MOVER with a correlation of 0.

    Prompts that both arms share count twice, which errs on the wide side.
    """
    arms = [arm if isinstance(arm, Arm) else Arm(*arm) for arm in (baseline, treatment)]
    estimates = [
        crossed_interval(arm.values, arm.factors, quantity, level, arm.weights) for arm in arms
    ]
    count = min(int(_held(arm.factors, ~np.isnan(arm.values)).sum()) for arm in arms)
    means = [weighted_mean(arm.values, arm.weights) for arm in arms]
    return _combine(means, estimates, 0.0, count, test)


def _held(factors: Factors, inside: np.ndarray) -> np.ndarray:
    """Which clusters of the first factor have a value."""
    return np.bincount(factors[0], inside) > 0


def _trial_wise(
    changes: Values,
    factors: Factors,
    quantity: Quantity,
    level: float,
    weights: Values | None = None,
) -> Interval:
    """Interval of the mean change of trials that both arms have."""
    span = quantity.highest - quantity.lowest
    if quantity.kind == "mean":
        return crossed_mean(changes, factors, -span, span, level, weights).interval
    return mixture_mean(changes, factors, 0.0, -span, span, level, weights).interval


def _combine(
    means: Sequence[float],
    estimates: list[Estimate],
    correlation: float,
    count: int,
    test: Permutation,
    trial_wise: Interval | None = None,
) -> Contrast:
    status = min((each.status for each in estimates), key=WORST.index)
    if any(np.isnan(each.interval.low) for each in estimates):
        return Contrast(count, test=test, status=status)
    base, treated = means
    ends = [each.interval for each in estimates]
    difference = trial_wise or mover_difference(base, ends[0], treated, ends[1], correlation)
    quotient = mover_ratio(base, ends[0], treated, ends[1], correlation)
    relative = NO_INTERVAL if np.isnan(quotient.low) else Interval(*(q - 1 for q in quotient))
    return Contrast(count, difference, relative, test, status)

"""Intervals of rates and means whose trials share latents and prompts, closed form.

One method a quantity, chosen by simulated coverage (benchmarks/coverage.py, docs/method.md):

- a rate: Wilson's interval at the design-effect sample size (`crossed_rate`);
- a mean: Student's interval with the crossed standard error (`crossed_mean`);
- a mean in which most trials have one value, such as the score change, which is 0 for a single
  attempt: rate of the others times their mean (`mixture_mean`);
- a difference of paired arms: the same for the trials' differences, most of which are 0; a
  difference of other arms, and every ratio: MOVER (`mover_difference`, `mover_ratio`).

The variance of a mean over trials is that of its influence values u_i = (x_i - mean) / n, summed by
cluster: with latents and prompts crossed, V = V_latent + V_prompt - V_trial (Cameron, Gelbach and
Miller 2011), at least the larger of the two. Both factors count as random: the interval holds for
other latents and other prompts of the same kind.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import special

from esr.analysis.statistics.estimates import Estimate
from esr.analysis.statistics.intervals import NO_INTERVAL, Interval

Values = Float[np.ndarray, " trials"]
Inside = Bool[np.ndarray, " trials"]
Codes = Int[np.ndarray, " trials"]
Factors = Sequence[Codes]
"""Cluster of each trial by one factor, or by two crossed ones."""

CORRELATION_FLOOR = 0.1
"""Least intra-cluster correlation assumed while few clusters hold the events."""
CORRELATION_OF_NONE = 0.25
"""Intra-cluster correlation assumed where no trial, or every trial, is an event."""
ENOUGH_CLUSTERS = 10
"""With so many clusters on either side of the rate the floor starts to fall, as 1 / clusters."""
FEW_CLUSTERS = 8
"""Fewer clusters lie outside of the simulated range: status `few_clusters`."""


def influence(values: Values, weights: Values | None = None) -> Values:
    """Influence of each trial on the mean, (x - mean) / n; 0 outside the denominator (NaN).

    With sampling weights w: w (x - mean) / sum w, of the mean sum w x / sum w.
    """
    inside = ~np.isnan(values)
    if not inside.any():
        return np.zeros(len(values))
    w = np.where(inside, 1.0 if weights is None else weights, 0.0)
    return w * np.where(inside, values - weighted_mean(values, weights), 0.0) / w.sum()


def weighted_mean(values: Values, weights: Values | None = None) -> float:
    """Mean of the values that are not NaN, sum w x / sum w with weights; NaN without any."""
    inside = ~np.isnan(values)
    present = values[inside]
    if not len(present):
        return np.nan
    if weights is None or np.ptp(present) == 0:  # free of rounding
        return float(present.mean())
    w = weights[inside]
    return float((present * w).sum() / w.sum())


def crossed_covariance(
    first: Values, second: Values, factors: Factors, inside: Inside | None = None
) -> float:
    """Covariance of two means over the same trials, from their influence values.

    One factor: C / (C - 1) sum over clusters of (sum of u)(sum of v). Two: the sum over both
    factors less the sum over single trials.

    Args:
        first: Influence values u.
        second: Influence values v of the other mean, in the same order.
        factors: One or two.
        inside: Which trials count clusters; all if None.
    """
    total = sum(_by_factor(first, second, codes, inside) for codes in factors)
    return float(total - (float(first @ second) if len(factors) > 1 else 0.0))


def crossed_variance(u: Values, factors: Factors, inside: Inside | None = None) -> float:
    """Variance of a mean from its influence values, at least that of each factor alone."""
    alone = [_by_factor(u, u, codes, inside) for codes in factors]
    single = float(u @ u) if len(factors) > 1 else 0.0
    return max(*alone, sum(alone) - single, 0.0)


def crossed_rate(
    values: Values, factors: Factors, level: float = 0.95, weights: Values | None = None
) -> Estimate:
    """Wilson's interval of a rate at n / deff trials, with Student's quantile for few clusters.

    deff = V / (p (1 - p) / n), at least 1 + (sum m^2 / n - 1) rho for the trials m of each cluster
    and rho = 0.1 min(1, 10 / c); c is the number of clusters with events, or with non-events where
    these are fewer. Without events deff assumes rho = 0.25, so that a zero has one upper bound.
    Wilson 1927; effective sample size: Kish 1965, Korn and Graubard 1998; floor: ours, simulated.

    Args:
        values: 1 for an event, 0 for none, NaN outside the denominator.
        factors: Latents first.
        level: Of the interval.
        weights: Trials that each stands for, if they are a sample (`weighted_rate`).
    """
    if weights is not None:
        return weighted_rate(values, weights, factors, level)[1]
    inside = ~np.isnan(values)
    n = int(inside.sum())
    if not n:
        return Estimate(NO_INTERVAL, "undefined")
    counts = [_clusters(codes, inside) for codes in factors]
    if min(counts) < 2:
        return Estimate(NO_INTERVAL, "too_few")
    rate = float(values[inside].mean())
    effective = n / _design_effect(values, factors, rate, n)
    interval = _wilson(rate, effective, student_quantile(min(counts), level))
    if rate in (0, 1):
        return Estimate(interval, "no_variation")
    return Estimate(interval, "few_clusters" if counts[0] < FEW_CLUSTERS else "ok")


def weighted_rate(
    values: Values, weights: Values, factors: Factors, level: float = 0.95
) -> tuple[float, Estimate]:
    """Rate of a sample with weights, sum w x / sum w, and its interval.

    As `crossed_rate`, with influence values w (x - rate) / sum w, and at most as many effective
    trials as the weights leave, (sum w)^2 / sum w^2 (Kish 1965).
    """
    inside = ~np.isnan(values)
    if not inside.any():
        return np.nan, Estimate(NO_INTERVAL, "undefined")
    counts = [_clusters(codes, inside) for codes in factors]
    w = np.where(inside, weights, 0.0)
    rate = weighted_mean(values, weights)
    if min(counts) < 2:
        return rate, Estimate(NO_INTERVAL, "too_few")
    kish = float(w.sum() ** 2 / (w**2).sum())
    effective = kish / design_effect_floor(values, factors, rate)
    if 0 < rate < 1:
        variance = crossed_variance(influence(values, weights), factors, inside)
        effective = min(effective, rate * (1 - rate) / variance) if variance > 0 else effective
    interval = _wilson(rate, effective, student_quantile(min(counts), level))
    status = "few_clusters" if counts[0] < FEW_CLUSTERS else "ok"
    return rate, Estimate(interval, "no_variation" if rate in (0, 1) else status)


def design_effect_floor(values: Values, factors: Factors, rate: float) -> float:
    """Least design effect assumed, from the number of latents that hold the events."""
    inside = ~np.isnan(values)
    sizes = np.bincount(factors[0][inside])
    excess = float((sizes**2).sum() / sizes.sum() - 1)
    if rate in (0, 1):
        return 1 + excess * CORRELATION_OF_NONE
    events = np.bincount(factors[0][inside], values[inside])
    holding = min(int((events > 0).sum()), int((events < sizes).sum()))
    return 1 + excess * CORRELATION_FLOOR * min(1.0, ENOUGH_CLUSTERS / holding)


def moment_wilson(
    rate: float, u: Values, factors: Factors, level: float = 0.95, most: float = np.inf
) -> Interval | None:
    """Wilson's interval of a rate with a known variance: at n = rate (1 - rate) / V trials.

    None where rate or variance is degenerate. `u`: influence of each trial on the rate. `most`:
    largest number of effective trials, such as trials / `design_effect_floor`.
    """
    inside = np.ones(len(u), bool)
    counts = [_clusters(codes, inside) for codes in factors]
    variance = crossed_variance(u, factors)
    if not 0 < rate < 1 or min(counts) < 2 or variance <= 0:
        return None
    effective = min(most, rate * (1 - rate) / variance)
    return _wilson(rate, effective, student_quantile(min(counts), level))


def crossed_mean(
    values: Values,
    factors: Factors,
    lowest: float = -np.inf,
    highest: float = np.inf,
    level: float = 0.95,
    weights: Values | None = None,
) -> Estimate:
    """Student's interval of a mean, mean -+ t(C - 1) sqrt(V), cut to [lowest, highest].

    Weights as for `influence`, statuses as for `crossed_rate`. Where all values are equal there is
    no variance to go by: the status is `no_variation` and the interval that of a share of 0 among
    trials like these, times the range (infinite where the range is).
    """
    inside = ~np.isnan(values)
    if not inside.any():
        return Estimate(NO_INTERVAL, "undefined")
    counts = [_clusters(codes, inside) for codes in factors]
    if min(counts) < 2:
        return Estimate(NO_INTERVAL, "too_few")
    mean = weighted_mean(values, weights)
    if np.ptp(values[inside]) == 0:
        none = crossed_rate(np.where(inside, 0.0, np.nan), factors, level, weights).interval.high
        low, high = (
            mean + none * (end - mean) if end != mean else mean for end in (lowest, highest)
        )
        return Estimate(Interval(low, high), "no_variation")
    variance = crossed_variance(influence(values, weights), factors, inside)
    half = student_quantile(min(counts), level) * np.sqrt(variance)
    interval = Interval(max(lowest, float(mean - half)), min(highest, float(mean + half)))
    return Estimate(interval, "few_clusters" if counts[0] < FEW_CLUSTERS else "ok")


def mixture_mean(
    values: Values,
    factors: Factors,
    usual: float,
    lowest: float = -np.inf,
    highest: float = np.inf,
    level: float = 0.95,
    weights: Values | None = None,
) -> Estimate:
    """Interval of a mean over trials most of which have the value `usual`.

    mean = usual + r g: r the rate of other values (`crossed_rate`), g their mean excess
    (`crossed_mean`, or the range where fewer than two clusters have any). With d the distance of an
    end from its estimate, the ends of r g lie at sqrt((d_r g)^2 + (r d_g)^2): MOVER for a product
    (Zou, Huang and Zhang 2009), r and g taken as independent.
    """
    inside = ~np.isnan(values)
    other = np.where(inside, (values != usual).astype(float), np.nan)
    rate = crossed_rate(other, factors, level, weights)
    if rate.status in ("undefined", "too_few"):
        return rate
    (r_low, r_high), span = rate.interval, Interval(lowest - usual, highest - usual)
    if rate.status == "no_variation" and not np.nanmax(other):
        ends = (usual + r_high * end if end else usual for end in span)
        return Estimate(Interval(*ends), "no_variation")
    excess = np.where(other == 1, values - usual, np.nan)
    gain = crossed_mean(excess, factors, *span, level, weights)
    g_low, g_high = span if np.isnan(gain.interval.low) else gain.interval
    r, g = weighted_mean(other, weights), weighted_mean(excess, weights)
    below, above = (r - r_low, r_high - r) if g >= 0 else (r_high - r, r - r_low)
    low = usual + r * g - np.hypot(below * g, r * (g - g_low))
    high = usual + r * g + np.hypot(above * g, r * (g_high - g))
    interval = Interval(max(lowest, float(low)), min(highest, float(high)))
    # Few latents with another value widen the interval, and it still covers (benchmarks/coverage).
    return Estimate(interval, "few_clusters" if rate.status == "few_clusters" else "ok")


def influence_correlation(
    first: Values,
    second: Values,
    factors: Factors,
    weights: tuple[Values, Values] | None = None,
) -> float:
    """Correlation of two means over the same trials; 0 where either does not vary."""
    w = weights or (None, None)
    u, v = influence(first, w[0]), influence(second, w[1])
    spread = crossed_variance(u, factors) * crossed_variance(v, factors)
    if spread <= 0:
        return 0.0
    return float(np.clip(crossed_covariance(u, v, factors) / np.sqrt(spread), -1, 1))


def mover_difference(
    base: float, base_ends: Interval, treated: float, ends: Interval, correlation: float = 0.0
) -> Interval:
    """Interval of treated - base from the intervals of both (Newcombe 1998; Zou and Donner 2008).

    low = d - sqrt(a^2 + b^2 - 2 r a b), a = treated - its low end, b = the high end of base - base;
    high likewise with the other two ends.
    """
    low = _hypotenuse(treated - ends.low, base_ends.high - base, correlation)
    high = _hypotenuse(ends.high - treated, base - base_ends.low, correlation)
    return Interval(treated - base - low, treated - base + high)


def mover_ratio(
    base: float, base_ends: Interval, treated: float, ends: Interval, correlation: float = 0.0
) -> Interval:
    """Interval of treated / base from the intervals of both (Donner and Zou 2012, equation 9).

    The ratios q for which `mover_difference` of treated and q base holds 0. Undefined (NaN) unless
    base and treated are at least 0 and base is positive; the high end is infinite where the low end
    of base is not positive enough to bound it.
    """
    if not base > 0 or not treated >= 0 or np.isnan([*base_ends, *ends]).any():
        return NO_INTERVAL
    low = _ratio_end(base, base_ends.high - base, treated, treated - ends.low, correlation, -1)
    high = _ratio_end(base, base - base_ends.low, treated, ends.high - treated, correlation, +1)
    return Interval(low, high)


def _ratio_end(
    base: float, b: float, treated: float, a: float, correlation: float, side: int
) -> float:
    """Root q of (treated - q base)^2 = a^2 + q^2 b^2 - 2 r q a b on one side of the estimate."""
    square = base**2 - b**2
    linear = base * treated - correlation * a * b
    constant = treated**2 - a**2
    root = np.sqrt(max(linear**2 - square * constant, 0.0))
    if side < 0:  # the form that holds where `square` is 0 or negative, too
        return float(constant / (linear + root)) if linear + root > 0 else 0.0
    return float((linear + root) / square) if square > 0 else np.inf


def _hypotenuse(a: float, b: float, correlation: float) -> float:
    return float(np.sqrt(max(a**2 + b**2 - 2 * correlation * a * b, 0.0)))


def _by_factor(u: Values, v: Values, codes: Codes, inside: Inside | None) -> float:
    """C / (C - 1) times the sum over clusters of the products of summed influence values."""
    count = _clusters(codes, inside)
    if count < 2:
        return 0.0
    sums = np.bincount(codes, u)
    others = sums if v is u else np.bincount(codes, v)
    return float(count / (count - 1) * (sums @ others))


def _clusters(codes: Codes, inside: Inside | None) -> int:
    """Clusters with a value; all if None."""
    if not len(codes):
        return 0
    return int(np.count_nonzero(np.bincount(codes if inside is None else codes[inside])))


def _design_effect(values: Values, factors: Factors, rate: float, n: int) -> float:
    floor = design_effect_floor(values, factors, rate)
    if rate in (0, 1):
        return floor
    variance = crossed_variance(influence(values), factors, ~np.isnan(values))
    return max(floor, variance / (rate * (1 - rate) / n), 1.0)


def student_quantile(clusters: int, level: float) -> float:
    """Half-width of Student's interval of a mean over so many clusters, in standard errors."""
    return float(-special.stdtrit(clusters - 1, (1 - level) / 2))  # what `stats.t.isf` calls


def _wilson(rate: float, n: float, z: float) -> Interval:
    """Wilson's interval of a rate in n (not necessarily whole) trials with quantile z."""
    centre = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    return Interval(
        0.0 if rate == 0 else max(0.0, float(centre - half)),
        1.0 if rate == 1 else min(1.0, float(centre + half)),
    )

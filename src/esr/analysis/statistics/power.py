"""Power and sample size for two rates, and what clustering does to a test of them."""

import numpy as np
from statsmodels.stats.proportion import (
    power_proportions_2indep,
    proportions_ztest,
    samplesize_proportions_2indep_onetail,
)


def two_proportions_p(
    k1: float, n1: float, k2: float, n2: float, design_effect: float = 1.0
) -> float:
    """Two-sided pooled z-test of k1/n1 = k2/n2 with counts divided by a design effect.

    NaN if there are no events, or nothing else, in both arms.
    """
    if k1 + k2 in (0, n1 + n2):
        return float("nan")
    counts, sizes = np.array([k1, k2]) / design_effect, np.array([n1, n2]) / design_effect
    return float(proportions_ztest(counts, sizes)[1])


def power(p1: float, p2: float, n: float, design_effect: float = 1.0, level: float = 0.95) -> float:
    """Power to tell rate p2 from p1 (fractions) with n trials an arm, two-sided, independent arms.

    Normal approximation with pooled variance under the null and separate variances under the
    alternative (Fleiss 1981, chapter 3), at n / design_effect effective trials.
    """
    effective = n / design_effect
    return float(
        power_proportions_2indep(p1 - p2, p2, effective, alpha=1 - level, return_results=False)
    )


def sample_size(
    p1: float, p2: float, power: float = 0.8, design_effect: float = 1.0, level: float = 0.95
) -> float:
    """Trials an arm that give `power` to tell rate p2 from p1: the inverse of `power`.

    The far tail is neglected, which is harmless for a power of one half or more.
    """
    larger, smaller = max(p1, p2), min(p1, p2)
    n = samplesize_proportions_2indep_onetail(larger - smaller, smaller, power, alpha=1 - level)
    return float(n * design_effect)

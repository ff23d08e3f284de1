"""Several tests at once."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.stats import false_discovery_control

Adjustment = Callable[[Float[np.ndarray, " tests"]], Float[np.ndarray, " tests"]]


def holm(p_values: ArrayLike) -> Float[np.ndarray, " tests"]:
    """Adjusted p-values of a confirmatory family: max over j <= i of min(1, (m - j + 1) p_(j)).

    Controls the chance of any false rejection, whatever the dependence (Holm 1979). A missing
    p-value (a test that could not be made) stays missing and does not count among the m.
    """
    return _adjusted(p_values, _step_down)


def benjamini_hochberg(p_values: ArrayLike) -> Float[np.ndarray, " tests"]:
    """Adjusted p-values of a screen: min over j >= i of min(1, m p_(j) / j).

    Controls the false discovery rate (Benjamini and Hochberg 1995). Missing values as in `holm`.
    """
    return _adjusted(p_values, false_discovery_control)


def _step_down(p: Float[np.ndarray, " tests"]) -> Float[np.ndarray, " tests"]:
    # `multipletests` of statsmodels also collects all garbage, which takes longer than a verdict.
    order = np.argsort(p)
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(steps, 1)
    return adjusted


def _adjusted(p_values: ArrayLike, method: Adjustment) -> Float[np.ndarray, " tests"]:
    p = np.atleast_1d(np.asarray(p_values, float))
    if (p < 0).any() or (p > 1).any():
        raise ValueError(f"p-values {p} must lie in [0, 1]")
    made = ~np.isnan(p)
    adjusted = np.full(p.shape, np.nan)
    if made.any():
        adjusted[made] = method(p[made])
    return adjusted

"""Numbers as figures and their tables show them."""

import numpy as np


def number(value: float, digits: int = 1) -> str:
    """A number in a figure; `n/a` if it is missing."""
    return "n/a" if np.isnan(value) else f"{value:.{digits}f}".replace("inf", "∞")


def with_interval(value: float, low: float, high: float, unit: str = "", *, digits: int = 1) -> str:
    """A number with its unit and, if there is one, its interval: `4.0 % [3.1, 5.2]`."""
    text = f"{number(value, digits)} {unit}".rstrip() if not np.isnan(value) else "n/a"
    if np.isnan([value, low, high]).any():
        return text
    return f"{text} [{number(low, digits)}, {number(high, digits)}]"

"""Matched and mismatched pairs with planted detectors."""

import numpy as np
import pandas as pd

from esr.config import DetectorsConfig
from esr.detectors.search import (
    Pairs,
    assign_mismatched,
    detector_table,
    hold_out,
)

SEPARABLE = DetectorsConfig(criterion="separable")


GRADED = DetectorsConfig(criterion="graded", min_auroc=0.95, max_leak=0.05)


D_SAE, N = 40, 60


PLANTED = [3, 17, 31]


def planted(seed: int = 0, n: int = N, held_out: float = 0.5) -> Pairs:
    """Latents with the same sparse activity on both sides, but for three that see the mismatch."""
    rng = np.random.default_rng(seed)
    matched, mismatched = (
        rng.gamma(2, 1, (n, D_SAE)) * (rng.random((n, D_SAE)) < 0.4) for _ in range(2)
    )
    matched[:, PLANTED] = 0
    mismatched[:, PLANTED] = 5 + rng.random((n, 3))
    matched[:, -1] = mismatched[:, -1] = 0  # a dead one
    prompts = [f"p{i // 2}" for i in range(n)]
    categories = [f"c{i // 2 % 6}" for i in range(n)]
    out = hold_out(prompts, categories, held_out, seed)
    return Pairs(matched, mismatched, out, prompts, assign_mismatched(categories, out, seed))


def labels(count: int = D_SAE) -> pd.DataFrame:
    return pd.DataFrame({"latent": range(count), "label": [f"label {i}" for i in range(count)]})


def found_in(pairs: Pairs, how: DetectorsConfig, given: tuple[int, ...] = ()) -> pd.DataFrame:
    return detector_table(pairs, labels(), how, given)

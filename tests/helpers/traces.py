"""Synthetic activation traces of episodes."""

from typing import Any

import numpy as np
import pandas as pd

from esr.episodes.traces import Traces
from esr.tables import TABLES

FIRST = {"episode": 10.0, "baseline": 90.0, "unrestarted": 10.0}
"""First score of the responses of a group."""
REGION = {"o": "off_topic", "c": "correction", "n": "on_topic", ".": None}


def made(
    *trials: tuple[str, str, list[float]],
    kinds: dict[str, int] | None = None,
    held_out: bool = True,
) -> Traces:
    """Traces of (group, regions of the tokens as letters, activations); a steered latent each."""
    episodes, rows = [], []
    for i, (group, letters, activations) in enumerate(trials):
        trial = f"t{i}"
        # Controls are aligned at their third token.
        anchor = 2 * (letters.index("c") if "c" in letters else 2)
        episodes.append(
            {"trial_id": trial, "group": group, "latent": i, "anchor": anchor, "held_out": held_out}
            | {"first_score": FIRST[group]}
        )
        for position, (letter, value) in enumerate(zip(letters, activations, strict=True)):
            span = {"start": 2 * position, "end": 2 * position + 2, "region": REGION[letter]}
            for kind, count in (kinds or {"detector": 1}).items():
                rows += [
                    {"trial_id": trial, "position": position, **span}
                    | {"latent": latent, "kind": kind, "activation": value / count}
                    for latent in range(count)
                ]
    table = pd.DataFrame(rows, columns=list(TABLES["episode_activations"].columns))
    columns = ["trial_id", "group", "latent", "anchor", "held_out", "first_score"]
    return Traces(pd.DataFrame(episodes, columns=columns).astype({"held_out": bool}), table)


def many(count: int = 12, kinds: dict[str, int] | None = None) -> Traces:
    """Episodes that are high off topic, baselines that are low, controls that are as high."""
    rng = np.random.default_rng(0)
    letters = "o" * 6 + "c" * 3 + "n" * 6
    trials: list[Any] = []
    for _ in range(count):
        high, low = 3 + rng.random(), rng.random() / 10
        trials.append(("episode", letters, [low] + [high] * 5 + [1.0] * 3 + [low] * 6))
        trials.append(("baseline", "n" * 15, [rng.random() / 10] * 15))
        trials.append(("unrestarted", "o" * 15, [high] * 15))
    return made(*trials, kinds=kinds)

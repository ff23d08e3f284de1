"""Score tables built by hand."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from esr.arms.scores import GATED, JUDGED
from esr.tables import read_tables

Attempts = list[float] | None


def scores_of(
    attempts: Sequence[Attempts],
    *,
    per_latent: int = 2,
    status: str = "refused",
    **columns: Any,
) -> pd.DataFrame:
    """Scores of trials given the scores of their attempts; None is a trial that was not judged."""
    n = len(attempts)
    judged = [_judged(each) for each in attempts]
    flags = {"multi_attempt", "improved", *GATED}
    frame = pd.DataFrame(
        {
            "model": ["m"] * n,
            "arm": "steered",
            "judge": "lexical",
            "trial_id": [f"t{i}" for i in range(n)],
            "prompt_id": [f"p{i % 3}" for i in range(n)],
            "latent": pd.array([i // per_latent for i in range(n)], "Int64"),
            "boost": 1.0,
            "seed": range(n),
            "status": ["ok" if each else status for each in attempts],
            **{
                name: pd.array(
                    [each.get(name) for each in judged], "boolean" if name in flags else "Float64"
                )
                for name in (*JUDGED, *GATED)
            },
            "restart_detected": pd.array([False] * n, "boolean"),
            "degraded": pd.array([False] * n, "boolean"),
        }
    )
    return frame.assign(**columns)


def stack(scores: Mapping[str, Mapping[str, pd.DataFrame]]) -> pd.DataFrame:
    """Scores by arm and model as one table, like that of `read_tables`; it may have no rows."""
    parts = [
        table.assign(model=model, arm=arm)
        for arm, of_arm in scores.items()
        for model, table in of_arm.items()
    ]
    return pd.concat(parts, ignore_index=True) if parts else read_tables([], "scores")


def _judged(attempts: Attempts) -> dict[str, Any]:
    if not attempts:
        return {}
    change = attempts[-1] - attempts[0]
    return {
        "n_attempts": len(attempts),
        "first_score": attempts[0],
        "last_score": attempts[-1],
        "score_change": change,
        "multi_attempt": len(attempts) > 1,
        "improved": len(attempts) > 1 and change > 0,
        # No restart phrase opens an attempt, unless a test sets it.
        "gated_multi_attempt": False,
        "gated_improved": False,
    }

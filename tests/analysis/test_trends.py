"""Contrasts across models and boosts, on scores with known effects."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest

from esr.analysis.trends import pairs, size_trends, sweep_slopes
from esr.config import StatisticsConfig
from helpers.scores import stack

FEW = StatisticsConfig(bootstrap=300)
SIZES = {"small": 1e9, "middle": 1e10, "large": 1e11}


def scores(
    rate: float, level: float | None = None, change: float = 40, seed: int = 0
) -> pd.DataFrame:
    """40 latents with 10 trials each, of which a share corrects itself."""
    rng = np.random.default_rng(seed)
    latents, trials = 40, 10
    multi = rng.random(latents * trials) < rate
    first = np.full(latents * trials, 50.0)
    gain = np.where(multi, change, 0.0)
    return pd.DataFrame(
        {
            "model": ["m"] * (latents * trials),
            "arm": "steered",
            "judge": "lexical",
            "trial_id": [f"{seed}-{level}-{i}" for i in range(latents * trials)],
            "prompt_id": [f"p{i % trials}" for i in range(latents * trials)],
            "latent": np.repeat(np.arange(latents), trials),
            "boost": 1.0,
            "seed": np.arange(latents * trials),
            "status": "ok",
            "n_attempts": np.where(multi, 2, 1),
            "first_score": first,
            "last_score": first + gain,
            "score_change": gain,
            "multi_attempt": multi,
            "improved": multi & (gain > 0),
            "gated_multi_attempt": multi,
            "gated_improved": multi & (gain > 0),
            "restart_detected": multi,
            "degraded": False,
            "sweep_level": level,
        }
    )


def of_models(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    return stack({"steered": tables})


def one(table: pd.DataFrame, **where: str) -> pd.Series:
    for column, value in where.items():
        table = table[table[column].eq(value)]
    assert len(table) == 1
    return table.iloc[0]


def test_a_pair_of_models_has_two_rows_of_opposite_sign() -> None:
    table = pairs(of_models({"a": scores(0.3, seed=1), "b": scores(0.1, seed=2)}), FEW)
    there = one(table, model="a", against="b", measure="multi_attempt_rate")
    back = one(table, model="b", against="a", measure="multi_attempt_rate")
    assert there["low"] > 0
    assert there["difference"] == pytest.approx(there["treatment"] - there["baseline"])
    assert [back["difference"], back["low"], back["high"]] == pytest.approx(
        [-there["difference"], -there["high"], -there["low"]]
    )
    assert (back["baseline"], back["treatment"]) == (there["treatment"], there["baseline"])


def test_an_effect_that_grows_with_size_has_a_positive_slope() -> None:
    before = of_models({model: scores(0.1, seed=i) for i, model in enumerate(SIZES)})
    after = of_models({model: scores(0.1 + 0.2 * i, seed=i) for i, model in enumerate(SIZES)})
    row = one(size_trends(before, after, SIZES, FEW), measure="multi_attempt_rate")
    assert row["low"] > 0
    assert row["difference"] == pytest.approx(20, abs=4)  # points per tenfold parameters
    flat = one(size_trends(before, before, SIZES, FEW), measure="multi_attempt_rate")
    assert (flat["difference"], flat["status"]) == (0, "no_variation")
    assert np.isnan(flat["low"])


def test_models_of_one_size_have_no_trend() -> None:
    table = size_trends(scores(0.1), scores(0.3), {"m": 1e9}, FEW)
    assert table["status"].eq("undefined").all()
    assert table["difference"].isna().all()


def test_the_slope_over_a_sweep_is_per_level() -> None:
    steps = [scores(0.1 + 0.1 * level, level=level, seed=7) for level in range(5)]
    row = one(sweep_slopes(pd.concat(steps), FEW), measure="multi_attempt_rate")
    assert row["difference"] == pytest.approx(10, abs=2)
    assert row["low"] < row["difference"] < row["high"]

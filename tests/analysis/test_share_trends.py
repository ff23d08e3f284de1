"""Trends of a measure over the share of self-corrections, on scores with known effects."""

import random
from typing import Any

import pandas as pd
import pytest

from esr.analysis.trends import share_trends
from helpers.arms import FAST, LATENTS, arm


def statistic(shares: dict[int, pd.DataFrame], measure: str, name: str) -> Any:
    scores = pd.concat(table.assign(share=share) for share, table in shares.items())
    table = share_trends(scores, FAST, [measure])
    return table[table["statistic"].eq(name)].iloc[0]


def test_a_planted_rise_is_a_rank_correlation_of_one_and_no_chance() -> None:
    shares = {0: arm(0), 10: arm(2), 50: arm(5), 90: arm(8)}
    rank = statistic(shares, "mean_attempts", "rank_correlation")
    assert (rank["value"], rank["low"], rank["high"]) == (1, 1, 1)
    assert rank["p_value"] < 0.01
    slope = statistic(shares, "mean_attempts", "slope")
    # Least squares of 1.0, 1.2, 1.5, 1.8 on 0, 1, 5, 9 (tens of percent), by hand.
    assert slope["value"] == pytest.approx(4.275 / 50.75)


def test_a_plateau_rises_over_all_shares_and_not_in_their_upper_half() -> None:
    shares = {0: arm(0), 10: arm(2), 50: arm(6), 70: arm(6), 90: arm(6)}
    assert statistic(shares, "multi_attempt_rate", "slope")["low"] != 0
    upper = statistic(shares, "multi_attempt_rate", "slope_upper")
    assert upper["value"] == pytest.approx(0)


def test_without_a_trend_the_test_does_not_find_one() -> None:
    rng = random.Random(1)
    found = []
    for _ in range(20):
        shares = {share: shuffled(rng) for share in (0, 10, 50, 90)}
        found.append(statistic(shares, "mean_attempts", "rank_correlation")["p_value"])
    assert sum(p < 0.05 for p in found) <= 4
    assert min(found) < 0.6 < max(found)


def shuffled(rng: random.Random) -> pd.DataFrame:
    """Scores in which every latent has another number of second attempts, by chance."""
    parts = [arm(rng.randint(0, 6), latents=1).assign(latent=i) for i in range(LATENTS)]
    table = pd.concat(parts, ignore_index=True).astype({"latent": "Int64"})
    return table.assign(trial_id=[f"t{i}" for i in range(len(table))], seed=range(len(table)))


def test_where_nothing_ever_restarts_there_is_no_trend_and_no_error() -> None:
    shares = {0: arm(0), 10: arm(0), 90: arm(0)}
    for name in ("rank_correlation", "slope", "slope_upper"):
        assert statistic(shares, "success_rate", name)["status"] == "undefined"
        assert statistic(shares, "mean_attempts", name)["status"] in ("no_variation", "undefined")


def test_a_base_that_never_restarts_has_no_say_in_the_success_rate() -> None:
    shares = {0: arm(0), 10: arm(2), 50: arm(5), 90: arm(8)}
    rank = statistic(shares, "success_rate", "rank_correlation")
    assert rank["status"] == "no_variation"
    assert pd.isna(rank["value"])

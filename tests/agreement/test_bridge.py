"""The bridge from an old judge to a new one: identities, a planted shift, a planted error rate."""

import numpy as np
import pandas as pd
import pytest

from esr.agreement.bridge import bridge_table, rates_on_the_old_scale, regression_slope
from esr.config import StatisticsConfig
from esr.errors import EsrError
from helpers.scores import scores_of
from helpers.studies import load_study

FAST = StatisticsConfig(bootstrap=200)
N = 240


def graded(flags: np.ndarray, scores: np.ndarray) -> pd.DataFrame:
    """Scores of trials of two arms, ten trials a latent."""
    attempts = [[s, s] if f else [s] for f, s in zip(flags, scores.tolist(), strict=True)]
    table = scores_of(attempts, per_latent=10)
    arm = np.where(np.arange(len(flags)) < len(flags) // 2, "steered", "unsteered")
    return table.assign(arm=arm, trial_id="m/" + pd.Series(arm) + "/" + table["trial_id"])


def drawn(table: pd.DataFrame, weight: float = 1.0) -> pd.DataFrame:
    names = ["model", "arm", "trial_id", "prompt_id", "latent"]
    return table[names].assign(weight=weight)


@pytest.fixture(scope="module")
def truth() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.random(N) < 0.3, rng.uniform(20, 60, N)


def cell(table: pd.DataFrame, statistic: str, quantity: str, arm: str = "all") -> pd.Series:
    rows = table[table["statistic"].eq(statistic) & table["quantity"].eq(quantity)]
    (row,) = (row for _, row in rows[rows["arm"].eq(arm)].iterrows())
    return row


def test_a_judge_is_its_own_bridge(truth: tuple[np.ndarray, np.ndarray]) -> None:
    same = graded(*truth)
    table = bridge_table(drawn(same), ("old", same), ("new", same), FAST)
    for arm in ("all", "steered", "unsteered"):
        assert cell(table, "only_old", "multi_attempt", arm)["estimate"] == 0
        assert cell(table, "only_new", "multi_attempt", arm)["estimate"] == 0
        assert cell(table, "positive_agreement", "multi_attempt", arm)["estimate"] == 1
        assert cell(table, "alpha", "first_score", arm)["estimate"] == pytest.approx(1)
        assert cell(table, "shift", "first_score", arm)["estimate"] == 0
        assert cell(table, "slope", "first_score", arm)["estimate"] == pytest.approx(1)
    cells = ["both", "only_old", "only_new", "neither"]
    shares = [cell(table, name, "multi_attempt")["estimate"] for name in cells]
    assert sum(shares) == pytest.approx(1)
    assert shares[0] == pytest.approx(truth[0].mean())


def test_another_scale_is_measured(truth: tuple[np.ndarray, np.ndarray]) -> None:
    flags, scores = truth
    old, new = graded(flags, scores), graded(flags, 10 + 0.8 * scores)
    table = bridge_table(drawn(old), ("old", old), ("new", new), FAST)
    slope, shift = cell(table, "slope", "first_score"), cell(table, "shift", "first_score")
    assert slope["estimate"] == pytest.approx(0.8)
    assert shift["estimate"] == pytest.approx((10 - 0.2 * scores).mean())
    assert shift["low"] < shift["estimate"] < shift["high"]


def test_weights_make_it_that_of_the_population(truth: tuple[np.ndarray, np.ndarray]) -> None:
    flags, scores = truth
    old, new = graded(flags, scores), graded(np.zeros(N, bool), scores)
    sample = drawn(old).assign(weight=np.where(flags, 1.0, 9.0))
    found = cell(
        bridge_table(sample, ("old", old), ("new", new), FAST), "only_old", "multi_attempt"
    )
    assert found["estimate"] == pytest.approx(flags.sum() / (flags.sum() + 9 * (~flags).sum()))


def test_a_slope_is_that_of_least_squares() -> None:
    rng = np.random.default_rng(1)
    ratings = rng.uniform(0, 100, (50, 2))
    expected = np.polyfit(ratings[:, 0], ratings[:, 1], 1)[0]
    assert regression_slope(ratings, np.ones(50)) == pytest.approx(expected)
    assert np.isnan(regression_slope(np.ones((5, 2)), np.ones(5)))


def test_rates_are_those_that_the_old_judge_would_have_found() -> None:
    rng = np.random.default_rng(2)
    n = 2000
    old_flags = rng.random(n) < 0.1
    new_flags = np.where(old_flags, rng.random(n) < 0.6, rng.random(n) < 0.05)
    attempts = [[50.0, 60.0] if flag else [50.0] for flag in new_flags]
    arm = scores_of(attempts, per_latent=10)
    sampled = np.sort(rng.choice(n, 500, replace=False))
    old = scores_of([[50.0, 60.0] if flag else [50.0] for flag in old_flags], per_latent=10)
    old = old.iloc[sampled].reset_index(drop=True)
    old = old.assign(trial_id="m/steered/" + old["trial_id"])
    (row,) = rates_on_the_old_scale(arm, drawn(old, n / 500), ("old", old), "new", 0.95).to_dict(
        "records"
    )
    assert row["low"] < old_flags.mean() < row["high"]
    assert (row["arm"], row["n"], row["statistic"]) == ("m/steered", 500, "rate_on_old_scale")
    assert abs(row["estimate"] - old_flags.mean()) < abs(
        new_flags.mean() - old_flags.mean()
    ) or row["estimate"] == pytest.approx(old_flags.mean(), abs=0.02)


def test_scores_of_other_trials_are_refused(truth: tuple[np.ndarray, np.ndarray]) -> None:
    table = graded(*truth)
    with pytest.raises(EsrError, match="scores by new are not those of the sample"):
        bridge_table(drawn(table), ("old", table), ("new", table[::-1]), FAST)


def test_the_default_is_from_the_second_judge_to_the_primary_one() -> None:
    config = load_study()
    assert config.bridge == (config.judging.second, config.judging.primary)
    with pytest.raises(EsrError, match=r"agreement\.bridge: no such judges: \['nobody'\]"):
        load_study({"agreement": {"bridge": ["nobody", config.judging.primary]}})

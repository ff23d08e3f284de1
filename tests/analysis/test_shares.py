"""Trends over the share of self-corrections, with trainings as a random factor."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from esr.analysis.claims import Finding, Region, decide
from esr.analysis.shares import (
    share_differences,
    share_peaks,
    share_trends,
    training_noise,
    with_share,
)
from esr.config import FineTuned, StatisticsConfig
from helpers.arms import FAST, LATENTS, PER_LATENT, arm

QUICK = StatisticsConfig(bootstrap=100)

BOTH = pd.concat([arm(0), arm(PER_LATENT)], ignore_index=True)
"""Every trial without and, below, with a second attempt."""


def stacked(shares: dict[int, Any]) -> pd.DataFrame:
    """Scores of all models; a table alone is one training, and share 0 is the base."""
    parts = []
    for share, tables in shares.items():
        for number, table in enumerate(tables if isinstance(tables, list) else [tables], 1):
            named = table.assign(trial_id=f"{share}-{number}-" + table["trial_id"])
            parts.append(named.assign(share=share, training=number if share else 0))
    return pd.concat(parts, ignore_index=True)


def statistic(shares: dict[int, Any], measure: str, name: str) -> Any:
    table = share_trends(stacked(shares), FAST, [measure])
    return table[table["statistic"].eq(name)].iloc[0]


def model(chance: float, rng: np.random.Generator) -> pd.DataFrame:
    """A model that restarts with this chance, give or take what its latents add."""
    chances = np.clip(chance + 0.05 * rng.standard_normal(LATENTS), 0, 1)
    restarts = rng.random((LATENTS, PER_LATENT)) < chances[:, None]
    rows = np.arange(restarts.size) + restarts.size * restarts.ravel()
    return BOTH.iloc[rows].reset_index(drop=True)


def study(slope: float, trainings: int, seed: int, between: float = 0.12) -> pd.DataFrame:
    """Restarts at shares 10 to 90: 0.3 + slope (share - 50), and the luck of each training."""
    rng = np.random.default_rng(seed)
    shares: dict[int, Any] = {0: arm(0)}
    for share in (10, 50, 90):
        chance = 0.35 + slope * (share - 50)
        shares[share] = [
            model(chance + between * rng.standard_normal(), rng) for _ in range(trainings)
        ]
    return stacked(shares)


class TestTrends:
    def test_a_planted_rise_is_a_rank_correlation_of_one(self) -> None:
        shares = {0: arm(0), 10: arm(2), 50: arm(5), 90: arm(8)}
        rank = statistic(shares, "mean_attempts", "rank_correlation")
        assert (rank["value"], rank["low"], rank["high"]) == (1, 1, 1)
        slope = statistic(shares, "mean_attempts", "slope")
        # Least squares of 1.0, 1.2, 1.5, 1.8 on 0, 1, 5, 9 (tens of percent), by hand.
        assert slope["value"] == pytest.approx(4.275 / 50.75)

    def test_a_plateau_rises_over_all_shares_and_not_in_their_upper_half(self) -> None:
        shares = {0: arm(0), 10: arm(2), 50: arm(6), 70: arm(6), 90: arm(6)}
        assert statistic(shares, "multi_attempt_rate", "slope")["low"] != 0
        upper = statistic(shares, "multi_attempt_rate", "slope_upper")
        assert upper["value"] == pytest.approx(0)

    def test_where_nothing_ever_restarts_there_is_no_trend_and_no_error(self) -> None:
        shares = {0: arm(0), 10: arm(0), 90: arm(0)}
        for name in ("rank_correlation", "slope", "slope_upper"):
            assert statistic(shares, "success_rate", name)["status"] == "undefined"
            status = statistic(shares, "mean_attempts", name)["status"]
            assert status in ("no_variation", "undefined")

    def test_a_base_that_never_restarts_has_no_say_in_the_success_rate(self) -> None:
        shares = {0: arm(0), 10: arm(2), 50: arm(5), 90: arm(8)}
        rank = statistic(shares, "success_rate", "rank_correlation")
        assert rank["status"] == "no_variation"
        assert pd.isna(rank["value"])


class TestOneTraining:
    """What one training a share cannot show: that another one would have gone the same way."""

    SHARES = {0: arm(0), 10: arm(2), 50: arm(5), 90: arm(8)}  # noqa: RUF012

    @pytest.mark.parametrize("name", ["rank_correlation", "slope", "slope_upper"])
    def test_its_trends_have_a_status_and_no_p_value(self, name: str) -> None:
        shares = dict(self.SHARES) | {90: study(0, 1, 3).query("share == 90")}
        row = statistic(shares, "mean_attempts", name)
        assert row["status"] == "one_training"
        assert np.isnan(row["p_value"])

    def test_no_claim_is_confirmed_on_the_strength_of_it(self) -> None:
        row = statistic(self.SHARES, "mean_attempts", "rank_correlation")
        finding = Finding(row["value"], row["low"], row["high"], status=row["status"])
        verdict, reason = decide(finding, Region(0.8, 1))
        assert verdict == "undecided"
        assert "one_training" in reason

    def test_nor_is_a_peak(self) -> None:
        peak = share_peaks(stacked(self.SHARES), FAST, ["mean_attempts"]).iloc[0]
        assert (peak["value"], peak["status"]) == (90, "one_training")

    def test_its_difference_from_the_base_is_that_of_the_model_as_trained(self) -> None:
        rows = share_differences(stacked(self.SHARES), FAST, ["multi_attempt_rate"])
        assert rows["value"].tolist() == pytest.approx([20, 50, 80])
        assert rows["share"].tolist() == [10, 50, 90]


class TestSeveralTrainings:
    def rows(self, slope: float, studies: int, **how: Any) -> pd.DataFrame:
        found = [
            share_trends(study(slope, 3, seed, **how).query("share > 0"), QUICK, ["mean_attempts"])
            for seed in range(studies)
        ]
        table = pd.concat(found)
        assert table["status"].eq("ok").all()
        return table

    def test_trainings_that_differ_without_a_trend_seldom_show_one(self) -> None:
        """Null: the spread between trainings alone would pass for a trend over latents."""
        table = self.rows(0, 30)
        slopes = table[table["statistic"].eq("slope")]
        covered = slopes["low"].le(0) & slopes["high"].ge(0)
        assert covered.mean() >= 0.86  # at least 26 of 30 at 95 %
        assert slopes["p_value"].lt(0.05).mean() <= 0.13

    def test_the_same_data_without_the_noise_would_show_one_often(self) -> None:
        """As the rows were before trainings counted: a study of one training, over latents."""
        found = [
            share_trends(study(0, 1, seed).query("share > 0"), QUICK, ["mean_attempts"])
            for seed in range(20)
        ]
        slopes = pd.concat(found).query("statistic == 'slope'")
        assert (slopes["low"].gt(0) | slopes["high"].lt(0)).mean() > 0.3

    def test_a_trend_beyond_the_spread_is_found_with_its_slope(self) -> None:
        table = self.rows(0.006, 12, between=0.05)
        slopes = table[table["statistic"].eq("slope")]
        assert slopes["p_value"].lt(0.05).mean() >= 0.8
        assert slopes["value"].mean() == pytest.approx(0.06, abs=0.01)  # per 10 points
        covered = slopes["low"].le(0.06) & slopes["high"].ge(0.06)
        assert covered.mean() >= 0.75  # at least 9 of 12 at 95 %

    def test_the_difference_from_the_base_carries_the_spread(self) -> None:
        scores = study(0, 3, 1)
        scores["prompt_id"] = "p" + (scores["seed"] % 20).astype(str)  # not the three of `arm`
        rows = share_differences(scores, FAST, ["multi_attempt_rate"]).set_index("share")
        assert rows["n_sets"].eq(3).all()
        alone = scores.query("training < 2")
        one = share_differences(alone, FAST, ["multi_attempt_rate"]).set_index("share")
        assert (rows["high"] - rows["low"]).mean() > (one["high"] - one["low"]).mean()

    def test_the_peak_is_that_of_the_mean_and_its_interval_carries_the_spread(self) -> None:
        shares = {0: arm(0), 10: [arm(1), arm(2)], 50: [arm(9), arm(4)], 90: [arm(6), arm(5)]}
        peak = share_peaks(stacked(shares), FAST, ["mean_attempts"]).iloc[0]
        assert (peak["value"], peak["status"]) == (50, "sparse")  # latents do not differ
        assert peak["low"] < 50 or peak["high"] > 50

    def test_trainings_that_agree_exactly_add_nothing(self) -> None:
        curve, shares = np.array([0.0, 1, 1, 2, 2]), np.array([0.0, 10, 10, 90, 90])
        noise = training_noise(curve, shares, shares > 0, 50, 0)
        assert noise is not None
        assert not noise.any()

    def test_the_noise_of_a_slope_is_students_t_and_the_base_has_none(self) -> None:
        """Golden: pooled sd of (1, 3) and (2, 6) is sqrt(5) with 2 degrees of freedom."""
        curve, shares = np.array([0.0, 1, 3, 2, 6]), np.array([0.0, 10, 10, 90, 90])
        noise = training_noise(curve, shares, shares > 0, 40_000, 0)
        assert noise is not None
        assert not noise[:, 0].any()
        ends = np.quantile(noise[:, 1] + noise[:, 3], [0.025, 0.975])
        # sqrt(5) sqrt(2) times the quantile 4.303 of t with 2 degrees of freedom
        assert ends == pytest.approx([-13.6, 13.6], rel=0.06)


def test_models_are_found_by_share_and_training_and_others_left_out() -> None:
    made = {
        "m+sc10": FineTuned("m", 10),
        "m+sc10-2": FineTuned("m", 10, 2),
        "other+sc10": FineTuned("other", 10),
    }
    scores = pd.concat([arm(1).assign(model=name) for name in ["m+sc10-2", "m", *made]])
    places = with_share(scores.drop_duplicates(["model", "trial_id"]), "m", made)
    found = places.drop_duplicates("model")[["model", "share", "training"]].to_numpy().tolist()
    assert found == [["m", 0, 0], ["m+sc10", 10, 1], ["m+sc10-2", 10, 2]]

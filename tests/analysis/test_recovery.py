"""esr.analysis.recovery: last attempts against a redraw from the same latent."""

import numpy as np
import pandas as pd
import pytest

from esr.analysis.recovery import recovery, redraw_null
from esr.errors import EsrError
from helpers.scores import scores_of


def by_hand(scores: pd.DataFrame) -> pd.DataFrame:
    """The null of every trial, by two loops."""
    rows = []
    for i, trial in scores.iterrows():
        same = scores["latent"].eq(trial["latent"]) & scores["status"].eq("ok")
        pool = scores[same & (scores.index != i)]["first_score"].astype(float)
        if trial["status"] != "ok" or not trial["multi_attempt"] or pool.empty:
            rows.append((np.nan, np.nan))
            continue
        rows.append(((pool > trial["first_score"]).mean(), pool.mean() - trial["first_score"]))
    return pd.DataFrame(rows, columns=["null_success", "null_change"], index=scores.index)


def study(seed: int, gain: float | None, latents: int = 40, per_latent: int = 12) -> pd.DataFrame:
    """Trials whose restarts follow low first scores.

    gain None: the last attempt is a new draw from the latent (pure regression to the mean); else
    the last score is that draw plus `gain` points.
    """
    rng = np.random.default_rng(seed)
    mean = np.repeat(rng.uniform(25, 75, latents), per_latent)
    first, again = (np.clip(rng.normal(mean, 25), 0, 100).round() for _ in range(2))
    restarts = rng.random(len(mean)) < 0.3 * (first < 50)
    last = np.clip(again + (gain or 0), 0, 100)
    attempts = [[a, b] if r else [a] for a, b, r in zip(first, last, restarts, strict=True)]
    prompts = [f"p{(7 * i) % 24}" for i in range(len(mean))]
    return scores_of(attempts, per_latent=per_latent, prompt_id=prompts)


class TestNull:
    def test_it_is_the_mean_over_the_other_trials_of_the_latent(self) -> None:
        scores = study(3, None, 9, 7)
        scores.loc[::5, "status"] = "refused"
        scores.loc[::5, scores.columns[6:12]] = pd.NA
        pd.testing.assert_frame_equal(redraw_null(scores), by_hand(scores))

    def test_a_latents_only_trial_has_no_null_and_is_counted_as_dropped(self) -> None:
        scores = scores_of([[20.0, 80], [30, 90], [40], [10, 60]], per_latent=3)
        table = recovery(scores).set_index("measure")
        assert table["n_dropped"].eq(1).all()
        assert table.loc["success_rate", "n"] == 2
        assert table.loc["msi", "n"] == 3

    def test_golden_values(self) -> None:
        # Latent 0: first 20, 40, 60; the first trial restarts to 50. Redrawn it gets 40 or 60.
        scores = scores_of([[20.0, 50], [40], [60], [50], [50, 40], [70]], per_latent=3)
        table = recovery(scores).set_index("measure")
        success = table.loc["success_rate"]
        assert (success["observed"], success["null"]) == (50, (100 + 50) / 2)
        assert table.loc["msi", "null"] == pytest.approx((30 + 10) / 6)
        assert table.loc["msi", "observed"] == pytest.approx((30 - 10) / 6)
        assert table.loc["esr_rate", "excess"] == pytest.approx((100 - 100 + 0 - 50) / 6)

    def test_a_boost_is_redrawn_from_itself(self) -> None:
        attempts: list[list[float] | None] = [[20, 50], [40], [60], [80]]
        scores = scores_of(attempts, per_latent=4, boost=[1.0, 1.0, 2.0, 2.0])
        assert redraw_null(scores)["null_change"].iloc[0] == 20
        assert redraw_null(scores, ["latent"])["null_change"].iloc[0] == 40

    def test_a_pool_that_is_no_column_is_refused(self) -> None:
        with pytest.raises(EsrError, match="'layer'"):
            recovery(study(0, None), pool=["latent", "layer"])

    def test_no_restart_leaves_success_undefined(self) -> None:
        table = recovery(scores_of([[20.0]] * 40)).set_index("measure")
        assert table.loc["success_rate", "status"] == "undefined"
        assert np.isnan(table.loc["success_rate", ["observed", "p_value"]].astype(float)).all()
        assert table.loc["msi", "status"] == "no_variation"
        assert table.loc["msi", "low"] < 0 < table.loc["msi", "high"]


def drawn(scores: pd.DataFrame, share: float, seed: int) -> pd.DataFrame:
    """All restarts and a share of the other trials, with sampling weights."""
    several = scores["multi_attempt"].to_numpy(bool)
    chosen = several | (np.random.default_rng([seed, 1]).random(len(scores)) < share)
    weight = np.where(several, 1.0, (~several).sum() / (chosen & ~several).sum())
    return scores.assign(weight=weight)[chosen].reset_index(drop=True)


class TestSamples:
    def test_a_trial_stands_for_as_many_as_its_weight(self) -> None:
        # Three sampled trials, of which the second stands for three: as if it were there thrice.
        few = scores_of([[20.0, 50], [40], [60]], per_latent=3, weight=[1.0, 3.0, 1.0])
        same: list[list[float] | None] = [[20, 50], [40], [40], [40], [60]]
        all_of_them = scores_of(same, per_latent=5)
        null = redraw_null(few)["null_change"].iloc[0]
        assert null == pytest.approx(redraw_null(all_of_them)["null_change"].iloc[0])
        tables = [recovery(each).set_index("measure") for each in (few, all_of_them)]
        for column in ("observed", "null", "excess"):
            assert tables[0][column].tolist() == pytest.approx(tables[1][column].tolist())

    def test_equal_weights_change_nothing(self) -> None:
        scores = study(4, 10, 15, 8)
        plain, equal = (recovery(each) for each in (scores, scores.assign(weight=2.5)))
        values = ["observed", "null", "excess", "p_value"]
        np.testing.assert_allclose(equal[values], plain[values])

    def test_the_null_of_a_sample_is_that_of_all_trials(self) -> None:
        values = []
        for seed in range(25):
            scores = study(seed, None)
            both = scores, drawn(scores, 0.4, seed)
            tables = [recovery(each, n_permutations=99) for each in both]
            values.append([table["excess"].to_numpy() for table in tables])
        everything, sample = np.mean(values, axis=0)
        # Restarts have low first scores: unweighted, the pool of the sample would be too low.
        assert sample == pytest.approx(everything, abs=1.2)
        assert abs(sample[0]) < 1.5


def rejected(gain: float | None, studies: int) -> pd.DataFrame:
    """Share of studies that find an excess: intervals above 0, below 0, and p <= 0.05."""
    parts = []
    for seed in range(studies):
        table = recovery(study(seed, gain), n_permutations=199).set_index("measure")
        flags = {
            "above": table["low"] > 0,
            "below": table["high"] < 0,
            "p": table["p_value"] <= 0.05,
        }
        part = table[["excess", "observed"]].assign(**flags)
        parts.append(part.reset_index())
    return pd.concat(parts).groupby("measure").mean()


class TestOperatingCharacteristics:
    def test_regression_to_the_mean_is_no_recovery(self) -> None:
        found = rejected(None, 200)
        # Most "corrections" improve, and none of it is recovery.
        assert found.loc["success_rate", "observed"] > 65
        assert found["excess"].abs().max() < 0.6
        assert found[["above", "below"]].to_numpy().max() <= 0.055  # 0.025 + 2.7 standard errors
        assert found["p"].max() <= 0.085  # 0.05 + 2.3 standard errors of 200 studies

    def test_planted_recovery_is_found(self) -> None:
        found = rejected(20, 25)
        assert found.loc[["success_rate", "msi"], "above"].min() >= 0.9
        assert found.loc["msi", "p"] >= 0.9

    def test_attempts_worse_than_a_redraw_have_a_negative_excess(self) -> None:
        found = rejected(-20, 25)
        assert found.loc[["success_rate", "msi"], "below"].min() >= 0.9

"""esr.analysis.simulation: studies with known truth."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import special

from esr.analysis.measures import summarise
from esr.analysis.quantiles import logit_normals
from esr.analysis.recovery import recovery
from esr.analysis.simulation import draw_study, second_phase
from esr.analysis.specs import ArmSpec, JudgeSpec, StudySpec
from esr.analysis.statistics import intracluster_correlation
from esr.arms.scores import check_scores

ARM = ArmSpec(multi=0.1, success=0.7, gain=40, loss=10, first=45, extra=0.5)
SPEC = StudySpec(4000, 6, 30, {"steered": ARM}, rho=0.15, rho_prompt=0)

VERSIONS = {
    "a": ArmSpec(multi=0.2, extra=0.4),
    "set": ArmSpec(multi=0.2),
    "b": ArmSpec(multi=0.3, low_first=0.5),
}


def primary(spec: StudySpec, seed: int = 0, arm: str = "steered") -> pd.DataFrame:
    return draw_study(spec, seed)["primary"][arm]


class TestTruth:
    def test_measures_recover_what_was_planted(self) -> None:
        table = summarise(primary(SPEC))
        found = table.set_index("measure")["estimate"]
        assert found["multi_attempt_rate"] == pytest.approx(10, abs=0.7)
        assert found["success_rate"] == pytest.approx(70, abs=3)
        assert found["msi"] == pytest.approx(ARM.msi, abs=0.25)
        assert found["first_score"] == pytest.approx(45, abs=1)
        assert found["mean_attempts"] == pytest.approx(1 + 0.1 * 1.5, abs=0.015)

    @pytest.mark.parametrize("rho", [0.0, 0.1, 0.3])
    def test_restarts_have_the_planted_intra_latent_correlation(self, rho: float) -> None:
        scores = primary(replace(SPEC, rho=rho))
        values = scores["multi_attempt"].to_numpy(float)
        assert intracluster_correlation(values, scores["latent"]) == pytest.approx(rho, abs=0.03)

    def test_prompts_are_a_second_random_factor(self) -> None:
        spec = replace(SPEC, latents=6000, prompts=120, rho=0, rho_prompt=0.1)
        scores = primary(spec)
        values = scores["multi_attempt"].to_numpy(float)
        assert intracluster_correlation(values, scores["prompt_id"]) == pytest.approx(0.1, abs=0.05)

    def test_scores_are_such_as_a_study_has(self) -> None:
        for first in (2, 26, 50, 92, 99.5):
            scores = primary(StudySpec(300, 5, 30, {"steered": replace(ARM, first=first)}))
            check_scores(scores)
            assert scores["first_score"].mean() == pytest.approx(first, abs=3)

    def test_scores_of_a_low_mean_stay_on_the_scale(self) -> None:
        spec = StudySpec(500, 5, arms={"steered": ArmSpec(multi=0.1, first=26.3)})
        for seed in range(3):
            check_scores(draw_study(spec, seed)["primary"]["steered"])

    def test_each_latent_is_steered_on_different_prompts(self) -> None:
        assert not primary(SPEC).duplicated(["latent", "prompt_id"]).any()


class TestArms:
    def test_replayed_arms_share_the_chance_of_single_trials(self) -> None:
        arms = {"a": ARM, "b": ARM}
        alone, paired = (
            draw_study(replace(SPEC, arms=arms, rho=0, pairing=share), 0)["primary"]
            for share in (0.0, 1.0)
        )
        assert (paired["a"]["multi_attempt"] == paired["b"]["multi_attempt"]).all()
        assert (alone["a"]["multi_attempt"] != alone["b"]["multi_attempt"]).mean() > 0.15

    def test_the_same_seed_is_the_same_study(self) -> None:
        pd.testing.assert_frame_equal(primary(SPEC, 5), primary(SPEC, 5))
        assert (primary(SPEC, 5)["last_score"] != primary(SPEC, 6)["last_score"]).any()


class TestVersions:
    """Random sets of latents: arms whose rate each study draws."""

    SPEC = StudySpec(12, 6, 30, VERSIONS, rho=0.15)

    def test_an_arm_without_spread_is_drawn_as_before_there_was_one(self) -> None:
        drawn = draw_study(replace(self.SPEC, arms={arm: VERSIONS[arm] for arm in "ab"}), [3, 1])
        sums = [
            [table["multi_attempt"].sum(), table["first_score"].sum(), table["last_score"].sum()]
            for table in drawn["primary"].values()
        ]
        assert sums[0] == pytest.approx([14, 3838.559225, 4005.022644])
        assert sums[1] == pytest.approx([22, 3779.860083, 3945.458742])

    def test_a_spread_changes_the_restarts_of_its_arm_alone(self) -> None:
        before, after = (
            draw_study(spec, 5)["primary"]
            for spec in (self.SPEC, self.SPEC.changed("set", spread=1.0))
        )
        for arm in ("a", "b"):
            pd.testing.assert_frame_equal(before[arm], after[arm])
        assert (before["set"]["first_score"] == after["set"]["first_score"]).all()
        assert (before["set"]["multi_attempt"] != after["set"]["multi_attempt"]).any()

    def test_rates_of_versions_have_the_planted_mean_and_spread(self) -> None:
        at = np.random.default_rng(0).normal(size=20000)
        for mean, spread in ((0.02, 0.3), (0.18, 0.55), (0.3, 1.0)):
            rates = logit_normals(mean, spread, at)
            assert rates.mean() == pytest.approx(mean, rel=0.02)
            assert special.logit(rates).std() == pytest.approx(spread, rel=0.02)

    def test_each_study_and_each_arm_draws_a_version_of_its_own(self) -> None:
        arm = ArmSpec(multi=0.3, spread=0.5)
        spec = StudySpec(400, 6, 30, {"set-0": arm, "set-1": arm}, rho=0, rho_prompt=0)
        drawn = [draw_study(spec, seed)["primary"].values() for seed in range(40)]
        odds = special.logit([[table["multi_attempt"].mean() for table in each] for each in drawn])
        assert odds.std(axis=0) == pytest.approx([0.5, 0.5], rel=0.25)
        assert abs(np.corrcoef(odds.T)[0, 1]) < 0.35


class TestRecovery:
    def test_a_new_draw_succeeds_in_half_of_the_restarts_if_these_have_no_preference(self) -> None:
        found = _recovery(replace(ARM, redraw=True))
        assert found["null"] == pytest.approx(50, abs=2)
        assert found["excess"] == pytest.approx(0, abs=2)

    def test_restarts_that_prefer_low_scores_make_a_new_draw_succeed_more_often(self) -> None:
        found = _recovery(replace(ARM, redraw=True, low_first=0.75))
        assert found["null"] == pytest.approx(62.5, abs=2)
        assert found["excess"] == pytest.approx(0, abs=2)

    def test_the_preference_leaves_the_rate_of_restarts(self) -> None:
        rates = [
            primary(replace(SPEC, arms={"steered": arm}))["multi_attempt"].mean()
            for arm in (ARM, replace(ARM, low_first=0.75))
        ]
        assert rates[1] == pytest.approx(rates[0], abs=0.01)


def _recovery(arm: ArmSpec) -> pd.Series:
    scores = primary(StudySpec(1500, 12, 30, {"steered": arm}, rho=0))
    return recovery(scores, n_permutations=9).set_index("measure").loc["success_rate"]


class TestSecondPhase:
    def test_weights_add_up_to_the_trials_of_every_arm(self) -> None:
        spec = replace(SPEC, latents=60, arms={"a": ARM, "b": ARM}, sampled=120, per_stratum=30)
        tables = list(draw_study(spec, 1)["primary"].values())
        weights = second_phase(tables, spec, 1)
        assert [each.sum() for each in weights] == pytest.approx([360, 360])
        assert sum((each > 0).sum() for each in weights) == pytest.approx(240, abs=2)
        flagged = tables[0]["multi_attempt"].to_numpy(bool)
        assert weights[0][flagged].max() < weights[0][~flagged].max(), "rare trials come first"

    def test_the_same_trials_are_drawn_in_arms_that_replay_each_other(self) -> None:
        quiet = replace(ARM, multi=0.0)
        spec = replace(SPEC, latents=60, arms={"a": quiet, "b": quiet}, sampled=100)
        first, second = second_phase(list(draw_study(spec, 1)["primary"].values()), spec, 1)
        assert (first == second).all()


class TestJudges:
    def test_judges_err_as_planted_and_by_arm(self) -> None:
        judge = JudgeSpec({"a": 0.9, "b": 0.5}, 0.98)
        spec = replace(SPEC, arms={"a": ARM, "b": ARM}, judges={"primary": judge})
        for arm, sensitivity in (("a", 0.9), ("b", 0.5)):
            scores = primary(spec, arm=arm)
            truth, flag = scores["truly_multi"], scores["multi_attempt"]
            assert flag[truth].mean() == pytest.approx(sensitivity, abs=0.03)
            assert (~flag[~truth]).mean() == pytest.approx(0.98, abs=0.01)

    def test_judges_may_err_in_the_same_responses(self) -> None:
        errs = JudgeSpec(0.7, 0.95)
        spec = replace(SPEC, judges={"primary": errs, "second": errs})
        shares = []
        for common in (0.0, 0.5, 1.0):
            drawn = draw_study(replace(spec, common=common), 0)
            flags = [drawn[name]["steered"]["multi_attempt"] for name in ("primary", "second")]
            truth = drawn["primary"]["steered"]["truly_multi"]
            missed = [truth & ~flag for flag in flags]
            assert [each.sum() / truth.sum() for each in missed] == pytest.approx(
                [0.3] * 2, abs=0.03
            )
            shares.append((missed[0] & missed[1]).sum() / missed[0].sum())
        assert shares == pytest.approx([0.3, 0.65, 1.0], abs=0.04)

    def test_attempts_that_are_not_there_improve_half_of_the_time(self) -> None:
        spec = replace(SPEC, judges={"primary": JudgeSpec(1, 0.9)})
        scores = primary(spec)
        false = scores[~scores["truly_multi"] & scores["multi_attempt"]]
        assert false["improved"].mean() == pytest.approx(0.5, abs=0.05)
        assert np.mean(false["score_change"]) == pytest.approx(0, abs=2)

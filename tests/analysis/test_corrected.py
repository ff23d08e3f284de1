"""esr.analysis.corrected: rates corrected for the judge's error from a second phase."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from esr.analysis.corrected import (
    corrected_difference,
    judge_errors,
    prediction_powered,
    pseudo_values,
    raw_rate,
    rogan_gladen,
    rogan_gladen_pooled,
)
from esr.analysis.two_phase import TwoPhase, stack, two_phase
from esr.errors import EsrError
from helpers.scores import scores_of
from helpers.two_phase import draw_phases, two_arms

NAN = np.nan


def phase_of(primary: list[float], reference: list[float], weights: list[float]) -> TwoPhase:
    """Independent trials: every one has a latent and a prompt of its own."""
    own = np.arange(len(primary))
    return TwoPhase(np.array(primary), np.array(reference), np.array(weights), own, own)


def graded() -> TwoPhase:
    """100 trials, 20 flagged; all flagged and every fourth other one are graded again.

    16 of the 20 are real, and 2 of the 20 others that were graded: each stands for 4.
    """
    primary = [1.0] * 20 + [0.0] * 80
    reference = [1.0] * 16 + [0.0] * 4 + [1.0] * 2 + [0.0] * 18 + [NAN] * 60
    return phase_of(primary, reference, [1.0] * 20 + [4.0] * 20 + [NAN] * 60)


class TestEstimates:
    def test_errors_of_the_judge_are_weighted(self) -> None:
        errors = judge_errors(graded())
        assert errors.sensitivity == pytest.approx(16 / (16 + 2 * 4))
        assert errors.specificity == pytest.approx(18 * 4 / (18 * 4 + 4))
        assert graded().positives == 18

    def test_both_corrections_find_the_rate_that_the_reference_would(self) -> None:
        # 16 flagged ones and 8 that the two unflagged ones stand for.
        assert raw_rate(graded()).value == pytest.approx(0.20)
        assert rogan_gladen(graded()).value == pytest.approx(0.24)
        assert prediction_powered(graded(), tuning=1).value == pytest.approx(0.24)
        assert rogan_gladen_pooled(graded(), judge_errors(graded())).value == pytest.approx(0.24)

    def test_rogan_and_gladens_own_formula(self) -> None:
        phase = graded()
        errors = judge_errors(phase)
        expected = (0.2 + errors.specificity - 1) / (errors.sensitivity + errors.specificity - 1)
        assert rogan_gladen(phase).value == pytest.approx(expected)

    def test_half_of_a_rare_rate_may_be_false_alarms(self) -> None:
        # 2 % false alarms among 10,000 trials of which 1.84 % restart: 3.8 % are flagged.
        primary = [1.0] * 380 + [0.0] * 9620
        reference = [1.0] * 184 + [0.0] * 196 + [0.0] * 500 + [NAN] * 9120
        weights = [1.0] * 380 + [9620 / 500] * 500 + [NAN] * 9120
        found = rogan_gladen(phase_of(primary, reference, weights))
        assert raw_rate(phase_of(primary, reference, weights)).value == pytest.approx(0.038)
        assert found.value == pytest.approx(0.0184)
        # No miss among 500 leaves up to 0.8 % that were missed.
        assert 0.024 < found.interval.high < 0.029

    def test_a_perfect_judge_is_left_alone(self) -> None:
        primary = [1.0] * 30 + [0.0] * 70
        phase = phase_of(primary, primary, [1.0] * 100)
        for estimate in (rogan_gladen(phase), prediction_powered(phase)):
            assert estimate.value == pytest.approx(0.3)
        assert prediction_powered(phase).interval == pytest.approx(
            raw_rate(phase).interval, rel=0.02
        )

    def test_ppi_python_agrees_where_trials_are_independent(self) -> None:
        # ppi-python 0.2.3, ppi_mean_pointestimate and ppi_mean_ci with lam=1: 0.296875 and
        # [0.20620, 0.38755] (normal quantile). It predicts on the unlabelled alone, so that its
        # lambda of 1 is 1 / (share unlabelled) here.
        rng = np.random.default_rng(5)
        f = (rng.random(400) < 0.2).astype(float)
        y = np.where(rng.random(400) < 0.85, f, 1 - f)
        y[80:] = NAN
        scale = 100  # scores, so that the interval is Student's and not Wilson's
        phase = phase_of(list(scale * f), list(scale * y), [5.0] * 80 + [NAN] * 320)
        found = prediction_powered(phase, tuning=1.25)
        assert found.value / scale == pytest.approx(0.296875)
        ends = found.interval.scaled(1 / scale)
        assert ends == pytest.approx((0.20620, 0.38755), abs=0.002)
        assert np.nanmean(pseudo_values(phase, 1.25)) == pytest.approx(found.value)

    def test_few_positives_are_named(self) -> None:
        phase = phase_of([1.0, 1.0] + [0.0] * 48, [1.0] + [0.0] * 49, [1.0] * 50)
        assert rogan_gladen(phase).status == "few_positives"
        assert prediction_powered(phase).status == "few_positives"

    def test_a_judge_without_information_corrects_nothing(self) -> None:
        phase = phase_of([1.0, 0.0] * 20, [1.0, 1.0, 0.0, 0.0] * 10, [1.0] * 40)
        found = rogan_gladen_pooled(phase, judge_errors(phase))
        assert found.status == "undefined"
        assert np.isnan(found.value)


class TestTables:
    def test_scores_and_second_phase_are_paired_by_trial(self) -> None:
        primary = scores_of([[20, 60], [30], [40], None, [10]])
        second = scores_of([[20], [30], [40, 50], [1], [10]])[2:4].assign(weight=3.0)
        phase = two_phase(primary, second.iloc[::-1])
        np.testing.assert_array_equal(phase.primary, [1, 0, 0, NAN, 0])
        np.testing.assert_array_equal(phase.reference, [NAN, NAN, 1, 0, NAN])
        assert phase.sampled.tolist() == [False, False, True, False, False]
        assert phase.latent.tolist() == [0, 0, 1, 1, 2]

    def test_trials_of_another_arm_and_samples_without_weights_are_refused(self) -> None:
        primary = scores_of([[20, 60], [30]])
        with pytest.raises(EsrError, match="`weight`"):
            two_phase(primary, primary)
        other = primary.assign(weight=1.0, trial_id=["t0", "t9"])
        with pytest.raises(EsrError, match="1 trials of the second phase are not in the arm"):
            two_phase(primary, other)


DIFFERENTIAL = {"steered": (0.9, 0.995), "ablated": (0.5, 0.995)}
"""Ablation garbles the words by which the primary judge knows a restart."""
STUDIES = 400


@pytest.mark.parametrize(
    ("rates", "latents", "trials", "share", "rho"),
    [
        ((0.15, 0.075), 36, 16, 0.2, 0.2),
        ((0.1, 0.1), 36, 16, 0.2, 0.1),
        ((0.074, 0.055), 300, 5, 0.1, 0.1),
    ],
)
def test_differential_errors_bias_the_raw_difference_and_not_the_corrected_one(
    rates: tuple[float, float], latents: int, trials: int, share: float, rho: float
) -> None:
    spec = two_arms(rates, latents, trials, rho)
    true = rates[1] - rates[0]
    held: Counter[str] = Counter()
    effects: Counter[str] = Counter()
    for seed in range(STUDIES):
        base, treated = draw_phases(spec, DIFFERENTIAL, share, seed).values()
        pooled = judge_errors(stack([base, treated]))
        estimates = {
            "raw": (raw_rate(base), raw_rate(treated)),
            "rogan_gladen": (rogan_gladen(base), rogan_gladen(treated)),
            "pooled": tuple(rogan_gladen_pooled(arm, pooled) for arm in (base, treated)),
            "prediction_powered": (prediction_powered(base), prediction_powered(treated)),
        }
        for name, (first, second) in estimates.items():
            ends, _ = corrected_difference(first, second, (base.latent, treated.latent))
            held[name] += ends.low <= true <= ends.high
            held[f"{name} arm"] += second.interval.low <= rates[1] <= second.interval.high
            effects[name] += not ends.low <= 0 <= ends.high
    coverage = {name: count / STUDIES for name, count in held.items()}
    assert coverage["raw arm"] < 0.75
    assert coverage["raw"] < 0.86
    # Errors of all arms together undo the mean error and not the difference between arms.
    assert coverage["pooled"] < 0.92
    for name in ("rogan_gladen", "prediction_powered"):
        assert coverage[f"{name} arm"] >= 0.92
        assert coverage[name] >= 0.92
    if true == 0:
        assert effects["raw"] / STUDIES > 0.5
        assert effects["prediction_powered"] / STUDIES <= 0.085


def test_arms_that_share_latents_have_the_narrower_difference() -> None:
    spec = replace(two_arms((0.15, 0.15), 60, 12, rho=0.4), pairing=1.0)
    base, treated = draw_phases(spec, dict.fromkeys(spec.arms, (0.9, 0.99)), 0.3, 1).values()
    arms = prediction_powered(base), prediction_powered(treated)
    shared, _ = corrected_difference(*arms, (base.latent, treated.latent))
    apart, _ = corrected_difference(*arms, (base.latent, treated.latent + 1000))
    assert shared.high - shared.low < 0.8 * (apart.high - apart.low)

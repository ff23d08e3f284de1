"""esr.analysis.statistics.crossed and contrasts: closed-form intervals with crossed factors."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.regression.linear_model import OLS

from esr.analysis import statistics as es
from esr.analysis.simulation import draw_arm, draw_design
from esr.analysis.specs import ArmSpec, StudySpec
from esr.analysis.statistics.contrasts import (
    Quantity,
    crossed_contrast,
    crossed_interval,
    independent_contrast,
)
from esr.analysis.statistics.crossed import (
    crossed_mean,
    crossed_rate,
    crossed_variance,
    influence,
    influence_correlation,
    mixture_mean,
    mover_difference,
    mover_ratio,
    weighted_mean,
)
from esr.analysis.statistics.intervals import Interval

RATE = Quantity("rate", 0, 100)
CHANGE = Quantity("mixture", -100, 100)


def crossed_codes(latents: int, trials: int, prompts: int, seed: int = 0) -> list[np.ndarray]:
    """Latents on prompts drawn without replacement."""
    order = np.random.default_rng(seed).random((latents, prompts)).argsort(axis=1)
    return [np.repeat(np.arange(latents), trials), order[:, :trials].ravel()]


def events(codes: list[np.ndarray], *where: int) -> np.ndarray:
    values = np.zeros(len(codes[0]))
    values[list(where)] = 1
    return values


class TestVariance:
    def test_one_factor_is_the_cluster_robust_variance(self) -> None:
        codes = crossed_codes(40, 5, 12)[:1]
        values = np.random.default_rng(1).normal(size=40)[codes[0]] + np.arange(200) % 7
        model = OLS(values, np.ones(200))
        options = {"groups": codes[0], "use_correction": False}
        robust = model.fit(cov_type="cluster", cov_kwds=options).bse[0]
        expected = robust**2 * 40 / 39
        assert crossed_variance(influence(values), codes) == pytest.approx(expected)

    def test_two_factors_recover_the_variance_over_new_latents_and_prompts(self) -> None:
        codes = crossed_codes(60, 6, 20)
        means, variances = [], []
        for seed in range(400):
            rng = np.random.default_rng(seed)
            values = rng.normal(0, 1, 60)[codes[0]] + rng.normal(0, 1, 20)[codes[1]]
            values = values + rng.normal(0, 1, 360)
            means.append(values.mean())
            variances.append(crossed_variance(influence(values), codes))
        assert np.mean(variances) == pytest.approx(np.var(means), rel=0.15)

    def test_trials_outside_the_denominator_have_no_influence(self) -> None:
        u = influence(np.array([1.0, np.nan, 3.0]))
        assert u.tolist() == [-0.5, 0, 0.5]


class TestRate:
    def test_independent_trials_of_many_latents_have_wilsons_interval(self) -> None:
        codes = crossed_codes(2000, 1, 30)[:1]
        values = (np.arange(2000) < 80).astype(float)
        found = crossed_rate(values, codes)
        assert found.status == "ok"
        assert found.interval == pytest.approx(es.wilson(80, 2000), abs=2e-4)

    def test_copies_of_a_trial_count_once(self) -> None:
        few = (np.arange(100) < 12).astype(float)
        codes = [np.repeat(np.arange(100), 7)]
        single, copied = crossed_rate(few, [np.arange(100)]), crossed_rate(few.repeat(7), codes)
        assert copied.interval == pytest.approx(single.interval, abs=0.002)

    def test_a_zero_has_one_upper_bound_at_the_design_effect_sample_size(self) -> None:
        codes = crossed_codes(36, 16, 24)
        found = crossed_rate(np.zeros(576), codes)
        effective, t = 576 / (1 + 15 * 0.25), stats.t.ppf(0.975, 23)
        assert found.status == "no_variation"
        assert found.interval == pytest.approx((0, t**2 / (effective + t**2)))
        # Between independent trials (0.7 %) and latents that do not differ (9.6 %).
        assert es.wilson(0, 576).high < found.interval.high < es.wilson(0, 36).high

    @given(st.integers(0, 200))
    def test_it_mirrors_when_events_are_swapped_for_non_events(self, k: int) -> None:
        codes = crossed_codes(40, 5, 12)
        values = events(codes, *range(k))
        low, high = crossed_rate(values, codes).interval
        assert crossed_rate(1 - values, codes).interval == pytest.approx((1 - high, 1 - low))
        assert 0 <= low <= values.mean() <= high <= 1

    @pytest.mark.parametrize(
        ("values", "latents", "status"),
        [
            ([np.nan, np.nan], [0, 1], "undefined"),
            ([0.0, 1.0], [0, 0], "too_few"),
            ([0.0, 1.0, 0.0], [0, 1, 2], "few_clusters"),
            ([1.0] * 9, range(9), "no_variation"),
        ],
    )
    def test_the_status_names_what_is_missing(
        self, values: list[float], latents: list[int], status: str
    ) -> None:
        found = crossed_rate(np.array(values), [np.array(latents)])
        assert found.status == status
        assert np.isnan(found.interval.low) == (status in ("undefined", "too_few"))


class TestMeans:
    def test_a_mean_of_single_trials_has_students_interval(self) -> None:
        values = np.random.default_rng(0).normal(50, 10, 30)
        found = crossed_mean(values, [np.arange(30)]).interval
        assert found == pytest.approx(es.mean_interval(values), rel=0.02)

    def test_a_mean_cannot_leave_the_range_of_its_trials(self) -> None:
        values = np.array([100.0] * 9 + [0])
        assert crossed_mean(values, [np.arange(10)], 0, 100).interval.high == 100

    def test_a_mixture_of_a_constant_excess_is_the_rate_scaled(self) -> None:
        codes = crossed_codes(50, 5, 20)
        values = events(codes, 3, 60, 61, 120, 200, 240)
        low, high = crossed_rate(values, codes).interval
        # Equal excess, so that only its unknown spread within the range adds to the rate's error.
        found = mixture_mean(30 * values, codes, 0, -100, 100).interval
        assert found.low <= 30 * low
        assert found.high >= 30 * high

    def test_no_excess_is_bounded_by_the_rates_zero_times_the_range(self) -> None:
        codes = crossed_codes(36, 16, 24)
        bound = crossed_rate(np.zeros(576), codes).interval.high
        found = mixture_mean(np.zeros(576), codes, 0, -100, 100)
        assert found.interval == pytest.approx((-100 * bound, 100 * bound))
        assert found.status == "no_variation"

    def test_attempts_cannot_fall_below_one(self) -> None:
        codes = crossed_codes(36, 16, 24)
        found = mixture_mean(1 + 2 * events(codes, 5), codes, 1, 1, np.inf)
        assert found.interval.low >= 1
        assert found.interval.high == np.inf  # one response does not bound how many there may be


class TestSamples:
    def test_weights_restore_the_mean_that_they_stand_for(self) -> None:
        values, weights = np.array([1.0, 0.0, 0.0, np.nan]), np.array([1.0, 4.0, 5.0, 9.0])
        assert weighted_mean(values, weights) == 0.1
        assert influence(values, weights) == pytest.approx([0.09, -0.04, -0.05, 0])

    def test_equal_weights_change_no_interval(self) -> None:
        codes = crossed_codes(40, 5, 12)
        values = 100 * events(codes, 3, 60, 61, 120, 130, 199)
        weights = np.full(200, 2.5)
        for quantity in (RATE, CHANGE, Quantity("mean", -100, 100)):
            plain = crossed_interval(values, codes, quantity)
            assert crossed_interval(values, codes, quantity, weights=weights) == (
                pytest.approx(plain.interval),
                plain.status,
            )

    def test_a_weighted_mean_of_single_trials_has_the_linearised_interval(self) -> None:
        # sum w^2 (x - mean)^2 / (sum w)^2 n / (n - 1): Cochran 1977, section 6.4.
        rng = np.random.default_rng(0)
        values, w = rng.normal(50, 10, 60), rng.uniform(1, 5, 60)
        mean = np.average(values, weights=w)
        error = np.sqrt(np.sum((w * (values - mean)) ** 2) / w.sum() ** 2 * 60 / 59)
        found = crossed_mean(values, [np.arange(60)], weights=w).interval
        assert found == pytest.approx(stats.t.interval(0.95, 59, mean, error))

    def test_a_zero_of_a_sample_is_bounded_at_kishs_effective_size(self) -> None:
        weights = np.repeat([1.0, 9.0], 30)
        found = crossed_rate(np.zeros(60), [np.arange(60)], weights=weights)
        effective, t = weights.sum() ** 2 / (weights**2).sum(), stats.t.ppf(0.975, 59)
        assert found.status == "no_variation"
        assert found.interval == pytest.approx((0, t**2 / (effective + t**2)))

    def test_two_samples_are_compared_by_mover(self) -> None:
        codes = crossed_codes(40, 5, 12)
        values = [100 * events(codes, *range(0, 200, step)) for step in (4, 20)]
        weights = np.linspace(1, 3, 200), np.linspace(3, 1, 200)
        found = crossed_contrast(values[0], values[1], codes, RATE, weights=weights)
        ends = [
            crossed_interval(arm, codes, RATE, weights=w).interval
            for arm, w in zip(values, weights, strict=True)
        ]
        means = [weighted_mean(arm, w) for arm, w in zip(values, weights, strict=True)]
        related = influence_correlation(values[0], values[1], codes, weights)
        expected = mover_difference(means[0], ends[0], means[1], ends[1], related)
        assert found.difference == pytest.approx(expected)
        assert found.difference.high < 0


class TestMover:
    @given(st.floats(0.01, 0.5), st.floats(0.01, 0.5))
    def test_a_difference_of_known_and_unknown_has_the_unknowns_width(
        self, base: float, treated: float
    ) -> None:
        found = mover_difference(base, Interval(base, base), treated, Interval(0, 1))
        assert found == pytest.approx((0 - base, 1 - base), abs=1e-9)

    def test_newcombes_own_example(self) -> None:
        # Newcombe 1998, table II, example (a): 56/70 - 48/80, method 10: 0.0524 to 0.3339.
        ends = es.wilson(48, 80), es.wilson(56, 70)
        found = mover_difference(0.6, ends[0], 0.8, ends[1])
        assert found == pytest.approx((0.0524, 0.3339), abs=2e-4)

    @given(st.floats(0.05, 0.5), st.floats(0.05, 0.5), st.floats(-0.8, 0.8))
    def test_the_ratio_holds_the_quotients_whose_difference_holds_zero(
        self, base: float, treated: float, correlation: float
    ) -> None:
        base_ends = Interval(base * 0.6, base * 1.3)
        ends = Interval(treated * 0.7, treated * 1.5)
        for q in mover_ratio(base, base_ends, treated, ends, correlation):
            scaled = Interval(q * base_ends.low, q * base_ends.high)
            edge = mover_difference(q * base, scaled, treated, ends, correlation)
            assert min(abs(edge.low), abs(edge.high)) < 1e-9

    def test_a_baseline_that_may_be_zero_leaves_the_ratio_unbounded(self) -> None:
        low, high = mover_ratio(0.02, Interval(0, 0.1), 0.03, Interval(0.01, 0.1))
        assert high == np.inf
        assert 0 < low < 1.5
        assert np.isnan(mover_ratio(0, Interval(0, 0.1), 0.03, Interval(0.01, 0.1))).all()


class TestContrasts:
    def test_an_arm_against_itself_has_no_difference(self) -> None:
        codes = crossed_codes(36, 16, 24)
        values = 100 * events(codes, 1, 40, 41, 300)
        found = crossed_contrast(values, values, codes, RATE)
        assert found.difference.low < 0 < found.difference.high
        assert found.relative.low < 0 < found.relative.high
        assert found.n_clusters == 36

    def test_arms_with_other_denominators_are_compared_by_mover(self) -> None:
        codes = crossed_codes(40, 5, 12)
        first, second = np.full((2, 200), np.nan)
        first[:80], second[40:160] = 100.0, 100.0
        first[:80:4], second[40:160:2] = 0.0, 0.0
        found = crossed_contrast(first, second, codes, RATE)
        assert found.difference.low < 50 - 75 < found.difference.high < 0
        assert found.n_clusters == 8

    def test_independent_arms_add_their_errors(self) -> None:
        codes = crossed_codes(40, 5, 12)
        first, second = 100 * events(codes, *range(0, 60, 3)), 100 * events(codes, 150)
        found = independent_contrast((first, codes), (second, codes), RATE)
        paired = crossed_contrast(first, second, codes, RATE)
        assert found.difference.high < 0
        assert paired.difference.high < 0
        assert found.relative.high < 0


COVERED = [(12, 8, 0.02, 0.1), (36, 16, 0.01, 0.25), (50, 5, 0.04, 0.1)]


@pytest.mark.parametrize(("latents", "trials", "rate", "rho"), COVERED)
def test_rare_events_in_few_latents_are_covered(
    latents: int, trials: int, rate: float, rho: float
) -> None:
    # benchmarks/coverage.py in small; the percentile bootstrap over latents holds 80-88 % here.
    arm = ArmSpec(multi=rate, success=0.6, gain=40, loss=15)
    arms = {"first": arm, "second": replace(arm, multi=rate / 2)}
    spec = StudySpec(latents, trials, 24, arms, rho=rho, rho_prompt=0, pairing=0.3)
    halved = crossed = differences = changes = 0
    studies = 250
    for seed in range(studies):
        rng = np.random.default_rng(seed)
        design = draw_design(spec, rng)
        first, second = (draw_arm(spec, name, design, rng) for name in arms)
        codes = [design.latent, design.prompt]
        multi = [100.0 * each.multi for each in (first, second)]
        low, high = crossed_rate(multi[0] / 100, codes).interval
        crossed += low <= rate <= high
        found = crossed_contrast(multi[0], multi[1], codes, RATE)
        differences += found.difference.low <= -50 * rate <= found.difference.high
        halved += not (found.relative.high < -0.5 or found.relative.low > -0.5)
        change = mixture_mean(first.last - first.first, codes, 0, -100, 100).interval
        changes += change.low <= arm.msi <= change.high
    # 250 studies: an interval that covers 0.95 falls below 0.92 in 3 %, one of 0.90 in 83 %.
    assert min(crossed, differences, halved, changes) / studies >= 0.92

"""Measures: definitions on hand-made trials, identities, intervals, comparisons, exclusions."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esr.analysis import statistics
from esr.analysis.alternatives import alternatives
from esr.analysis.comparisons import compare, compare_unpaired
from esr.analysis.measures import MEASURES, clusters_of, exclusions, summarise
from esr.analysis.pairing import match_trials
from esr.analysis.statistics.contrasts import crossed_interval
from esr.arms.scores import COLUMNS, GATED, JUDGED, check_scores, degraded, without_degraded
from esr.docs_reference import measures_table
from esr.errors import EsrError
from esr.tables import TABLES
from helpers.checkout import REPO
from helpers.scores import Attempts, scores_of

FAST: dict[str, Any] = {"n_boot": 200}
FEW: dict[str, Any] = {"n_permutations": 999}


def estimates(scores: pd.DataFrame) -> dict[str, float]:
    table = summarise(scores)
    return dict(zip(table["measure"], table["estimate"], strict=True))


# 8 trials, of which one was refused and one has no response at all.
EIGHT: list[Attempts] = [[20], [30, 80], [40, 10, 60], [50, 50], [60, 20], [10], None, None]


def eight() -> pd.DataFrame:
    scores = scores_of(EIGHT)
    scores["restart_detected"] = pd.array([False, True, True, True, False, *[False] * 2, None])
    scores["degraded"] = pd.array([True, *[False] * 6, None])
    scores.loc[7, "status"] = "engine_error"
    return scores


ATTEMPTS = st.none() | st.lists(st.integers(0, 100).map(float), min_size=1, max_size=4)
TRIALS = st.lists(ATTEMPTS, min_size=1, max_size=25)


class TestDefinitions:
    @pytest.mark.parametrize(
        ("measure", "estimate", "n"),
        [
            ("first_score", 210 / 6, 6),
            ("multi_attempt_rate", 100 * 4 / 6, 6),
            ("esr_rate", 100 * 2 / 6, 6),
            ("success_rate", 100 * 2 / 4, 4),
            ("msi", (50 + 20 + 0 - 40) / 6, 6),
            ("msi_multi", (50 + 20 + 0 - 40) / 4, 4),
            ("mean_attempts", 11 / 6, 6),
            ("degraded_rate", 100 / 7, 7),
            ("restart_rate", 100 * 3 / 7, 7),
        ],
    )
    def test_by_hand(self, measure: str, estimate: float, n: int) -> None:
        (row,) = summarise(eight(), [measure]).to_dict("records")
        assert row["estimate"] == pytest.approx(estimate)
        assert row["n"] == n

    def test_the_registry_is_covered_by_hand(self) -> None:
        assert set(estimates(eight())) == set(MEASURES)

    @given(TRIALS)
    @settings(max_examples=40)
    def test_identities(self, attempts: list[Attempts]) -> None:
        found = estimates(scores_of(attempts))
        scored = [each for each in attempts if each]
        multi = [each for each in scored if len(each) > 1]
        if not scored:
            assert all(np.isnan(found[m.name]) for m in MEASURES.values() if m.among != "responded")
            return
        share = found["multi_attempt_rate"] / 100
        assert found["multi_attempt_rate"] == pytest.approx(100 * len(multi) / len(scored))
        if multi:
            assert found["esr_rate"] == pytest.approx(share * found["success_rate"])
            assert found["msi"] == pytest.approx(share * found["msi_multi"])
        else:
            assert (found["esr_rate"], found["msi"]) == (0, 0)
            assert np.isnan([found["success_rate"], found["msi_multi"]]).all()

    def test_a_tie_is_no_improvement_and_the_best_attempt_does_not_count(self) -> None:
        found = estimates(scores_of([[50, 50], [40, 90, 30]]))
        assert found["multi_attempt_rate"] == 100
        assert found["esr_rate"] == 0

    def test_a_trial_without_a_score_is_not_a_zero(self) -> None:
        with_failures = estimates(scores_of([[20], [30, 80], None, None, None]))
        assert with_failures["first_score"] == 25
        assert with_failures["msi"] == 25

    def test_scores_table_has_the_columns_that_are_measured(self) -> None:
        assert set(COLUMNS) <= set(TABLES["scores"].columns)


def test_gated_rates_count_gated_flags_among_scored_trials() -> None:
    scores = eight()
    scores.loc[[1, 2], "gated_multi_attempt"] = True
    scores.loc[1, "gated_improved"] = True
    found = estimates(scores)
    assert found["gated_multi_attempt_rate"] == pytest.approx(100 * 2 / 6)
    assert found["gated_esr_rate"] == pytest.approx(100 * 1 / 6)
    assert found["multi_attempt_rate"] == pytest.approx(100 * 4 / 6)


@pytest.mark.parametrize(
    ("column", "trial", "problem"),
    [
        ("gated_multi_attempt", 0, "gated_multi_attempt without multi_attempt"),
        ("gated_improved", 1, "gated_improved without gated_multi_attempt"),
        ("gated_improved", 6, "status is not ok but gated_improved has a value"),
    ],
)
def test_gated_flags_that_contradict_the_others_are_refused(
    column: str, trial: int, problem: str
) -> None:
    scores = eight()
    scores.loc[trial, column] = True
    with pytest.raises(EsrError, match=problem):
        check_scores(scores)


def test_the_method_page_defines_every_measure_and_status() -> None:
    page = (Path(__file__).parents[2] / "docs" / "method.md").read_text()
    statuses = ["ok", "undefined", "too_few", "few_clusters", "no_variation", "sparse"]
    for name in [*MEASURES, *statuses]:
        assert f"\n| `{name}` |" in page or f"\n| `{name}`, " in page, name


class TestDegraded:
    @pytest.mark.parametrize(
        ("response", "expected"),
        [
            ("go go go go go", True),
            ("first go go\ngo\tgo go then stop", True),
            ("go go go go", False),
            ("go go go Go go go", False),
            ("a a a a a a a", False),
            ("go go stop go go go", False),
            ("", False),
        ],
    )
    def test_a_word_five_times_in_a_row(self, response: str, expected: bool) -> None:
        assert degraded(response) is expected

    def test_taking_them_out_leaves_them_counted(self) -> None:
        scores = eight()
        kept = without_degraded(scores)
        check_scores(kept)
        assert len(kept) == len(scores)
        assert kept["status"].tolist().count("degraded") == 1
        found = estimates(kept)
        assert found["first_score"] == pytest.approx(190 / 5)
        assert found["restart_rate"] == pytest.approx(100 * 3 / 6)
        assert found["degraded_rate"] == pytest.approx(100 / 7)

    def test_a_degraded_trial_that_failed_anyway_keeps_its_reason(self) -> None:
        scores = scores_of([None, [10]], degraded=pd.array([True, False], "boolean"))
        assert without_degraded(scores)["status"].tolist() == ["refused", "ok"]


def many(rate: int = 25, latents: int = 40) -> pd.DataFrame:
    """Five trials a latent on 20 prompts; every `rate`-th is 50 points better at the end."""
    n = 5 * latents
    attempts: list[Attempts] = [[10.0, 60.0] if i % rate == 3 else [50.0] for i in range(n)]
    return scores_of(attempts, per_latent=5, prompt_id=[f"p{7 * i % 20:02d}" for i in range(n)])


class TestSummaries:
    @pytest.mark.parametrize(
        ("measure", "method"),
        [
            ("esr_rate", "crossed_rate"),
            ("success_rate", "crossed_rate"),
            ("restart_rate", "crossed_rate"),
            ("first_score", "crossed_mean"),
            ("msi_multi", "crossed_mean"),
            ("msi", "mixture_mean"),
            ("mean_attempts", "mixture_mean"),
        ],
    )
    def test_each_kind_of_measure_has_its_one_method(self, measure: str, method: str) -> None:
        (row,) = summarise(many(), [measure]).to_dict("records")
        assert row["method"] == method

    def test_the_interval_is_that_of_the_measures_quantity_over_latents_and_prompts(self) -> None:
        scores = many()
        factors = [statistics.cluster_codes(scores[name])[0] for name in ("latent", "prompt_id")]
        for row in summarise(scores).to_dict("records"):
            measure = MEASURES[row["measure"]]
            found = crossed_interval(measure.values(scores), factors, measure.quantity)
            ends = row["low"], row["high"], row["status"]
            assert ends == pytest.approx((*found.interval, found.status), nan_ok=True)

    def test_every_measure_names_what_it_is_of(self) -> None:
        for measure in MEASURES.values():
            kind, lowest, highest, usual = measure.quantity
            assert np.isfinite([lowest, highest]).all(), "no interval without bounds"
            assert lowest <= usual <= highest
            assert (kind == "rate") == measure.is_rate

    def test_sizes_are_those_of_the_denominator(self) -> None:
        row = summarise(eight(), ["success_rate"]).iloc[0]
        assert (row["n"], row["n_events"], row["n_latents"], row["n_prompts"]) == (4, 2, 3, 3)

    def test_no_trial_is_undefined_never_zero(self) -> None:
        for scores in (scores_of([None, None]), scores_of([])):
            table = summarise(scores, ["esr_rate", "msi", "success_rate"])
            assert table[["estimate", "low", "high"]].isna().all(axis=None)
            assert set(table["status"]) == {"undefined"}
            assert set(table["n"]) == {0}

    def test_no_event_has_one_bound_for_every_measure_that_it_bounds(self) -> None:
        table = summarise(scores_of([[50]] * 200)).set_index("measure")
        bound = table.loc["esr_rate", "high"]
        assert 100 * statistics.wilson(0, 200).high < bound
        assert table.loc["multi_attempt_rate", "high"] == bound
        assert table.loc["msi", ["low", "high"]].tolist() == pytest.approx([-bound, bound])
        assert table.loc["mean_attempts", "high"] == pytest.approx(1 + 19 * bound / 100)
        assert table.loc["esr_rate", "status"] == "no_variation"

    def test_one_latent_has_no_interval_and_a_few_have_a_status(self) -> None:
        one = summarise(scores_of([[10], [20, 40]], per_latent=2), ["msi"]).iloc[0]
        assert one["status"] == "too_few"
        assert np.isnan(one["low"])
        few = summarise(eight(), ["esr_rate"]).iloc[0]
        assert few["status"] == "few_clusters"
        assert few["low"] < few["estimate"] < few["high"]

    def test_groups_are_summarised_as_if_alone(self) -> None:
        rng = np.random.default_rng(0)
        arms = [
            scores_of([[x, 50.0] for x in rng.uniform(0, 100, 40)], arm=name, boost=boost)
            for name, boost in (("b", 2.0), ("b", 1.0), ("a", 1.0))
        ]
        table = summarise(pd.concat(arms), ["msi"], by=["arm", "boost"])
        assert table[["arm", "boost"]].drop_duplicates().to_numpy().tolist() == [
            ["b", 2.0],
            ["b", 1.0],
            ["a", 1.0],
        ]
        alone = [summarise(arm, ["msi"]) for arm in arms]
        pd.testing.assert_frame_equal(
            table.drop(columns=["arm", "boost"]), pd.concat(alone, ignore_index=True)
        )

    def test_measures_do_not_depend_on_which_others_are_computed(self) -> None:
        both = summarise(eight(), ["esr_rate", "msi"])
        alone = summarise(eight(), ["msi"])
        pd.testing.assert_frame_equal(
            both[both["measure"].eq("msi")].reset_index(drop=True), alone, check_dtype=False
        )

    def test_trials_without_a_latent_have_prompts_as_the_only_factor(self) -> None:
        scores = scores_of([[90.0], [80.0], [85.0]], latent=pd.array([None] * 3, "Int64"))
        assert clusters_of(scores) == ["prompt_id"]
        table = summarise(scores, ["first_score"])
        assert table["low"].notna().all()
        assert set(table["n_latents"]) == {0}

    def test_a_latent_that_is_missing_for_some_trials_is_an_error(self) -> None:
        scores = scores_of([[90.0], [80.0]], latent=pd.array([1, None], "Int64"))
        with pytest.raises(EsrError, match="1 of 2 trials have no cluster id"):
            summarise(scores, ["first_score"])

    def test_a_higher_level_is_wider(self) -> None:
        scores = scores_of([[float(x), 50.0] for x in range(0, 100, 2)])
        narrow, wide = (summarise(scores, ["msi"], level=level) for level in (0.8, 0.99))
        assert (wide["low"] < narrow["low"]).all()
        assert (wide["high"] > narrow["high"]).all()

    def test_plain_dtypes_give_what_nullable_ones_give(self) -> None:
        scores = scores_of([[20], [30, 80], [40, 10, 60], [50, 50]])
        plain = scores.astype(
            dict.fromkeys(["n_attempts", "first_score", "last_score", "score_change"], float)
            | dict.fromkeys(["multi_attempt", "improved", "restart_detected", "degraded"], bool)
        )
        pd.testing.assert_frame_equal(summarise(scores), summarise(plain))

    def test_unknown_names_are_refused(self) -> None:
        with pytest.raises(EsrError, match=r"\['esr'\].*esr_rate"):
            summarise(eight(), ["esr"])
        with pytest.raises(EsrError, match="'set'"):
            summarise(eight(), by=["set"])


class TestAlternatives:
    def test_methods_of_rates_and_means(self) -> None:
        table = alternatives(eight(), ["esr_rate", "msi"], **FAST)
        others = ["wald", "prompts fixed", "cluster_bootstrap", "two_way_bootstrap"]
        by_measure = table.groupby("measure")["method"].agg(list)
        assert by_measure["esr_rate"] == ["wilson", *others]
        assert by_measure["msi"] == ["t", *others]

    def test_they_agree_on_the_estimate(self) -> None:
        scores = eight()
        table = alternatives(scores, **FAST)
        expected = table["measure"].map(estimates(scores))
        pd.testing.assert_series_equal(table["estimate"], expected, check_names=False)

    def test_wilson_is_in_percent_of_the_denominator(self) -> None:
        row = alternatives(eight(), ["success_rate"], **FAST).iloc[0]
        assert (row["low"], row["high"]) == pytest.approx(statistics.wilson(2, 4).scaled(100))

    def test_no_event_has_a_bound_that_depends_on_what_counts_as_independent(self) -> None:
        table = alternatives(scores_of([[50]] * 200), ["esr_rate"], **FAST).set_index("method")
        assert table.loc["wald", ["low", "high"]].tolist() == [0, 0]
        assert table.loc["wilson", "high"] == pytest.approx(100 * statistics.wilson(0, 200).high)
        bound = 100 * statistics.wilson(0, 100).high
        assert table.loc["cluster_bootstrap", "high"] == pytest.approx(bound)

    def test_events_in_a_few_latents_are_sparse(self) -> None:
        trials = [[50.0]] * 96 + [[10.0, 60.0]] * 4
        table = alternatives(scores_of(trials), ["esr_rate"], **FAST).set_index("method")
        assert table.loc["cluster_bootstrap", "status"] == "sparse"

    def test_correlated_trials_widen_the_clustered_interval(self) -> None:
        latents = [[10.0, 60.0] if i % 4 == 0 else [50.0] for i in range(60)]
        repeated = [each for each in latents for _ in range(5)]
        table = alternatives(scores_of(repeated, per_latent=5), ["esr_rate"]).set_index("method")
        width = table["high"] - table["low"]
        assert width["cluster_bootstrap"] == pytest.approx(np.sqrt(5) * width["wilson"], rel=0.12)
        assert width["prompts fixed"] == pytest.approx(width["cluster_bootstrap"], rel=0.12)

    def test_prompts_are_drawn_independently_of_latents(self) -> None:
        # One prompt a latent: with the same draws for both, a trial would weigh their square.
        first = np.random.default_rng(0).uniform(0, 100, 40)
        prompts = [f"p{i:02d}" for i in range(40)]
        scores = scores_of([[x] for x in first], per_latent=1, prompt_id=prompts)
        table = alternatives(scores, ["first_score"], seed=3, **FAST).set_index("method")
        alike = statistics.resample(scores["latent"], 200, [3, 0])
        squared = statistics.bootstrap_mean(first, alike, alike)
        found = table.loc["two_way_bootstrap", ["low", "high"]].to_list()
        assert found != pytest.approx(list(statistics.percentile_interval(squared)))


class TestChecks:
    @pytest.mark.parametrize(
        ("column", "value", "problem"),
        [
            ("trial_id", "t0", "repeated"),
            ("status", None, "status is missing"),
            ("status", "refused", "not ok but n_attempts has a value"),
            ("first_score", None, "ok but first_score is missing"),
            ("last_score", 180.0, "outside 0-100"),
            ("score_change", 3.0, "last_score - first_score"),
            ("n_attempts", 0, "below 1"),
            ("multi_attempt", False, "n_attempts > 1"),
            ("improved", False, "improved is not"),
        ],
    )
    def test_a_contradiction_is_named_with_its_trial(
        self, column: str, value: Any, problem: str
    ) -> None:
        scores = eight()
        scores.loc[1, column] = value
        with pytest.raises(EsrError, match=problem):
            check_scores(scores)

    def test_one_attempt_cannot_change(self) -> None:
        scores = eight()
        scores.loc[0, ["last_score", "score_change"]] = [30.0, 10.0]
        with pytest.raises(EsrError, match=r"one attempt but.*\['t0'\]"):
            check_scores(scores)

    def test_a_missing_column_is_named(self) -> None:
        with pytest.raises(EsrError, match="degraded"):
            check_scores(eight().drop(columns="degraded"))

    @given(TRIALS)
    @settings(max_examples=40)
    def test_what_attempts_imply_is_valid(self, attempts: list[Attempts]) -> None:
        check_scores(scores_of(attempts))


class TestExclusions:
    def test_every_trial_is_counted_once_by_reason(self) -> None:
        table = exclusions(eight())
        assert table["status"].tolist() == ["ok", "engine_error", "refused", "total"]
        assert table["n"].tolist() == [6, 1, 1, 8]
        assert table["percent"].tolist() == [75, 12.5, 12.5, 100]

    def test_by_group(self) -> None:
        scores = pd.concat([scores_of([[1], None], arm="a"), scores_of([[1]], arm="b")])
        table = exclusions(scores, by=["arm"])
        assert table[["arm", "status", "n"]].to_numpy().tolist() == [
            ["a", "ok", 1],
            ["a", "refused", 1],
            ["a", "total", 2],
            ["b", "ok", 1],
            ["b", "total", 1],
        ]

    def test_a_trial_without_a_status_is_an_error(self) -> None:
        scores = eight()
        scores.loc[3, "status"] = None
        with pytest.raises(EsrError, match="7 of 8"):
            exclusions(scores)

    def test_nothing_has_nothing_to_exclude(self) -> None:
        assert exclusions(scores_of([]))["n"].tolist() == [0]


def replayed(effect: float, seed: int = 0, n: int = 200) -> tuple[pd.DataFrame, pd.DataFrame]:
    """An arm and its replay whose first scores are `effect` higher, latents differing widely."""
    rng = np.random.default_rng(seed)
    latent = np.repeat(rng.uniform(20, 60, n // 2), 2)
    first = latent + rng.normal(0, 2, n)
    second = first + effect + rng.normal(0, 2, n)
    return tuple(scores_of([[x] for x in arm]) for arm in (first, second))


class TestComparisons:
    def test_the_difference_is_that_of_the_estimates(self) -> None:
        baseline, treatment = eight(), scores_of([[40]] * 8)
        judged = ["status", *JUDGED, *GATED]
        treatment.loc[[6, 7], judged] = baseline.loc[[6, 7], judged]
        table = compare(baseline, treatment, **FEW).set_index("measure")
        for name in ("first_score", "esr_rate", "msi", "mean_attempts"):
            assert table.loc[name, "baseline"] == pytest.approx(estimates(baseline)[name])
            assert table.loc[name, "treatment"] == pytest.approx(estimates(treatment)[name])
        difference = table["treatment"] - table["baseline"]
        pd.testing.assert_series_equal(table["difference"], difference, check_names=False)
        assert table.loc["first_score", "relative_change"] == pytest.approx(100 * (40 / 35 - 1))
        assert table.loc["success_rate", "status"] == "undefined"
        assert np.isnan(table.loc["success_rate", "p_value"])

    def test_a_planted_effect_is_found_and_pairing_is_what_finds_it(self) -> None:
        paired = compare(*replayed(1.0), ["first_score"], **FEW).iloc[0]
        assert paired["low"] < 1 < paired["high"]
        assert paired["low"] > 0
        assert paired["p_value"] == 0.001, "the least that 999 permutations can give"
        unpaired = compare_unpaired(*replayed(1.0), ["first_score"], **FEW)
        assert unpaired.iloc[0]["p_value"] > 0.05
        assert unpaired.iloc[0]["low"] < 0

    def test_swapping_the_arms_flips_the_sign(self) -> None:
        baseline, treatment = replayed(1.0)
        there = compare(baseline, treatment, ["first_score"], **FEW).iloc[0]
        back = compare(treatment, baseline, ["first_score"], **FEW).iloc[0]
        assert (back["low"], back["high"]) == pytest.approx((-there["high"], -there["low"]))
        assert back["p_value"] == there["p_value"]

    def test_rows_are_matched_by_key_not_by_order(self) -> None:
        baseline, treatment = replayed(1.0)
        shuffled = treatment.sample(frac=1, random_state=0)
        pd.testing.assert_frame_equal(
            compare(baseline, treatment, **FEW), compare(baseline, shuffled, **FEW)
        )

    def test_an_arm_against_itself_has_no_difference(self) -> None:
        row = compare(eight(), eight(), ["esr_rate"], **FEW).iloc[0]
        assert (row["difference"], row["p_value"]) == (0, 1)
        assert row["low"] < 0 < row["high"]

    def test_without_events_in_the_baseline_there_is_no_relative_change(self) -> None:
        none, some = scores_of([[50.0]] * 40), scores_of([[10.0, 60.0]] + [[50.0]] * 39)
        gain = compare(none, some, ["esr_rate"], **FEW).iloc[0]
        assert np.isnan(gain[["relative_change", "relative_low", "relative_high"]].tolist()).all()
        loss = compare(some, none, ["msi"], **FEW).iloc[0]
        assert (loss["relative_change"], loss["relative_high"]) == (-100, np.inf)

    def test_a_pair_needs_both_trials(self) -> None:
        baseline, treatment = eight(), eight().drop(index=0)
        treatment.loc[1, "status"] = "refused"
        treatment.loc[1, [*JUDGED, *GATED]] = pd.NA
        row = compare(baseline, treatment, ["first_score"], **FEW).iloc[0]
        assert (row["n_pairs"], row["n_dropped"]) == (4, 4)
        assert row["baseline"] == row["treatment"] == (40 + 50 + 60 + 10) / 4
        pairs = match_trials(baseline, treatment, MEASURES["first_score"])
        assert pairs["reason"].value_counts().to_dict() == {
            "used": 4,
            "baseline:engine_error": 1,
            "baseline:refused": 1,
            "no_treatment_trial": 1,
            "treatment:refused": 1,
        }

    def test_measures_without_a_judge_use_pairs_that_the_judge_refused(self) -> None:
        pairs = match_trials(eight(), eight(), MEASURES["restart_rate"])
        assert pairs["reason"].value_counts().to_dict() == {"used": 7, "baseline:no_response": 1}

    def test_conditional_measures_report_their_own_denominators(self) -> None:
        treatment = scores_of([[20, 50], [30, 80], [40, 10, 60], [50], [60], [10], None, None])
        row = compare(eight(), treatment, ["success_rate"], **FEW).iloc[0]
        assert (row["n_pairs"], row["n_baseline"], row["n_treatment"]) == (6, 4, 3)
        assert (row["baseline"], row["treatment"]) == pytest.approx((50, 100))

    def test_a_repeated_key_cannot_be_paired(self) -> None:
        baseline = eight()
        baseline["seed"], baseline["prompt_id"] = 0, "p"
        with pytest.raises(EsrError, match="repeated pair keys"):
            compare(baseline, eight(), **FEW)

    def test_trials_without_a_latent_are_paired_by_prompt_and_seed(self) -> None:
        baseline, treatment = (
            scores_of([[x] for x in values], latent=pd.array([None] * 6, "Int64"))
            for values in ([10.0, 20, 30, 40, 50, 60], [20.0, 31, 42, 50, 61, 72])
        )
        row = compare(baseline, treatment, ["first_score"], **FEW).iloc[0]
        assert (row["n_pairs"], row["n_clusters"]) == (6, 3)
        assert row["difference"] == pytest.approx(11)

    def test_without_an_effect_p_is_uniform(self) -> None:
        p = [
            compare(*replayed(0.0, seed, 40), ["first_score"], n_permutations=199)["p_value"].item()
            for seed in range(40)
        ]
        assert 0.3 < np.mean(p) < 0.7
        assert np.mean(np.array(p) <= 0.1) < 0.25


def test_the_measures_of_the_documents_are_the_registered_ones() -> None:
    page = (REPO / "docs/method.md").read_text()
    assert measures_table() in page, f"paste into docs/method.md:\n{measures_table()}"

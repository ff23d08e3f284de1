"""Four ways of grading the same trials, and samples whose weights restore all trials."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from esr.analysis.comparisons import compare, compare_sets, compare_unpaired
from esr.analysis.measures import summarise
from esr.analysis.shares import share_trends
from esr.analysis.sweeps import peak
from esr.analysis.trends import size_trends, sweep_slopes
from esr.analysis.ways import View, by_way, gated, of_way, views, weighted
from esr.arms.scores import check_scores
from esr.config import StatisticsConfig
from esr.errors import EsrError
from helpers.checkout import load_script
from helpers.scores import scores_of
from helpers.studies import load_study

FEW = StatisticsConfig(bootstrap=100)
QUICK: dict[str, Any] = {"n_permutations": 199}
JUDGED = ["first_score", "multi_attempt_rate", "esr_rate", "success_rate", "msi", "mean_attempts"]
SINGLE, GOOD, BAD = [40.0], [20.0, 90.0], [60.0, 10.0]


def trials(seed: int = 0, rate: float = 0.2, latents: int = 20, **columns: Any) -> pd.DataFrame:
    """Trials of which about a share `rate` has two attempts."""
    rng = np.random.default_rng(seed)
    attempts = [
        [float(rng.integers(0, 60)), float(rng.integers(0, 100))]
        if rng.random() < rate
        else [float(rng.integers(0, 60))]
        for _ in range(latents * 10)
    ]
    return scores_of(attempts, per_latent=10, **columns)


def with_gate(
    scores: pd.DataFrame, multi: list[Any], improved: list[Any], last: list[Any] | None = None
) -> pd.DataFrame:
    """Scores with the columns of the gate; `last` defaults to the last score of a gated trial."""
    several = np.array([flag is True for flag in multi])
    usual = scores["last_score"].where(several, scores["first_score"])
    return scores.assign(
        gated_multi_attempt=pd.array(multi, "boolean"),
        gated_improved=pd.array(improved, "boolean"),
        gated_attempts=scores["n_attempts"].where(several | scores["n_attempts"].isna(), 1),
        gated_last_score=usual if last is None else pd.array(last, "Float64"),
    )


def sampled(scores: pd.DataFrame, share: float, seed: int = 0) -> pd.DataFrame:
    """All multi-attempt trials and a share of the others, with their weights."""
    rng = np.random.default_rng(seed)
    several = scores["multi_attempt"].fillna(False).to_numpy(bool)
    drawn = several.copy()
    others = np.flatnonzero(~several)
    chosen = rng.choice(others, int(share * len(others)), replace=False)
    drawn[chosen] = True
    weight = np.where(several, 1.0, len(others) / len(chosen))
    return scores.assign(weight=weight)[drawn].reset_index(drop=True)


class TestGate:
    def test_an_attempt_without_a_restart_is_part_of_the_first(self) -> None:
        scores = with_gate(
            scores_of([GOOD, GOOD, SINGLE, None]),
            multi=[True, False, False, pd.NA],
            improved=[True, False, False, pd.NA],
        )
        found = gated(scores)
        assert found["n_attempts"].tolist()[:3] == [2, 1, 1]
        assert found["last_score"].tolist()[:3] == [90, 20, 40]
        assert found["score_change"].tolist()[:3] == [70, 0, 0]
        assert found["multi_attempt"].tolist()[:3] == [True, False, False]
        assert found["improved"].tolist()[:3] == [True, False, False]
        assert found["n_attempts"].isna().tolist() == [False, False, False, True]

    def test_the_last_score_is_that_of_the_last_attempt_that_a_restart_opens(self) -> None:
        # First 20, after the restart 35, and 90 in an attempt that only the judge sees.
        scores = scores_of([[20.0, 35, 90], [20.0, 10, 90]])
        gate = with_gate(scores, [True, True], [True, False], last=[35, 10])
        found = gated(gate.assign(gated_attempts=2))
        assert found["n_attempts"].tolist() == [2, 2]
        assert found["score_change"].tolist() == [15, -10]
        assert found["improved"].tolist() == [True, False]

    def test_numbers_that_contradict_the_flags_are_refused(self) -> None:
        scores = with_gate(scores_of([GOOD]), multi=[True], improved=[False])
        with pytest.raises(EsrError, match="gated_improved is not"):
            check_scores(scores)

    def test_scores_of_an_older_study_name_what_they_lack(self) -> None:
        with pytest.raises(EsrError, match=r"gated_last_score.*score the trials again"):
            gated(scores_of([GOOD]))

    def test_the_scores_given_stay_as_they_are(self) -> None:
        scores = with_gate(scores_of([GOOD, GOOD]), multi=[True, False], improved=[True, False])
        before = scores.copy(deep=True)
        check_scores(gated(scores))
        pd.testing.assert_frame_equal(scores, before)


class TestViews:
    def table(self, scores: pd.DataFrame, second: pd.DataFrame | None = None) -> pd.DataFrame:
        return by_way(
            views(scores, second),
            lambda view: summarise(view.scores, list(view.measures)),
        )

    def test_the_primary_rows_are_those_without_ways(self) -> None:
        scores = trials()
        found = of_way(self.table(scores))
        pd.testing.assert_frame_equal(found, summarise(scores))

    def test_without_a_judge_several_attempts_are_restarts(self) -> None:
        scores = scores_of([GOOD] + [SINGLE] * 9)
        scores["restart_detected"] = pd.array([True] * 3 + [False] * 7, "boolean")
        free = of_way(self.table(scores), "judge_free")
        assert set(free["measure"]) == {"multi_attempt_rate"}, "other measures need scores"
        assert free["estimate"].unique() == pytest.approx(30)

    def test_a_trial_that_was_not_judged_counts_without_a_judge(self) -> None:
        scores = scores_of([None, SINGLE])
        scores["restart_detected"] = pd.array([True, False], "boolean")
        assert of_way(self.table(scores), "judge_free")["n"].unique() == [2]

    def test_without_a_gate_or_a_second_judge_there_are_two_ways(self) -> None:
        assert [view.way for view in views(trials())] == ["primary", "judge_free"]

    def test_all_four(self) -> None:
        scores = trials()
        flags = scores["multi_attempt"].tolist()
        scores = with_gate(scores, flags, scores["improved"].tolist())
        found = self.table(scores, sampled(scores, 0.5))
        assert list(found["way"].unique()) == ["primary", "gated", "judge_free", "second"]
        rates = found[found["measure"].eq("multi_attempt_rate")].drop_duplicates("way")
        assert rates.set_index("way")["estimate"]["gated"] == rates["estimate"].iloc[0]


class TestWeights:
    def test_equal_weights_change_nothing(self) -> None:
        scores = trials()
        plain = summarise(scores, JUDGED)
        found = summarise(scores.assign(weight=2.0), JUDGED)
        pd.testing.assert_frame_equal(found, plain)

    @pytest.mark.parametrize("share", [0.1, 0.5])
    def test_they_restore_the_rate_of_all_trials(self, share: float) -> None:
        scores = trials()
        rate = ["multi_attempt_rate"]
        every = summarise(scores, rate)["estimate"].iloc[0]
        sample = sampled(scores, share)
        assert summarise(sample, rate)["estimate"].iloc[0] == pytest.approx(every)
        unweighted = summarise(sample.drop(columns="weight"), rate)["estimate"].iloc[0]
        assert unweighted > 1.3 * every, "the sample alone is rich in multi-attempt trials"

    def test_their_interval_holds_the_mean_of_all_trials(self) -> None:
        scores = trials(latents=40)
        every = summarise(scores, ["first_score"])["estimate"].iloc[0]
        held = []
        for seed in range(20):
            row = summarise(sampled(scores, 0.3, seed), ["first_score"]).iloc[0]
            held.append(row["low"] <= every <= row["high"])
        assert np.mean(held) >= 0.9

    def test_two_samples_are_compared_without_pairs(self) -> None:
        prompts = [f"p{i % 25:02d}" for i in range(200)]
        base, treated = trials(0, 0.4, prompt_id=prompts), trials(1, 0.1, prompt_id=prompts)
        pair = compare(base, treated, JUDGED, **QUICK).set_index("measure")
        samples = sampled(base, 0.5, 1), sampled(treated, 0.5, 2)
        found = compare(samples[0], samples[1], JUDGED, **QUICK).set_index("measure")
        rate = found.loc["multi_attempt_rate"]
        assert rate["difference"] == pytest.approx(pair.loc["multi_attempt_rate", "difference"])
        assert rate["low"] <= rate["difference"] <= rate["high"] < 0
        assert rate["p_value"] <= 0.01
        assert pd.isna(rate["n_pairs"])
        assert (rate["n_baseline"], rate["n_treatment"]) == tuple(len(each) for each in samples)

    def test_two_samples_of_the_same_trials_do_not_differ(self) -> None:
        scores = trials()
        found = compare(sampled(scores, 0.4), sampled(scores, 0.4), ["multi_attempt_rate"], **QUICK)
        assert found["difference"].iloc[0] == pytest.approx(0)

    @pytest.mark.parametrize("weight", [None, 3.0])
    def test_equal_weights_change_no_contrast(self, weight: float | None) -> None:
        base, treated = trials(0, 0.4), trials(1, 0.1)
        arms = (
            [base, treated]
            if weight is None
            else [a.assign(weight=weight) for a in (base, treated)]
        )
        paired = compare(base, treated, JUDGED, **QUICK)
        same = ["difference", "low", "high", "relative_low", "p_value", "status"]
        pd.testing.assert_frame_equal(
            compare(arms[0], arms[1], JUDGED, **QUICK)[same], paired[same]
        )
        free = compare_unpaired(base, treated, JUDGED, **QUICK)
        found = compare_unpaired(arms[0], arms[1], JUDGED, **QUICK)
        pd.testing.assert_frame_equal(found[[*same, "n_baseline"]], free[[*same, "n_baseline"]])
        sets = compare_sets(base, [treated, trials(2)], JUDGED)
        versions = [arms[1], trials(2) if weight is None else trials(2).assign(weight=weight)]
        found = compare_sets(arms[0], versions, JUDGED)
        kept = ["difference", "low", "high", "between", "status"]
        pd.testing.assert_frame_equal(found[kept], sets[kept])

    def test_equal_weights_change_no_trend(self) -> None:
        levels = [
            trials(i, 0.1 * i, sweep_level=float(i), share=10.0 * i, model=f"m{i}").assign(
                trial_id=lambda table, i=i: f"{i}-" + table["trial_id"]
            )
            for i in range(4)
        ]
        scores = pd.concat(levels, ignore_index=True)
        heavy = scores.assign(weight=4.0)
        assert peak(scores, "msi") == peak(heavy, "msi")
        named = scores.assign(model="m")
        slopes = sweep_slopes(named.assign(weight=4.0), FEW, JUDGED)
        pd.testing.assert_frame_equal(slopes, sweep_slopes(named, FEW, JUDGED))
        measures = ["msi", "multi_attempt_rate"]
        made = [
            table.assign(training=table["share"].gt(0).astype(int)) for table in (heavy, scores)
        ]
        found = share_trends(made[0], FEW, measures)
        pd.testing.assert_frame_equal(found, share_trends(made[1], FEW, measures))
        sizes = {f"m{i}": 10.0**i for i in range(4)}
        later = trials(9).assign(model="m1")
        both = pd.concat([later, trials(8).assign(model="m2")], ignore_index=True)
        plain = size_trends(scores, both, sizes, FEW, JUDGED)
        found = size_trends(heavy, both.assign(weight=4.0), sizes, FEW, JUDGED)
        values = [name for name in plain if name != "n"]  # of a sample: trials with a value
        pd.testing.assert_frame_equal(found[values], plain[values])

    def test_a_trial_without_a_weight_is_an_error(self) -> None:
        scores = trials()
        sample = pd.DataFrame({"trial_id": scores["trial_id"][1:], "weight": 1.0})
        with pytest.raises(EsrError, match="1 trials of the second judge have no positive weight"):
            weighted(sample, scores)


def test_tables_without_rows_in_any_way_keep_their_columns() -> None:
    columns = ["measure", "difference"]
    table = by_way(views(trials()), lambda view: pd.DataFrame(columns=columns))
    assert list(table) == ["way", *columns]
    assert table.empty


def test_a_way_that_computes_nothing_is_left_out() -> None:
    def tabulate(view: View) -> pd.DataFrame:
        row = {"measure": ["msi"], "difference": [1.0]}
        return pd.DataFrame(row if view.way == "primary" else {})

    assert by_way(views(trials()), tabulate)["way"].tolist() == ["primary"]


def test_one_model_without_a_sweep_has_an_empty_table_of_models() -> None:
    script = load_script("tabulate_models")
    config = load_study({"models": {"twin": None}, "finetune": {"models": []}})
    table = by_way(views(trials()), lambda view: script.tabulate(view, config))
    assert table.empty
    assert script.printed(of_way(table)).empty

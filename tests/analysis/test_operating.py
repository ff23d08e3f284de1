"""esr.analysis.operating: verdicts of simulated studies, and how often they err."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from esr.analysis.claims import Finding, Region
from esr.analysis.comparisons import compare, compare_sets, compare_unpaired
from esr.analysis.measures import MEASURES, summarise
from esr.analysis.operating import (
    characteristics,
    draw_row,
    factors_of,
    find,
    graded,
    simulate,
)
from esr.analysis.quantiles import logit_normals
from esr.analysis.scenarios import SETS, Scenario
from esr.analysis.simulation import scores_table
from esr.analysis.specs import StudySpec
from esr.analysis.ways import Way
from helpers.claims import case_of, with_spread

ORGANISM = StudySpec(36, 16, 24, rho=0.1, sweep=(16, 5))
JANUARY = StudySpec(500, 5, 38, rho=0.1)
LIMIT = 0.05
STUDIES = 60


def too_often(errors: int, studies: int) -> bool:
    """Whether so many errors are unlikely (1 in 1,000) at an error rate of 5 %."""
    return bool(stats.binom.sf(errors - 1, studies, LIMIT) < 0.001)


class TestTheCodeOfTheTables:
    """A simulated statistic and its interval are those that the tables of a study would hold."""

    def both(self, claim: str, sample: bool) -> tuple[Finding, pd.Series, Scenario]:
        case = case_of("organism", claim)
        row = case.rows[0]
        drawn = draw_row(row, replace(ORGANISM, sampled=200), [0, 3, 0], second=True)
        way: Way = "second" if sample else "primary"
        measure = MEASURES[case.measure]
        factors = factors_of(drawn["primary"], shared=row.kind != "models")
        judged = graded(drawn, measure, way, factors)
        tables = [_sampled(scores_table(each, ORGANISM.prompts, "a", way)) for each in drawn[way]]
        names = [case.measure]
        if row.kind == "arm":
            table = summarise(tables[0], names).rename(columns={"estimate": "difference"})
        elif row.kind == "sets":
            table = compare_sets(tables[0], tables[1:], names)
        else:
            run = compare if row.kind == "paired" else compare_unpaired
            table = run(tables[0], tables[1], names, n_permutations=9)
        return find(row, judged, measure, case.relative, 0.95), table.iloc[0], case

    @pytest.mark.parametrize("sample", [False, True])
    @pytest.mark.parametrize(
        "claim", ["target", "finetune-base", "dependence", "dependence-esr", "correction"]
    )
    def test_gives_the_same_finding(self, claim: str, sample: bool) -> None:
        found, row, _ = self.both(claim, sample)
        expected = [row["difference"], row["low"], row["high"]]
        assert list(found[:3]) == pytest.approx(expected, rel=1e-9)
        assert found.status == row["status"]

    def test_gives_the_same_finding_for_random_sets(self) -> None:
        found, row, _ = self.both("specificity", sample=False)
        assert list(found[:3]) == pytest.approx([row["difference"], row["low"], row["high"]])


def _sampled(table: pd.DataFrame) -> pd.DataFrame:
    """The drawn trials of a sample; all trials of a study."""
    texts = table.select_dtypes("category").columns
    table = table.astype(dict.fromkeys(texts, str))
    return table[table["weight"].gt(0)].reset_index(drop=True) if "weight" in table else table


class TestErrorRates:
    """Live: a change of measures, intervals or verdicts that makes claims err fails here."""

    @pytest.mark.parametrize("claim", ["correction-esr", "dependence", "dependence-first"])
    def test_no_error_of_a_claim_exceeds_five_percent(self, claim: str) -> None:
        found = characteristics(case_of("organism", claim), ORGANISM, STUDIES)
        assert not too_often(found["confirmed_null"], STUDIES)
        assert not too_often(found["refuted_true"], STUDIES)

    def test_a_claim_that_its_null_satisfies_is_found_out(self) -> None:
        case = replace(case_of("organism", "dependence-first"), region=Region(-20, 20))
        found = characteristics(case, ORGANISM, 20)
        assert too_often(found["confirmed_null"], 20)

    def test_a_claim_whose_region_lacks_the_truth_is_found_out(self) -> None:
        case = replace(case_of("organism", "dependence"), region=Region(0, np.inf))
        found = characteristics(case, ORGANISM, 20)
        assert too_often(found["refuted_true"], 20)

    def test_intervals_that_are_too_narrow_are_found_out(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        case = replace(case_of("organism", "correction-esr"), tests=0)
        monkeypatch.setattr("esr.analysis.operating.LEVEL", 0.2)
        found = characteristics(case, ORGANISM, STUDIES)
        assert too_often(found["confirmed_null"], STUDIES)

    def test_a_large_effect_is_confirmed_and_its_absence_is_not(self) -> None:
        found = characteristics(case_of("organism", "dependence"), ORGANISM, 20)
        assert found["confirmed_true"] >= 17
        assert found["confirmed_null"] <= 2


class TestRandomSets:
    """Sets whose rates differ: Student's interval of three numbers has to cover other sets."""

    BRANCHES = StudySpec(36, 11, 48, rho=0.05)

    def test_the_square_of_the_half_width_grows_by_what_student_1908_gives(self) -> None:
        case = case_of("organism", "branch-specificity")
        squares = []
        for spread in (0.0, 0.5):
            found = simulate(with_spread(case, spread), self.BRANCHES, 100)["findings"]
            squares.append(np.mean([(each[0].value - each[0].low) ** 2 for each in found]))
        at = np.random.default_rng(0).normal(size=4000)
        rate = case.rows[0].true["set-0"].multi
        between = 100 * np.std(logit_normals(rate, 0.5, at))
        expected = (stats.t.isf(0.025, SETS - 1) * between) ** 2 / SETS
        assert squares[1] - squares[0] == pytest.approx(expected, rel=0.25)

    @pytest.mark.parametrize("spread", [0.55, 1.0])
    def test_sets_that_differ_about_the_null_show_no_change(self, spread: float) -> None:
        case = with_spread(case_of("organism", "specificity"), spread)
        found = simulate(case, ORGANISM, 80, null=True)["findings"]
        rises, falls = (
            sum(bool(beyond(each[0])) for each in found)
            for beyond in (lambda f: f.low > 0, lambda f: f.high < 0)
        )
        assert not too_often(rises + falls, 80)
        assert not too_often(2 * rises, 80)

    def test_intervals_that_ignore_the_sets_are_found_out(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        case = with_spread(case_of("organism", "specificity"), 1.0)
        monkeypatch.setattr("esr.analysis.statistics.random_sets._half", lambda values, level: 0.0)
        found = simulate(case, replace(ORGANISM, latents=144), 30, null=True)["findings"]
        misses = sum(each[0].low > 0 or each[0].high < 0 for each in found)
        assert too_often(misses, 30)


class TestWays:
    def test_a_rate_of_restarts_is_corroborated_without_a_second_judge(self) -> None:
        alone = replace(ORGANISM, sampled=0)
        found = simulate(case_of("organism", "dependence"), alone, 10, ways=True)
        assert found["agreed"].eq("confirmed").sum() >= 8

    def test_but_not_beside_one_with_few_trials(self) -> None:
        few = replace(ORGANISM, sampled=30, per_stratum=10)
        found = simulate(case_of("organism", "dependence"), few, 10, ways=True)
        assert found["verdict"].eq("confirmed").sum() >= 8
        assert found["agreed"].eq("confirmed").sum() <= 1

    def test_a_measure_of_scores_needs_a_second_judge_with_enough_trials(self) -> None:
        case = case_of("organism", "dependence-esr")
        few = simulate(case, replace(ORGANISM, sampled=60, per_stratum=20), 10, ways=True)
        every = replace(ORGANISM, sampled=576, per_stratum=576)
        assert few["agreed"].isin(["uncorroborated", "undecided"]).sum() >= 9
        assert simulate(case, every, 10, ways=True)["agreed"].eq("confirmed").sum() >= 8

    def test_without_a_second_judge_nothing_about_scores_is_confirmed(self) -> None:
        alone = replace(ORGANISM, sampled=0)
        found = simulate(case_of("organism", "target"), alone, 4, ways=True)
        assert found["agreed"].eq("uncorroborated").all()

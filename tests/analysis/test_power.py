"""esr.analysis.power: power of a design, and the latents that would give 80 %."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from esr.analysis.claims import Region
from esr.analysis.needed import fewest_sets, power_of_sets
from esr.analysis.operating import simulate
from esr.analysis.power import power_row, power_table, rehearsed_power, searched_latents
from esr.analysis.rehearsals import Rehearsal, rehearsal
from esr.analysis.scenarios import Row
from esr.analysis.specs import StudySpec
from esr.analysis.truths import TRUTHS
from helpers.claims import case_of, claims_of, with_spread

ORGANISM = StudySpec(36, 16, 24, rho=0.1, sweep=(16, 5))
JANUARY = StudySpec(500, 5, 38, rho=0.1)


def with_rate(row: Row, rate: float) -> Row:
    """A row about random sets that restart at another rate."""
    sets = {name: replace(arm, multi=rate) for name, arm in row.true.items() if name != "baseline"}
    return replace(row, true={**row.true, **sets})


def rehearsed(study: str, claim: str) -> Rehearsal:
    rows = {row["claim"]: row for row in claims_of(study).to_dict("records")}
    found = rehearsal({str(k): v for k, v in rows[claim].items()}, TRUTHS[study])
    assert found is not None
    return found


class TestPower:
    def test_the_january_ablation_is_underpowered_and_has_the_latents_that_it_takes(self) -> None:
        row = power_row(case_of("january", "ablation-multi"), JANUARY, 20)
        assert row["label"] == "underpowered"
        assert row["power"] < 0.4
        assert row["latents_80"] > 1000

    def test_latents_for_80_percent_give_about_that(self) -> None:
        case = case_of("january", "multi-70b")
        needed = power_row(case, JANUARY, 20)["latents_80"]
        enough = simulate(case, replace(JANUARY, latents=int(needed)), 40)["verdict"]
        assert 0.6 < enough.eq("confirmed").mean() < 0.98

    def test_a_value_at_the_edge_of_its_region_is_never_decided(self) -> None:
        case = case_of("january", "multi-70b")
        edge = replace(case, region=Region(case.value, np.inf))
        assert power_row(edge, JANUARY, 4)["latents_80"] == np.inf

    def test_a_test_of_the_family_has_less_power_than_one_alone(self) -> None:
        case = case_of("organism", "specificity")
        assert case.tests > 1
        verdicts = [
            simulate(each, replace(ORGANISM, rho=0.2), 30)["verdict"].eq("confirmed").sum()
            for each in (case, replace(case, tests=0))
        ]
        assert verdicts[0] < verdicts[1]

    def test_three_random_sets_need_more_latents_than_a_design_that_does_not_decide(self) -> None:
        """Student's quantile of two degrees of freedom at the level of a family of tests."""
        case = with_spread(case_of("organism", "specificity"), 0)
        case = replace(case, rows=(with_rate(case.rows[0], 0.12),))
        row = power_row(case, ORGANISM, 16)
        assert row["power"] < 0.8
        assert 36 < row["latents_80"] < np.inf

    def test_a_second_sample_that_is_too_small_is_not_decidable(self) -> None:
        few = replace(ORGANISM, sampled=8)
        row = power_row(case_of("organism", "correction"), few, 10)
        assert row["power"] >= 0.8
        assert row["agreed"] < 0.8
        assert row["label"] == "uncorroborated"

    def test_a_sweep_has_a_design_of_its_own(self) -> None:
        row = power_row(case_of("january", "sweep-success"), JANUARY, 4)
        assert row["latents"] == 50

    def test_every_claim_of_a_study_has_a_label(self) -> None:
        names = ["correction", "recovery", "detection"]
        claims = claims_of("organism")
        claims = claims[claims["claim"].isin(names)]
        other = claims.tail(1).assign(claim="other", table="tables/other.csv")
        claims = pd.concat([claims, other])
        table = power_table(claims, TRUTHS["organism"], ORGANISM, (0.1,), 4)
        assert table["claim"].tolist() == claims["claim"].tolist()
        labels: Any = table["label"].str.partition(":")[0]
        assert set(labels) <= {"decidable", "underpowered", "uncorroborated", "not simulated"}
        assert table.loc[labels.eq("not simulated"), "claim"].tolist() == ["other"]
        assert table["power"].isna().eq(labels.eq("not simulated")).all()


class TestRandomSets:
    """Latents do not buy what three sets that differ cannot show."""

    BRANCHES = StudySpec(250, 10, 38, rho=0.05)

    def test_no_number_of_latents_decides_what_needs_more_sets(self) -> None:
        case = case_of("published", "branch-random")
        limit = power_of_sets(case, case.rows[0]).power
        assert limit < 0.4
        many = simulate(case, replace(self.BRANCHES, latents=1000), 25)["verdict"]
        assert many.eq("confirmed").mean() <= limit + 0.2
        assert power_row(case, self.BRANCHES, 4)["latents_80"] == np.inf

    def test_sets_that_do_not_differ_are_no_limit(self) -> None:
        case = with_spread(case_of("published", "branch-random"), 0)
        assert power_of_sets(case, case.rows[0]) == (1, 0)
        assert power_row(case, self.BRANCHES, 8)["latents_80"] < 250

    def test_more_sets_raise_the_limit(self) -> None:
        (row,) = case_of("published", "branch-random").rows
        one = row.true["set-0"]
        powers = []
        for count in (3, 5, 10):
            sets = {f"set-{number}": one for number in range(count)}
            more = replace(row, true={"baseline": row.true["baseline"]} | sets)
            powers.append(power_of_sets(case_of("published", "branch-random"), more).power)
        assert powers[0] < powers[1] < powers[2]
        assert powers[2] > 0.9

    def test_the_fewest_sets_are_those_whose_limit_is_80_percent(self) -> None:
        case = case_of("published", "branch-random")
        found = fewest_sets(case)
        assert 6 < found < 9
        assert fewest_sets(case_of("organism", "branch-specificity")) == 3
        assert fewest_sets(with_spread(case, 3.0)) > found
        assert np.isnan(fewest_sets(case_of("organism", "dependence"))), "about other arms"

    def test_one_set_decides_nothing(self) -> None:
        case = case_of("organism", "branch-specificity")
        (row,) = case.rows
        arms = {name: row.true[name] for name in ("baseline", "set-0")}
        alone = replace(case, rows=(replace(row, true=arms),))
        found = power_row(alone, self.BRANCHES, 3)
        assert (found["power"], found["latents_80"]) == (0, np.inf)

    def test_the_limit_is_students_interval_of_the_rates_of_the_sets(self) -> None:
        case = case_of("organism", "branch-specificity")
        one = case.rows[0].true["set-0"]
        between = 100 * one.multi * (1 - one.multi) * one.spread  # to first order
        median = np.sqrt(stats.chi2.median(2) / 2)  # of the sd of three numbers, over the true one
        half = stats.t.isf(0.025, 2) / np.sqrt(3) * median * between
        assert power_of_sets(case, case.rows[0]).half == pytest.approx(half, rel=0.05)


class TestSearch:
    """Latents for 80 % of a claim whose intervals no formula gives."""

    @staticmethod
    def power_at(n: float) -> float:
        return float(1 - np.exp(-n / 100))  # 80 % at 161

    @pytest.mark.parametrize("design", [20, 60, 150, 170, 400, 2000])
    def test_crosses_80_percent_from_either_side(self, design: int) -> None:
        found = searched_latents(self.power_at, design, self.power_at(design))
        assert found == pytest.approx(161, rel=0.1)

    def test_ends_at_the_fewest_latents_that_are_decided(self) -> None:
        assert searched_latents(lambda n: 1.0, 36, 1.0) == 8

    def test_a_power_that_does_not_grow_is_never_enough(self) -> None:
        assert searched_latents(lambda n: 0.4, 36, 0.4) == np.inf

    def test_latents_that_are_not_read_do_not_help(self) -> None:
        assert searched_latents(self.power_at, 30, 0.26, most=30) == np.inf


class TestRehearsed:
    def test_a_claim_of_another_table_has_power_by_all_ways_and_latents(self) -> None:
        spec = replace(ORGANISM, sampled=453, per_stratum=400)
        row = rehearsed_power(rehearsed("organism", "correction-msi"), spec, 10)
        assert row["power"] >= 0.8
        assert row["agreed"] >= 0.7
        assert row["label"] == "decidable"
        assert 8 <= row["latents_80"] <= 36

    def test_a_small_second_sample_does_not_corroborate_it(self) -> None:
        spec = replace(ORGANISM, sampled=20, per_stratum=10)
        row = rehearsed_power(rehearsed("organism", "correction-msi"), spec, 8)
        assert row["label"] == "uncorroborated"

    def test_what_rests_on_the_primary_judge_alone_is_uncorroborated_at_best(self) -> None:
        row = rehearsed_power(rehearsed("organism", "detectors-off-topic"), ORGANISM, 8)
        assert row["power"] >= 0.8
        assert row["agreed"] == 0
        assert row["label"] == "uncorroborated"

    def test_what_is_about_the_judges_has_one_way(self) -> None:
        spec = replace(ORGANISM, sampled=453, per_stratum=400)
        row = rehearsed_power(rehearsed("organism", "judges"), spec, 2)
        assert row["power"] == row["agreed"] == 1

    def test_one_training_of_a_share_decides_nothing(self) -> None:
        case = rehearsed("organism", "finetune-attempts")
        row = rehearsed_power(case, ORGANISM, 2)
        assert (row["power"], row["latents_80"], row["label"]) == (0, np.inf, "underpowered")
        table = case.draw(ORGANISM, False, 0).set_index("statistic")
        assert table.loc["rank_correlation", "status"] == "one_training"

    def test_more_latents_add_no_responses_that_a_hazard_reads(self) -> None:
        row = rehearsed_power(rehearsed("organism", "detectors-hazard"), ORGANISM, 6)
        assert row["latents_80"] == np.inf

    def test_a_search_for_detectors_does_not_depend_on_steered_latents(self) -> None:
        row = rehearsed_power(rehearsed("organism", "detection"), ORGANISM, 2)
        assert np.isnan(row["latents_80"])

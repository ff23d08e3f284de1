"""esr.analysis.rehearsals: claims of other tables, by the code that makes these."""

from typing import Any

import pandas as pd
import pytest
from scipy import stats

from esr.analysis.hazard import hazard_ratio, risk_bins
from esr.analysis.rehearsals import (
    Rehearsal,
    activations,
    hazards,
    raters,
    rehearsal,
    rehearse_studies,
    reports,
)
from esr.analysis.scenarios import REHEARSED, not_simulated, scenario
from esr.analysis.specs import StudySpec
from esr.analysis.truths import TRUTHS
from helpers import claims

ORGANISM = StudySpec(36, 16, 48, rho=0.1, sweep=(16, 5), trainings=3, sampled=428, per_stratum=400)
STUDIES = 10


def claims_of(study: str) -> dict[str, dict[str, Any]]:
    rows: list[dict[Any, Any]] = claims.claims_of(study).to_dict("records")
    return {row["claim"]: row for row in rows}


def case_of(claim: str, study: str = "organism") -> Rehearsal:
    found = rehearsal(claims_of(study)[claim], TRUTHS[study])
    assert found is not None
    return found


@pytest.mark.parametrize("study", TRUTHS)
def test_a_claim_is_simulated_in_one_way_or_has_a_reason(study: str) -> None:
    for name, claim in claims_of(study).items():
        other, why = rehearsal(claim, TRUTHS[study]), not_simulated(claim, TRUTHS[study])
        assert (other is not None) == (why == REHEARSED), name
        assert other is None or scenario(claim, TRUTHS[study]) is None, name


def test_a_claim_of_these_tables_that_has_no_world_is_not_simulated() -> None:
    claim = claims_of("organism")["recovery"] | {"null": 5.0}
    assert rehearsal(claim, TRUTHS["organism"]) is None
    assert not_simulated(claim, TRUTHS["organism"]) == REHEARSED


@pytest.mark.parametrize("study", TRUTHS)
def test_the_value_lies_in_the_region_and_the_null_does_not(study: str) -> None:
    for name, claim in claims_of(study).items():
        case = rehearsal(claim, TRUTHS[study])
        if case is not None:
            assert not case.value < claim["lower"], name
            assert not case.value > claim["upper"], name


@pytest.mark.parametrize(
    ("claim", "power"),
    [
        ("correction-msi", 0.5),
        ("dose-first", 0.9),
        ("judges", 0.9),
        ("finetune-success", 0.9),
        ("detectors-hazard", 0.25),
    ],
)
def test_a_truth_is_confirmed_more_often_than_its_null(claim: str, power: float) -> None:
    found = rehearse_studies(case_of(claim), ORGANISM, STUDIES)
    assert found["confirmed_true"] >= power * STUDIES
    assert stats.binom.sf(found["confirmed_null"] - 1, STUDIES, 0.05) > 0.001
    assert stats.binom.sf(found["refuted_true"] - 1, STUDIES, 0.05) > 0.001


def test_a_peak_at_the_strongest_boost_is_not_inside_the_sweep() -> None:
    found = rehearse_studies(case_of("dose-response"), ORGANISM, 6)
    assert found["confirmed_true"] >= 5
    assert found["confirmed_null"] == 0


def test_a_share_without_effect_shows_no_trend() -> None:
    found = rehearse_studies(case_of("finetune-attempts"), ORGANISM, 6)
    assert found["confirmed_null"] == 0


class TestJudges:
    def test_a_random_second_judge_has_no_kappa(self) -> None:
        case = case_of("judges")
        null = [case.draw(ORGANISM, True, number)["estimate"].item() for number in range(8)]
        true = case.draw(ORGANISM, False, 0)["estimate"].item()
        assert sum(null) / len(null) == pytest.approx(0, abs=0.05)
        assert true == pytest.approx(case.value, abs=0.1)

    def test_a_random_direction_has_none_among_responses_with_several_attempts(self) -> None:
        case = case_of("judges-direction", "january")
        spec = StudySpec(200, 5, 38, sampled=400, per_stratum=400)
        null = [case.draw(spec, True, number)["estimate"].item() for number in range(8)]
        assert sum(null) / len(null) == pytest.approx(0, abs=0.15)

    def test_all_pairs_are_one_row(self) -> None:
        table = case_of("judges-multi", "january").draw(ORGANISM, False, 0)
        assert table[["judge_a", "judge_b"]].iloc[0].tolist() == ["judge_a", "judge_b"]
        assert raters.COMMON == 0.5


class TestHazards:
    def ratio(self, seed: int, effect: float, error: float = 0.0) -> float:
        tokens, restarts = hazards.responses(30, effect, [seed], error)
        bins = risk_bins(tokens, restarts, ["first_score"])
        return float(hazard_ratio(bins, ["first_score"])["hazard_ratio"])

    def test_the_detectors_own_part_is_what_announces_a_restart(self) -> None:
        assert self.ratio(0, 0.5) > 1.2
        assert self.ratio(0, 0.0) < 1.2

    def test_an_error_of_the_first_score_passes_for_activity(self) -> None:
        """Off-topicness that the score misses is in the activity: a limit that documents state."""
        exact, noisy = (
            sum(self.ratio(seed, 0.0, error) for seed in range(8)) / 8 for error in (0.0, 1.5)
        )
        assert exact == pytest.approx(1, abs=0.12)
        assert noisy > exact + 0.08


class TestActivations:
    @pytest.mark.parametrize("claim", ["detectors-off-topic", "detectors-after"])
    def test_regions_differ_as_claimed(self, claim: str) -> None:
        case = case_of(claim, "published")
        spec = StudySpec(1000, 5, 38)
        rises = [case.draw(spec, False, number)["relative_change"].item() for number in range(8)]
        assert sum(rises) / 8 == pytest.approx(case.value, rel=0.15)

    def test_equal_regions_are_not_confirmed(self) -> None:
        found = rehearse_studies(case_of("detectors-off-topic", "published"), ORGANISM, STUDIES)
        assert found["confirmed_null"] == 0
        assert found["refuted_null"] >= 8

    def test_episodes_are_as_many_as_restart_and_improve(self) -> None:
        """3.8 % of 1,000 trials; of ten times as many a study reads 200."""
        case = case_of("detectors-off-topic", "published")
        few, many = (case.draw(StudySpec(n, 5, 38), False, 0) for n in (200, 2_000))
        assert few["n_first"].item() == 38
        assert many["n_first"].item() == activations.MOST["episode"]


class TestDetectors:
    @pytest.mark.parametrize("study", ["organism", "january", "published"])
    def test_the_search_finds_those_that_are_there_and_none_by_chance(self, study: str) -> None:
        case = case_of({"organism": "detection"}.get(study, "detectors-found"), study)
        true, null = (case.draw(ORGANISM, null, 0)["value"].item() for null in (False, True))
        assert true == case.value
        assert null == 0

    def test_those_found_by_luck_have_no_effect_on_other_prompts(self) -> None:
        null = case_of("detection-held-out").draw(ORGANISM, True, 0)
        assert len(null) == 10
        assert null["d"].abs().max() < 0.8


class TestRanks:
    def test_the_largest_is_first_or_third(self) -> None:
        case = case_of("judges-rank", "january")
        spec = StudySpec(1000, 5, 38, sampled=5000, per_stratum=2500)
        true, null = (case.draw(spec, null, 0) for null in (False, True))
        for table, rank in ((true, 1), (null, 3)):
            judges = table[table["judge"].ne("restart-detector")]
            assert set(judges["judge"]) == {"primary", "second"}
            mine = judges[judges["model"].eq("llama-3.3-70b")]
            assert mine["rank"].eq(rank).all()


class TestReports:
    """Self-report: 40 directions in a window, 16 pairs of questions."""

    SPEC = StudySpec(36, 16, rho=0.1, sizes={reports.ARM: (40, 16)})

    def test_both_worlds_have_the_habits_that_controls_remove(self) -> None:
        case = case_of("detects", "introspection")
        for null, excess in ((True, 0.0), (False, reports.EXCESS)):
            drawn = [case.draw(self.SPEC, null, number) for number in range(4)]
            found = pd.concat(drawn)
            means = found[found["dose"].eq("all")].groupby("measure")["value"].mean()
            assert means["off_target_log_odds"] == pytest.approx(reports.PUSH, abs=0.4)
            assert means["random_log_odds"] == pytest.approx(reports.STIR, abs=0.4)
            assert means["excess_log_odds"] == pytest.approx(excess, abs=0.4)

    @pytest.mark.parametrize("claim", ["detects-two-turn", "names-injected"])
    def test_reports_are_confirmed_and_habits_are_not(self, claim: str) -> None:
        found = rehearse_studies(case_of(claim, "introspection"), self.SPEC, 5)
        assert found["confirmed_true"] >= 3
        assert found["confirmed_null"] == found["refuted_true"] == 0

    def test_labels_are_right_as_often_as_in_the_world(self) -> None:
        case = case_of("names", "introspection")
        wide = case.resized(self.SPEC, 300)
        assert case.latents(wide) == 300
        for null, value in ((True, 0.0), (False, case.value)):
            table = case.draw(wide, null, 0)
            rows = table[table["dose"].eq("all")].set_index("measure")["value"]
            for measure in ("choice_excess", "choice_injected"):
                assert rows[measure] == pytest.approx(value, abs=4)

"""esr.analysis.rehearsals: claims of other tables, by the code that makes these."""

from typing import Any

import pytest
from scipy import stats

from esr.analysis.claims import read_claims
from esr.analysis.hazard import hazard_ratio, risk_bins
from esr.analysis.rehearsals import Rehearsal, hazards, raters, rehearsal, rehearse_studies
from esr.analysis.scenarios import REHEARSED, not_simulated, scenario
from esr.analysis.simulation import StudySpec
from esr.analysis.truths import TRUTHS
from helpers.checkout import REPO

ORGANISM = StudySpec(36, 16, 48, rho=0.1, sweep=(16, 5), sampled=428, per_stratum=400)
STUDIES = 10


def claims_of(study: str) -> dict[str, dict[str, Any]]:
    table = read_claims([REPO / "resources" / "claims" / f"{study}.csv"])
    return {row["claim"]: row for row in table.to_dict("records")}


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

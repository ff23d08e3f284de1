"""esr.analysis.scenarios: every claim has a world in which it is true, and its declared null."""

from typing import Any

import numpy as np
import pytest

from esr.analysis.operating import design_for, scenarios
from esr.analysis.rehearsals import rehearsal
from esr.analysis.scenarios import SETS, not_simulated, scenario
from esr.analysis.specs import StudySpec
from esr.analysis.truths import TRUTHS
from helpers.claims import cases_of, claims_of


@pytest.mark.parametrize("study", [study for study, models in TRUTHS.items() if models])
class TestEveryClaim:
    def test_is_true_in_its_own_world_in_every_row(self, study: str) -> None:
        cases = cases_of(study)
        assert len(cases) >= 12
        for case in cases.values():
            for row in case.rows:
                value = case.value_of(row)
                assert case.region.lower <= value <= case.region.upper, case.claim

    def test_has_the_declared_null(self, study: str) -> None:
        nulls = claims_of(study).set_index("claim")["null"]
        for name, case in cases_of(study).items():
            assert case.null_value == pytest.approx(nulls[name], abs=1e-6), name
            assert case.rows[0].null != case.rows[0].true, name

    def test_has_the_claimed_value(self, study: str) -> None:
        expected = claims_of(study).set_index("claim")["expected"]
        for name, case in cases_of(study).items():
            if not np.isnan(expected[name]):
                assert case.value == pytest.approx(expected[name], rel=0.05, abs=0.31), name

    def test_is_simulated_or_has_a_reason_not_to_be(self, study: str) -> None:
        for claim, case in scenarios(claims_of(study), TRUTHS[study]):
            assert (case is None) == bool(not_simulated(claim, TRUTHS[study])), claim["claim"]


def test_a_claim_about_several_models_has_a_row_for_each() -> None:
    cases = cases_of("january")
    assert len(cases["msi-others"].rows) == 4
    assert len(cases["largest-first"].rows) == 4
    assert len(cases["ft-success"].rows) == 9


def test_the_null_of_several_rows_is_that_of_the_first() -> None:
    first, *others = cases_of("january")["largest-first"].rows
    assert len(set(first.null.values())) == 1
    assert all(
        row.true["llama-3.3-70b"] != row.true[name]
        for row in others
        for name in row.true
        if name != "llama-3.3-70b"
    )


def test_random_sets_are_as_many_as_in_the_studies() -> None:
    claims = claims_of("january")
    for sets, count in (({}, SETS), ({"ablate-random": 7}, 7), ({"other": 7}, SETS)):
        found = {claim["claim"]: case for claim, case in scenarios(claims, TRUTHS["january"], sets)}
        case = found["random-msi"]
        assert case is not None
        assert len(case.rows[0].true) == len(case.rows[0].null) == 1 + count


def test_a_claim_of_sign_in_the_family_knows_its_number_of_tests() -> None:
    cases = cases_of("january")
    assert cases["largest-first"].tests == cases["random-beside"].tests == 5
    assert cases["ablation-msi"].tests == 0, "its region is no sign"
    assert cases["multi-70b"].tests == 0, "it is outside of the family"


def test_an_arm_without_a_claimed_value_is_named() -> None:
    row: dict[str, Any] = {"claim": "c", "table": "tables/summary.csv", "statistic": "estimate"}
    row |= {"where": "model=llama-3.3-70b; arm=other; measure=msi", "lower": 0.0, "upper": np.nan}
    assert scenario(row | {"null": 0.0}, TRUTHS["january"]) is None
    assert "no such arm" in not_simulated(row, TRUTHS["january"])


def test_every_claim_has_a_world() -> None:
    left = [
        claim["claim"]
        for study in TRUTHS
        for claim, case in scenarios(claims_of(study), TRUTHS[study])
        if case is None and rehearsal(claim, TRUTHS[study]) is None
    ]
    assert left == []


def test_an_arm_is_compared_with_what_it_replays() -> None:
    (row,) = cases_of("organism")["prefix-dependence"].rows
    arms = TRUTHS["organism"]["planted"]
    assert list(row.true.values()) == [arms["prefix-steered"], arms["prefix-ablated"]]


def test_an_arm_matched_by_impact_has_directions_of_its_own() -> None:
    (row,) = cases_of("organism")["random-impact"].rows
    arms = TRUTHS["organism"]["planted"]
    assert row.kind == "models", "the two are independent"
    assert list(row.true.values()) == [arms["steered"], arms["steered-random-impact"]]
    spec = StudySpec(36, 16, 48, sizes={"steered-random-impact": (12, 16)})
    assert design_for(spec, row).latents == 12


def test_an_arm_of_another_size_has_a_design_and_a_sample_of_its_own() -> None:
    spec = StudySpec(1000, 5, 38, sizes={"prefix-unsteered": (250, 4)}, sampled=1500)
    cases = cases_of("published")
    own = design_for(spec, cases["prefill-restarts"].rows[0])
    assert (own.latents, own.trials, own.sampled) == (250, 4, 300)
    assert design_for(spec, cases["multi-70b"].rows[0]) == spec
    level = design_for(spec, cases_of("january")["sweep-success"].rows[0])
    assert (level.latents, level.trials, level.sampled) == (50, 10, 150)

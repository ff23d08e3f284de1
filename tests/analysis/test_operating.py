"""esr.analysis.operating: what a study can decide, and how often it errs."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from esr.analysis.claims import read_claims
from esr.analysis.operating import (
    Scenario,
    characteristics,
    power_row,
    power_table,
    scenario,
    simulate,
    with_power,
)
from esr.analysis.simulation import StudySpec
from esr.analysis.truths import TRUTHS
from helpers.checkout import REPO

CLAIMS = Path(REPO / "resources" / "claims")
ORGANISM = StudySpec(36, 16, 24, rho=0.1)
JANUARY = StudySpec(500, 5, 38, rho=0.1)


def claims_of(study: str) -> pd.DataFrame:
    return read_claims([CLAIMS / f"{study}.csv"])


def case_of(study: str, **changes: Any) -> Scenario:
    """A claim on the 70B's ablation, or on what `changes` say."""
    row = {
        "claim": "c",
        "table": "tables/comparisons.csv",
        "where": "model=llama-3.3-70b; arm=ablate-otd; measure=multi_attempt_rate",
        "statistic": "relative_change",
        "lower": np.nan,
        "upper": np.nan,
        "null": 0.0,
    }
    found = scenario(row | changes, TRUTHS[study])
    assert found is not None
    return found


class TestScenarios:
    @pytest.mark.parametrize("study", TRUTHS)
    def test_a_claim_is_true_in_its_own_world_and_not_under_its_null(self, study: str) -> None:
        simulated = 0
        for claim in claims_of(study).to_dict("records"):
            case = scenario({str(key): value for key, value in claim.items()}, TRUTHS[study])
            if case is None:
                continue
            simulated += 1
            assert case.region.lower <= case.value <= case.region.upper, case.claim
            assert case.null != case.true, case.claim
        assert simulated >= 9

    def test_the_null_of_an_effect_is_an_arm_equal_to_its_baseline(self) -> None:
        case = case_of("january", upper=-25.0)
        assert case.null["treatment"] == case.null["baseline"] == case.true["baseline"]
        assert case.value == pytest.approx(-51.2, abs=0.1)

    @pytest.mark.parametrize("study", TRUTHS)
    def test_the_null_has_the_declared_value(self, study: str) -> None:
        for claim in claims_of(study).to_dict("records"):
            case = scenario({str(key): value for key, value in claim.items()}, TRUTHS[study])
            if case is not None:
                assert case.null_value == pytest.approx(claim["null"], abs=1e-6), case.claim

    def test_a_table_that_is_not_simulated_has_no_scenario(self) -> None:
        row: dict[str, Any] = {
            "claim": "c",
            "table": "figures/fig6.csv",
            "where": "model=llama-3.3-70b",
        }
        row |= {"statistic": "value", "null": 0.0}
        assert scenario(row | {"lower": 0.0, "upper": np.nan}, TRUTHS["january"]) is None


class TestErrorRates:
    @pytest.mark.slow
    @pytest.mark.parametrize("study", ["organism", "january"])
    def test_neither_error_exceeds_five_percent(self, study: str) -> None:
        spec = ORGANISM if study == "organism" else JANUARY
        for claim in claims_of(study).to_dict("records"):
            case = scenario({str(key): value for key, value in claim.items()}, TRUTHS[study])
            if case is None:
                continue
            found = characteristics(case, spec, 100)
            # 0.05 + 2.3 standard errors of 100 studies, where the error is at its bound.
            assert found["confirmed_null"] <= 0.1, case.claim
            assert found["refuted_true"] <= 0.1, case.claim

    def test_a_large_effect_is_confirmed_and_its_absence_is_not(self) -> None:
        where = "model=planted; arm=ablate-otd; measure=multi_attempt_rate"
        found = characteristics(case_of("organism", where=where, upper=-50.0), ORGANISM, 30)
        assert found["confirmed_true"] > 0.9
        assert found["confirmed_null"] == found["refuted_true"] == 0
        assert found["refuted_null"] > 0.9

    def test_both_methods_run_through_the_code_that_judges_studies(self) -> None:
        where = "model=planted; arm=meta-self-monitor; measure=multi_attempt_rate"
        case = case_of("organism", where=where, statistic="difference", lower=0.0)
        for method in ("crossed", "tables"):
            found = characteristics(case, ORGANISM, 6, method)
            assert found["confirmed_true"] > 0.8
            assert found["confirmed_null"] <= 0.2


class TestPower:
    def test_the_january_ablation_is_underpowered_and_says_how_many_latents_it_takes(self) -> None:
        case = case_of("january", lower=-76.5, upper=-25.5)
        row = power_row(case, JANUARY, 40)
        assert row["label"] == "underpowered"
        assert row["power"] < 0.4
        assert row["latents_80"] > 1000

    def test_latents_for_80_percent_give_about_that(self) -> None:
        where = "model=llama-3.3-70b; arm=steered; measure=multi_attempt_rate"
        changes: dict[str, Any] = {"table": "tables/summary.csv", "where": where}
        case = case_of("january", **changes, statistic="estimate", lower=0.85, upper=2.55)
        needed = power_row(case, JANUARY, 40)["latents_80"]
        enough = simulate(case, StudySpec(int(needed), 5, 38, rho=0.1), 60)["verdict"]
        assert 0.6 < enough.eq("confirmed").mean() < 0.98

    def test_a_value_at_the_edge_of_its_region_is_never_decided(self) -> None:
        where = "model=llama-3.3-70b; arm=steered; measure=multi_attempt_rate"
        changes: dict[str, Any] = {"table": "tables/summary.csv", "where": where}
        case = case_of("january", **changes, statistic="estimate", lower=1.7)
        assert power_row(case, JANUARY, 10)["latents_80"] == np.inf

    def test_every_claim_of_a_study_has_a_label(self) -> None:
        claims = claims_of("organism").head(6)
        table = power_table(claims, TRUTHS["organism"], ORGANISM, (0.1,), 5)
        assert table["claim"].tolist() == claims["claim"].tolist()
        assert set(table["label"]) <= {"decidable", "underpowered", "not simulated"}

    def test_undecided_without_power_is_underpowered(self) -> None:
        assert with_power("undecided", 0.3) == "underpowered"
        assert with_power("undecided", 0.9) == "undecided"
        assert with_power("refuted", 0.1) == "refuted"

"""esr.analysis.misjudged: judges that err, the habit of one of them, and one that phrases share."""

from dataclasses import replace

import pandas as pd
import pytest

from esr.analysis.misjudged import (
    ON_TOPIC,
    SENSITIVITY,
    SPECIFICITY,
    all_err,
    has_habit,
    judged_characteristics,
    one_habit,
)
from esr.analysis.operating import simulate
from esr.analysis.scenarios import Row, Scenario
from esr.analysis.specs import StudySpec
from esr.config.files import study_config
from esr.planning.power import design_of
from helpers.checkout import REPO
from helpers.claims import cases_of, with_spread

ORGANISM = StudySpec(36, 16, 48, rho=0.1, sampled=428, per_stratum=400)
STUDIES = 20


def case_of(claim: str, study: str = "organism") -> Scenario:
    return cases_of(study)[claim]


class TestErrors:
    def test_are_those_of_steered_text(self) -> None:
        steered, unsteered = (
            all_err(ORGANISM, case_of(name).rows[0], null=False)
            for name in ("dependence", "no-cause-multi")
        )
        for design, arm, specificity in (
            (steered, "treatment", SPECIFICITY),
            (unsteered, "arm", 1.0),
        ):
            for judge in ("primary", "second"):
                assert design.judges[judge].rates(arm) == (SENSITIVITY, specificity)
        assert case_of("no-cause-multi").rows[0].true["arm"].first > ON_TOPIC

    def test_of_all_judges_neither_confirm_a_null_nor_refute_a_truth(self) -> None:
        found = judged_characteristics(case_of("dependence"), ORGANISM, STUDIES)
        assert found["judged_true"] >= 0.6 * STUDIES
        assert found[["judged_refuted_true", "judged_null"]].sum() == 0


class TestHabit:
    def rates(self, claim: str) -> dict[str, float]:
        """Share of trials in which the primary judge sees several attempts under the null."""
        row = case_of(claim).rows[0]
        judge = one_habit(ORGANISM, row, null=True).judges["primary"]
        shares = {}
        for arm, truth in row.null.items():
            sensitivity, specificity = judge.rates(arm)
            shares[arm] = truth.multi * sensitivity + (1 - truth.multi) * (1 - specificity)
        return shares

    @pytest.mark.parametrize("claim", ["dependence", "meta-prompt", "correction"])
    def test_is_to_see_the_rates_of_the_claim(self, claim: str) -> None:
        true = {arm: truth.multi for arm, truth in case_of(claim).rows[0].true.items()}
        assert self.rates(claim) == pytest.approx(true)

    def test_leaves_the_other_judges_as_they_are(self) -> None:
        row = case_of("dependence").rows[0]
        habit, others = one_habit(ORGANISM, row, null=True), all_err(ORGANISM, row, null=True)
        assert habit.judges["second"] == others.judges["second"]
        assert habit.detector == others.detector
        assert one_habit(ORGANISM, row, null=False) == all_err(ORGANISM, row, null=False)

    def test_cannot_show_a_claim_about_first_scores(self) -> None:
        assert not has_habit(case_of("target"))
        assert has_habit(case_of("dependence"))

    @pytest.mark.parametrize("claim", ["dependence", "meta-prompt", "correction-esr"])
    def test_convinces_its_judge_and_nobody_else(self, claim: str) -> None:
        found = simulate(case_of(claim), ORGANISM, STUDIES, null=True, ways=True, erring=one_habit)
        assert found["verdict"].eq("confirmed").sum() >= 0.4 * STUDIES
        assert found["agreed"].eq("confirmed").sum() <= 1

    def test_that_the_restart_detector_shares_is_stopped_by_the_second_judge(self) -> None:
        found = shared("dependence", ORGANISM)
        assert found["verdict"].eq("confirmed").sum() >= 0.9 * STUDIES
        assert found["agreed"].eq("depends on the judge").sum() >= 0.9 * STUDIES

    @pytest.mark.parametrize(
        ("study", "claim"), [("january", "multi-70b"), ("published", "random-multi")]
    )
    def test_that_it_shares_is_not_confirmed_where_the_second_sample_is_small(
        self, study: str, claim: str
    ) -> None:
        """The detector agrees in every study, and the second judge's interval is wide."""
        spec = design_of(study_config(REPO, {"january": "paper", "published": "arxiv"}[study]))
        found = shared(claim, replace(spec, rho=0.05), study)
        assert found["verdict"].eq("confirmed").sum() >= 0.2 * STUDIES
        assert found["agreed"].eq("confirmed").sum() == 0

    def test_that_it_shares_is_confirmed_without_a_second_judge(self) -> None:
        """The limit: a study with one judge cannot exclude it (docs/method.md)."""
        found = shared("dependence", replace(ORGANISM, sampled=0))
        assert found["agreed"].eq("confirmed").sum() >= 0.9 * STUDIES


def shared(claim: str, spec: StudySpec, study: str = "organism") -> pd.DataFrame:
    """Studies under the null with a habit of the primary judge that the restart detector has.

    Random sets do not differ, so that the judges alone decide.
    """
    case = with_spread(case_of(claim, study), 0)

    def erring(spec: StudySpec, row: Row, null: bool) -> StudySpec:
        design = one_habit(spec, row, null)
        return replace(design, detector=design.judges["primary"])

    return simulate(case, spec, STUDIES, null=True, ways=True, erring=erring)

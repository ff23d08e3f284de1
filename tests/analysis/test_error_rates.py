"""benchmarks/claims.csv: no claim errs in more than 5 % of studies, and every claim is in it."""

import pandas as pd
import pytest
from scipy import stats

from esr.analysis.claims import read_claims, stated
from esr.analysis.operating import scenarios
from esr.analysis.rehearsals import Rehearsal, rehearsal
from esr.analysis.scenarios import not_simulated
from esr.analysis.truths import TRUTHS
from esr.config.files import study_config
from esr.docs_power import STUDIES, label
from esr.planning.power import design_of
from helpers.checkout import REPO

LIMIT = 0.05
"""Share of studies in which a claim may err."""
CONFIDENCE = 0.05
"""Chance that the test fails although no claim errs in more than `LIMIT` of studies."""
NAMES = {"organism": "organism", "january": "paper", "published": "arxiv"}
NAMES["introspection"] = "introspection"


ERRORS = {
    "studies": ["refuted_true", "confirmed_null"],
    "judged_studies": ["judged_refuted_true", "judged_null", "habit"],
}
"""Errors by the column with their number of studies: without errors of judges, and with them."""


def table() -> pd.DataFrame:
    return pd.read_csv(REPO / "benchmarks" / "claims.csv")


def beyond_the_limit(rows: pd.DataFrame) -> pd.DataFrame:
    """Errors that are larger than the limit: one-sided binomial test, Bonferroni over all cells."""
    cells = pd.concat(
        rows.rename(columns={count: "of"}).melt(
            ["study", "claim", "rho", "of"], errors, "error", "percent"
        )
        for count, errors in ERRORS.items()
    ).dropna(subset=["of", "percent"])
    cells = cells.rename(columns={"of": "studies"})
    events = (cells["percent"] * cells["studies"] / 100).round()
    chance = stats.binom.sf(events - 1, cells["studies"], LIMIT)
    return cells[chance < CONFIDENCE / len(cells)]


def test_no_claim_errs_in_more_than_five_percent_of_studies() -> None:
    rows = table().query("simulated")
    rehearsed = rows["rehearsed"].eq(True)
    assert rows.loc[~rehearsed, "studies"].min() >= 100
    at_most = rows["rho"].eq(rows["rho"].max())
    assert rows.loc[~rehearsed & at_most, "judged_studies"].min() >= 30
    assert rows.loc[rehearsed, "studies"].min() >= 30
    assert rows.loc[~rehearsed, "power_studies"].min() >= 60
    assert rows.loc[~rehearsed, "agreed_studies"].min() >= 30
    assert rows.loc[rehearsed, "power_studies"].min() >= 20
    wrong = beyond_the_limit(rows)
    assert wrong.empty, wrong.to_string()


@pytest.mark.parametrize("error", ERRORS["judged_studies"])
def test_with_judges_that_err_claims_err_in_less_than_one_percent_of_all_studies(
    error: str,
) -> None:
    """Few studies a claim do not distinguish 5 % from noise; those of all claims together do."""
    rows = table().dropna(subset=[error])
    events = (rows[error] * rows["judged_studies"] / 100).round().sum()
    studies = rows["judged_studies"].sum()
    assert studies >= 1000
    assert stats.beta.ppf(0.95, events + 1, studies - events) < 0.01, "Clopper and Pearson 1934"


def test_chance_makes_a_difference_in_no_more_than_five_percent_of_aa_arms() -> None:
    rows = pd.read_csv(REPO / "benchmarks" / "chance.csv")
    assert set(rows["latents"]) == {12, 36}, "`other-seeds` of the organism study, and all latents"
    for column in ("interval", "test"):
        looked = rows["studies"] - rows["n_missing"]  # those without an interval find nothing
        events = (rows[column] * looked / 100).round()
        chance = stats.binom.sf(events - 1, looked, LIMIT)
        assert (chance > CONFIDENCE / len(rows)).all()
        assert looked.min() >= 280


def test_an_error_of_ten_percent_in_600_studies_would_be_seen() -> None:
    rows = table().query("simulated")
    first = rows.index[0]
    rows = rows.astype({"confirmed_null": float})
    rows.loc[first, ["confirmed_null", "studies"]] = 10.0, 600
    assert beyond_the_limit(rows)["claim"].tolist() == [rows.loc[first, "claim"]]


def test_one_judges_habit_would_confirm_claims_by_itself() -> None:
    """The artefact is large enough to matter: all ways are what stops it."""
    rows = table().dropna(subset=["habit"])
    assert rows["habit_primary"].gt(80).sum() >= 20
    assert rows["habit"].mean() < 1


def test_a_habit_that_all_ways_confirm_would_be_seen() -> None:
    rows = table().query("simulated")
    first = rows["habit"].first_valid_index()
    rows.loc[first, ["habit", "judged_studies"]] = 40.0, 30
    assert beyond_the_limit(rows)["error"].tolist() == ["habit"]


@pytest.mark.parametrize("study", STUDIES)
def test_every_claim_is_simulated_at_the_size_of_its_study_or_has_a_reason(study: str) -> None:
    rows = table().query("study == @study")
    claims = read_claims([REPO / "resources" / "claims" / f"{study}.csv"])["claim"]
    missing = set(claims) ^ set(rows["claim"])
    assert not missing, "run benchmarks/claims.py, and delete the rows of claims that are gone"
    assert rows.loc[~rows["simulated"], "why"].astype("string").str.len().gt(5).all()
    assert rows.loc[rows["simulated"], "power"].between(0, 100).all()
    design = design_of(study_config(REPO, NAMES[study]))
    for name in ("latents", "trials", "sampled", "per_stratum", "trainings"):
        assert set(rows[name]) == {getattr(design, name)}, name


@pytest.mark.parametrize("study", STUDIES)
def test_every_claim_was_simulated_as_it_stands(study: str) -> None:
    rows = table().query("study == @study")
    claims = read_claims([REPO / "resources" / "claims" / f"{study}.csv"])
    sizes = design_of(study_config(REPO, NAMES[study])).sizes
    for claim, scenario in scenarios(claims, TRUTHS[study]):
        of_claim = rows[rows["claim"].eq(claim["claim"])]
        case = scenario or rehearsal(claim, TRUTHS[study])
        assert set(of_claim["stated"]) == {stated(claim)}, "run benchmarks/claims.py again"
        assert set(of_claim["spread"]) == {scenario.spread if scenario else 0.0}, "its world"
        assert of_claim["simulated"].eq(case is not None).all()
        assert of_claim["rehearsed"].eq(True).eq(isinstance(case, Rehearsal)).all()
        own = sizes.get(scenario.rows[0].arm) if scenario else None
        assert set(of_claim["own"].fillna("")) == {f"{own[0]} x {own[1]}" if own else ""}
        if case is not None:
            assert of_claim["value"].to_numpy() == pytest.approx(case.value, abs=0.006), "its world"
        else:
            assert set(of_claim["why"]) == {not_simulated(claim, TRUTHS[study])}


@pytest.mark.parametrize("column", ["lower", "upper", "null", "where", "statistic"])
def test_a_changed_claim_is_another_one(column: str) -> None:
    claim = read_claims([REPO / "resources/claims/organism.csv"]).set_index("claim", drop=False)
    before = claim.loc["target"].to_dict()
    after = before | {column: 51.0 if column in ("lower", "upper", "null") else "other"}
    assert stated(after) != stated(before)


def test_the_label_counts_both_correlations() -> None:
    enough = [80.0, 95.0]
    assert label(enough, enough) == "decidable"
    assert label([81.0, 79.0], enough) == "decidable at one correlation only"
    assert label([20.0, 10.0], enough) == "not decidable"


def test_a_claim_that_the_second_judge_cannot_confirm_is_not_decidable() -> None:
    assert label([100.0, 100.0], [0.0, 0.0]) == "uncorroborated"
    assert label([100.0, 100.0], [90.0, 0.0]) == "decidable at one correlation only"
    assert label([100.0, 20.0], [0.0, 0.0]) == "uncorroborated"

"""The scorecard: one rule for every verdict, and claims files that can be read."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2

from esr.analysis.claims import (
    CLAIM,
    WIDER,
    Finding,
    Region,
    decide,
    find_rows,
    read_claims,
)
from esr.analysis.claims_scope import no_claims_note, other_studies_claims
from esr.analysis.verdicts import score
from esr.config import LevelsConfig
from esr.errors import EsrError
from helpers.checkout import REPO
from helpers.studies import load_study

CLAIMS = sorted((REPO / "resources/claims").glob("*.csv"))
NAN, INF = np.nan, np.inf


def claims(tmp_path: Path, **changes: str) -> pd.DataFrame:
    """One sound claim, with changes."""
    plain = dict.fromkeys(CLAIM, "") | {
        "claim": "rate",
        "source": "a paper",
        "statement": "the rate is 4 %",
        "table": "tables/summary.csv",
        "where": "model=m; measure=esr_rate",
        "statistic": "estimate",
        "expected": "4",
        "lower": "2",
        "upper": "6",
        "null": "0",
        "unit": "percent",
    }
    path = tmp_path / "claims.csv"
    pd.DataFrame([plain | changes]).to_csv(path, index=False)
    return read_claims([path])


def summary(**changes: object) -> dict[str, pd.DataFrame]:
    """A study's summary with one row, on which the second judge agrees."""
    row = {"model": "m", "measure": "esr_rate", "estimate": 4.0, "low": 3.0, "high": 5.0}
    row |= {"n": 500, "status": "ok"}
    ways = [row | changes | {"way": way} for way in ("primary", "second")]
    return {"tables/summary.csv": pd.DataFrame(ways)}


class TestRule:
    @pytest.mark.parametrize(
        ("low", "high", "region", "verdict"),
        [
            (3, 5, Region(2, 6), "confirmed"),
            (2, 6, Region(2, 6), "confirmed"),
            (1, 5, Region(2, 6), "undecided"),
            (5, 7, Region(2, 6), "undecided"),
            (1, 7, Region(2, 6), "undecided"),
            (7, 9, Region(2, 6), "refuted"),
            (0, 1.9, Region(2, 6), "refuted"),
            (0.1, 9, Region(0, INF), "confirmed"),
            (-1, 9, Region(0, INF), "undecided"),
            (-3, -1, Region(0, INF), "refuted"),
            (-3, -1, Region(-INF, 0), "confirmed"),
        ],
    )
    def test_an_interval_inside_confirms_outside_refutes_across_decides_nothing(
        self, low: float, high: float, region: Region, verdict: str
    ) -> None:
        assert decide(Finding((low + high) / 2, low, high), region)[0] == verdict

    def test_without_a_value_or_an_interval_nothing_is_decided(self) -> None:
        region = Region(0, INF)
        assert decide(Finding(NAN, NAN, NAN, status="undefined"), region)[0] == "undecided"
        assert decide(Finding(4, NAN, NAN, status="too_few"), region)[0] == "undecided"

    @pytest.mark.parametrize("status", ["not_run", "no_labels"])
    def test_what_was_not_run_is_not_run(self, status: str) -> None:
        assert decide(Finding(NAN, NAN, NAN, status=status), Region(0, 1))[0] == "not run"

    @pytest.mark.parametrize(
        ("p_value", "region", "verdict"),
        [
            (NAN, Region(1, 7), "confirmed"),  # 4 -+ 2.5
            (NAN, Region(2, 6), "undecided"),
            (0.001, Region(2, 6), "undecided"),
            (NAN, Region(7, INF), "refuted"),
            (NAN, Region(6, INF), "undecided"),
            (NAN, Region(0, INF), "confirmed"),
        ],
    )
    def test_a_sparse_interval_decides_if_it_would_with_ends_farther_out(
        self, p_value: float, region: Region, verdict: str
    ) -> None:
        finding = Finding(4, 3, 5, status="sparse", p_value=p_value)
        assert decide(finding, region)[0] == verdict

    @pytest.mark.parametrize(
        ("p_value", "verdict"), [(0.001, "confirmed"), (0.2, "undecided"), (NAN, "undecided")]
    )
    def test_or_on_a_sign_that_a_permutation_test_bears_out(
        self, p_value: float, verdict: str
    ) -> None:
        finding = Finding(4, 1, 9, status="sparse", p_value=p_value)
        assert decide(finding, Region(0, INF))[0] == verdict

    @pytest.mark.parametrize("events", range(1, 8))
    def test_that_far_out_lies_the_exact_interval_of_a_few_events(self, events: int) -> None:
        latents = 500
        rng = np.random.default_rng(events)
        draws = rng.binomial(latents, events / latents, 20_000)  # a bootstrap of their number
        low, high = np.quantile(draws, [0.025, 0.975])
        exact = chi2.ppf([0.025, 0.975], [2 * events, 2 * events + 2]) / 2
        assert events - WIDER * (events - low) <= exact[0]
        assert exact[1] <= events + WIDER * (high - events)

    def test_a_tied_peak_has_an_interval_but_no_value(self) -> None:
        finding = Finding(NAN, -0.2, 2.4, status="tied")
        assert decide(finding, Region(-INF, 2.9))[0] == "confirmed"
        assert decide(finding, Region(-INF, 2))[0] == "undecided"

    def test_a_count_is_exact(self, tmp_path: Path) -> None:
        table = {"tables/summary.csv": summary()["tables/summary.csv"].drop(columns=["low"])}
        assert score(claims(tmp_path, exact="yes"), table)["verdict"].tolist() == ["confirmed"]
        with pytest.raises(EsrError, match="no column 'low'"):
            score(claims(tmp_path), table)


class TestRows:
    @pytest.mark.parametrize(
        ("changes", "verdict"),
        [
            ({}, "confirmed"),
            ({"low": 7.0, "high": 9.0, "estimate": 8.0}, "refuted"),
            ({"low": 0.0, "high": 9.0}, "undecided"),
            ({"low": NAN, "high": NAN, "estimate": NAN, "status": "undefined"}, "undecided"),
            ({"model": "other"}, "not run"),
        ],
    )
    def test_changed_measurements_change_the_verdict(
        self, tmp_path: Path, changes: dict[str, object], verdict: str
    ) -> None:
        row = score(claims(tmp_path), summary(**changes)).iloc[0]
        assert row["verdict"] == verdict
        assert row["reason"]

    def test_a_study_without_the_table_has_not_run_it(self, tmp_path: Path) -> None:
        row = score(claims(tmp_path), {}).iloc[0]
        assert row["verdict"] == "not run"
        assert "tables/summary.csv" in row["reason"]
        assert np.isnan(row["measured"])

    def several(self, tmp_path: Path, *lows: float, where: str = "model=*") -> str:
        rows = [
            summary(model=f"m{i}", low=low, high=low + 1)["tables/summary.csv"]
            for i, low in enumerate(lows)
        ]
        table = {"tables/summary.csv": pd.concat(rows, ignore_index=True)}
        return str(score(claims(tmp_path, where=where), table)["verdict"].iloc[0])

    def test_a_claim_about_several_rows_holds_if_it_holds_in_each(self, tmp_path: Path) -> None:
        assert self.several(tmp_path, 3, 4) == "confirmed"
        assert self.several(tmp_path, 3, 5.5) == "undecided"
        assert self.several(tmp_path, 3, 5.5, 9) == "refuted"

    def test_a_model_that_was_not_run_leaves_it_undecided(self, tmp_path: Path) -> None:
        assert self.several(tmp_path, 3, 4, where="model=m0|m1|m2") == "undecided"
        assert self.several(tmp_path, 3, 9, where="model=m0|m1|m2") == "refuted"
        assert self.several(tmp_path, 3, 4, where="model=m0|m1") == "confirmed"
        assert self.several(tmp_path, 3, 9, where="model=*; model!=m1") == "confirmed"

    def test_a_row_that_is_not_unique_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(EsrError, match="names 2 rows"):
            self.several(tmp_path, 3, 4, where="measure=esr_rate")

    def test_a_mistyped_column_is_an_error_and_no_missing_experiment(self, tmp_path: Path) -> None:
        with pytest.raises(EsrError, match="no column 'mesure'"):
            score(claims(tmp_path, where="mesure=esr_rate"), summary())
        with pytest.raises(EsrError, match="no column 'estimat'"):
            score(claims(tmp_path, statistic="estimat"), summary())

    def test_a_missing_value_is_matched_by_nothing(self) -> None:
        table = pd.DataFrame({"arm": ["a", None], "latent": [1.0, NAN]})
        assert len(find_rows(table, "latent=1")[0]) == 1
        assert len(find_rows(table, "arm=*")[0]) == 1


class TestFiles:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"lower": "", "upper": ""}, "has no region"),
            ({"lower": "7"}, "ends before it begins"),
            ({"expected": "9"}, "outside of its region"),
            ({"lower": "low"}, "column lower"),
            ({"where": "model"}, "is not `column=value`"),
            ({"exact": "perhaps"}, "has a value other than `yes` under `exact`"),
            ({"family": "perhaps"}, "has a value other than `yes` under `family`"),
            ({"null": ""}, "has no null"),
            ({"null": "3"}, "has a null inside its region, so that noise can satisfy it"),
            ({"lower": "", "null": "3"}, "has a null inside its region"),
        ],
    )
    def test_a_claim_that_decides_nothing_is_named(
        self, tmp_path: Path, changes: dict[str, str], message: str
    ) -> None:
        with pytest.raises(EsrError, match=message):
            claims(tmp_path, **changes)

    def test_a_file_with_other_columns_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "x.csv").write_text("claim,says\na,b\n")
        with pytest.raises(EsrError, match="claims have"):
            read_claims([tmp_path / "x.csv"])

    def test_a_claim_counts_once(self) -> None:
        assert not read_claims(CLAIMS).empty
        with pytest.raises(EsrError, match=r"is in two files, or a file is listed twice"):
            read_claims([*CLAIMS, CLAIMS[0]])

    @pytest.mark.parametrize("path", CLAIMS, ids=lambda path: path.stem)
    def test_the_shipped_claims_can_be_read(self, path: Path) -> None:
        found = read_claims([path])
        assert len(found) >= 5
        assert found["source"].ne("").all()
        assert found["basis"].ne("").all()
        assert found["unit"].ne("").all()


@pytest.fixture(scope="module")
def shipped() -> dict[str, pd.DataFrame]:
    """Claims by source, indexed by name."""
    return {path.stem: read_claims([path]).set_index("claim") for path in CLAIMS}


class TestShippedClaims:
    """Faults of earlier versions of resources/claims/, as properties of the files."""

    def test_a_claimed_rate_has_a_region_with_two_ends(
        self, shipped: dict[str, pd.DataFrame]
    ) -> None:
        for table in shipped.values():
            rates = table[table["where"].str.contains("measure=(?:esr|multi_attempt)_rate")]
            rates = rates[rates["expected"].notna() & rates["statistic"].eq("estimate")]
            open_end = rates[rates["lower"].isna() & rates["expected"].gt(0)]
            assert open_end.empty, open_end.index.tolist()

    def test_that_a_rate_stays_is_claimed_of_its_relative_change(
        self, shipped: dict[str, pd.DataFrame]
    ) -> None:
        """Where events are rare no loss reaches a bound in points: the loss of all would confirm.

        A study without restarts would show that random ablations change nothing.
        """
        for table in shipped.values():
            arms = table[table["table"].isin(["tables/comparisons.csv", "tables/contrasts.csv"])]
            rates = arms[arms["where"].str.contains("measure=(?:esr_rate|multi_attempt_rate|msi)")]
            stays = rates[rates["lower"].lt(0) & ~rates["where"].str.contains("kind=peak")]
            assert stays["statistic"].eq("relative_change").all(), stays.index.tolist()
        assert {"random-multi", "random-esr"} <= set(shipped["published"].index)

    def test_claims_about_the_optimal_boost_read_that_level_of_the_sweep(
        self, shipped: dict[str, pd.DataFrame]
    ) -> None:
        sweep = LevelsConfig(count=8, lowest=-1.5, highest=3)
        levels = np.linspace(sweep.lowest, sweep.highest, sweep.count)
        nearest = levels[np.abs(levels - -0.3).argmin()]
        for claim in ("sweep-success", "sweep-attempts"):
            assert f"sweep_level={nearest:g}" in shipped["january"].loc[claim, "where"]

    def test_agreement_of_judges_is_corrected_for_chance(
        self, shipped: dict[str, pd.DataFrame]
    ) -> None:
        for table in shipped.values():
            between = table[table["where"].str.contains("weighting=") & table["lower"].notna()]
            assert between["where"].str.contains("statistic=kappa").all()
            assert between["null"].eq(0).all()

    def test_no_claim_averages_positive_leads_alone(self, shipped: dict[str, pd.DataFrame]) -> None:
        assert not any(t["where"].str.contains("mean lead").any() for t in shipped.values())

    def test_a_claim_about_contrastive_vectors_does_not_read_random_directions(
        self, shipped: dict[str, pd.DataFrame]
    ) -> None:
        assert "random-direction" not in shipped["published"].loc["other-vectors", "where"]

    def test_no_claim_rests_on_scores_that_count_given_on_topic_words(
        self, shipped: dict[str, pd.DataFrame]
    ) -> None:
        """The given text alone raises them; restarts count only after it."""
        given = [
            name
            for study in (load_study(name="arxiv"), load_study())
            for name, arm in study.arms.items()
            if arm.continued and arm.continued.where == "on_topic"
            if name not in study.judged_alone
        ]
        assert set(given) == {"prefix-on-topic", "branch-on-topic"}
        for table in shipped.values():
            about = table[table["where"].str.contains(f"arm=(?:{'|'.join(given)})(?:;|$)")]
            measures = set(about["where"].str.extract(r"measure=(\w+)")[0])
            assert measures <= {"multi_attempt_rate", "restart_rate"}, about.index.tolist()

    def test_every_source_has_one_confirmatory_family(
        self, shipped: dict[str, pd.DataFrame]
    ) -> None:
        for name, table in shipped.items():
            family = table[table["family"].eq("yes")]
            if name == "introspection":
                assert family.empty, "its claims have no p-value"
                continue
            assert 5 <= len(family) <= 7, name
            assert family["null"].eq(0).all(), "claims on the sign of a difference"


class TestOtherModels:
    """A study is scored by claims about its models; the rest are named, and not shown."""

    def test_a_file_about_other_models_is_left_out_and_named(self) -> None:
        january = REPO / "resources/claims/january.csv"
        others = other_studies_claims([january], ["mine", "other"])
        assert list(others) == [january]
        note = no_claims_note([january], ["mine", "other"])
        assert "january.csv is left out: its 32 claims are about gemma-2-27b" in note
        assert "this study has mine, other. No claim is about this study" in note
        assert "name a file of yours under `claims`" in note

    def test_a_file_about_one_of_the_models_counts_in_full(self) -> None:
        january = REPO / "resources/claims/january.csv"
        assert other_studies_claims([january], ["llama-3.1-8b", "mine"]) == {}
        assert no_claims_note([january], ["llama-3.1-8b"]) == ""

    def test_without_files_the_scorecard_names_the_key_to_set(self) -> None:
        assert no_claims_note([], ["mine"]) == (
            "No claim is about this study: name a file of yours under `claims`."
        )


class TestStatuses:
    @pytest.mark.parametrize("p_value", [NAN, 1e-6])
    @pytest.mark.parametrize("value", [4.0, -4.0])
    def test_few_clusters_neither_confirm_nor_refute(self, value: float, p_value: float) -> None:
        finding = Finding(value, value - 1, value + 1, status="few_clusters", p_value=p_value)
        assert decide(finding, Region(0, INF))[0] == "undecided"

    def test_an_arm_without_trials_is_not_run(self) -> None:
        finding = Finding(NAN, NAN, NAN, n=0, status="no_trials")
        assert decide(finding, Region(0, INF)) == ("not run", "status no_trials")

    def test_the_bound_of_a_zero_decides(self) -> None:
        finding = Finding(0, 0, 3.4, status="no_variation")
        assert decide(finding, Region(-INF, 5))[0] == "confirmed"
        assert decide(finding, Region(5, INF))[0] == "refuted"

    def test_an_end_without_bound_lies_in_an_open_region_alone(self) -> None:
        finding = Finding(30, 10, INF)
        assert decide(finding, Region(0, INF))[0] == "confirmed"
        assert decide(finding, Region(0, 100))[0] == "undecided"
        assert decide(finding, Region(-INF, 0))[0] == "refuted"

"""Verdicts by four ways: none rests on one judge, and a study of noise confirms nothing."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from esr.analysis.claims import CLAIM, MEASURED
from esr.analysis.statistics import holm
from esr.analysis.summaries import comparison_table, summary_table
from esr.analysis.verdicts import (
    COLUMNS,
    Power,
    combine,
    family_p,
    least_power,
    score,
    with_family,
)
from esr.analysis.ways import WAYS, Way, by_way, views
from esr.config import StatisticsConfig
from helpers.scores import scores_of

FEW = StatisticsConfig(bootstrap=300)
COMPARISONS = "tables/comparisons.csv"
MEASURES = ["multi_attempt_rate", "esr_rate", "first_score"]
LATENTS, PER_LATENT = 30, 20


def claim(**changes: Any) -> dict[str, Any]:
    """The claim that an ablation at least halves the multi-attempt rate."""
    row: dict[str, Any] = dict.fromkeys(CLAIM, "")
    row |= dict.fromkeys(["expected", "lower", "upper", "null", "paper_n"], np.nan)
    row |= {
        "claim": "halves",
        "source": "a paper",
        "table": COMPARISONS,
        "where": "model=m; arm=ablate; measure=multi_attempt_rate",
        "statistic": "relative_change",
        "upper": -50.0,
    }
    return row | changes


def sign(name: str, measure: str, **changes: Any) -> dict[str, Any]:
    """A claim of the family: the ablation lowers a measure."""
    where = f"model=m; arm=ablate; measure={measure}"
    shape = {"statistic": "difference", "upper": 0.0, "family": "yes"}
    return claim(claim=name, where=where, **shape) | changes


def trials(rate: float, seed: int, restarts: float | None = None) -> pd.DataFrame:
    """An arm: shares of trials with two attempts, and with a restart (default: the same)."""
    rng = np.random.default_rng(seed)
    n = LATENTS * PER_LATENT
    several = rng.random(n) < rate
    scores = scores_of([[20.0, 80.0] if each else [20.0] for each in several], per_latent=20)
    found = several if restarts is None else rng.random(n) < restarts
    return scores.assign(restart_detected=pd.array(found, "boolean"))


def study(steered: pd.DataFrame, ablated: pd.DataFrame) -> pd.DataFrame:
    """Both arms of the model m."""
    arms = {"steered": steered, "ablate": ablated}
    parts = [table.assign(model="m", arm=arm) for arm, table in arms.items()]
    return pd.concat(parts, ignore_index=True)


def compared(primary: pd.DataFrame, second: pd.DataFrame | None = None) -> pd.DataFrame:
    """tables/comparisons.csv of a study in its ways; the second judge grades every trial."""
    sample = None if second is None else second.assign(weight=1.0)
    return by_way(
        views(primary, sample),
        lambda way: comparison_table(way.scores, {"ablate": "steered"}, FEW, way.shown(MEASURES)),
    )


def verdict_of(table: pd.DataFrame, **changes: Any) -> pd.Series:
    return score(pd.DataFrame([claim(**changes)]), {COMPARISONS: table}).iloc[0]


class TestDifferentialMisclassification:
    """The ablation garbles openers that the primary judge requires: it halves, others less."""

    primary = study(trials(0.40, 1, restarts=0.40), trials(0.096, 2, restarts=0.20))  # -76 %
    second = study(trials(0.40, 3), trials(0.20, 4))  # -50 %

    def test_one_judge_alone_would_confirm_it(self) -> None:
        row = verdict_of(compared(self.primary, self.second))
        assert row["primary_verdict"] == "confirmed"
        assert row["measured"] == row["primary_measured"] < -65
        assert -62 < row["second_measured"] < -38
        assert -62 < row["judge_free_measured"] < -38

    def test_the_verdict_depends_on_the_judge(self) -> None:
        row = verdict_of(compared(self.primary, self.second))
        assert row["verdict"] == "depends on the judge"
        assert "undecided by judge-free and second judge; the primary" in row["reason"]

    def test_a_second_judge_who_agrees_confirms_it(self) -> None:
        row = verdict_of(compared(self.primary, self.primary))
        assert row["verdict"] == "confirmed"
        assert "agrees: second judge (of 2 independent ways)" in row["reason"]

    def test_a_restart_detector_that_looks_for_the_same_words_does_not(self) -> None:
        """Phrases fall with the primary judge's attempts, and the second judge sees no change."""
        phrases = study(trials(0.40, 1, restarts=0.40), trials(0.096, 2, restarts=0.096))
        row = verdict_of(compared(phrases, study(trials(0.40, 3), trials(0.38, 4))))
        assert row["primary_verdict"] == row["judge_free_verdict"] == "confirmed"
        assert row["second_verdict"] in ("undecided", "refuted")
        assert row["verdict"] == "depends on the judge"

    def test_without_any_independent_way_nothing_is_confirmed(self) -> None:
        row = verdict_of(compared(self.primary), where="model=m; arm=ablate; measure=esr_rate")
        assert row["primary_verdict"] == "confirmed"
        assert row["judge_free_verdict"] == row["second_verdict"] == "not measurable"
        assert row["verdict"] == "uncorroborated"
        assert "no independent way measured it" in row["reason"]

    def test_a_table_that_only_the_primary_judge_has_confirms_nothing(self) -> None:
        table = compared(self.primary).query("way == 'primary'").drop(columns="way")
        assert verdict_of(table)["verdict"] == "uncorroborated"


class TestLackOfADecision:
    """A second sample that is too small does not contradict the primary judge."""

    primary = study(trials(0.40, 1), trials(0.06, 2))
    claims = claim(where="model=m; arm=ablate; measure=esr_rate")

    def second(self, rate: float, per_latent: int) -> pd.DataFrame:
        few = [
            table[table.groupby("latent").cumcount().lt(per_latent)]
            for table in (trials(0.40, 1), trials(rate, 2))
        ]
        return study(few[0], few[1])

    def test_a_small_sample_with_the_same_value_leaves_the_verdict_uncorroborated(self) -> None:
        row = verdict_of(compared(self.primary, self.second(0.18, 3)), where=self.claims["where"])
        assert row["primary_verdict"] == "confirmed"
        assert row["second_verdict"] == "undecided"
        assert row["second_low"] < row["measured"] < row["second_high"]
        assert row["verdict"] == "uncorroborated"
        assert row["reason"].endswith("no value contradicts it")

    def test_the_same_sample_with_another_value_makes_it_depend_on_the_judge(self) -> None:
        row = verdict_of(compared(self.primary, self.second(0.22, 8)), where=self.claims["where"])
        assert row["second_verdict"] == "undecided"
        assert row["second_low"] > row["measured"]
        assert row["verdict"] == "depends on the judge"
        assert "outside the interval by second judge" in row["reason"]

    def test_values_are_compared_in_the_same_row_of_a_claim_about_several(self) -> None:
        rows = [
            {"way": way, "model": model, "value": value, "low": value - half, "high": value + half}
            for way, half in (("primary", 1.0), ("second", 20.0))
            for model, value in (("a", 50.0), ("b", 90.0))
        ]
        table = pd.DataFrame(rows).assign(status="ok", n=100)
        both = {"table": "t.csv", "where": "model=a|b", "statistic": "value", "lower": 40.0}
        claims = pd.DataFrame([claim(**both) | {"upper": np.nan}])
        assert score(claims, {"t.csv": table})["verdict"].tolist() == ["uncorroborated"]
        table.loc[3, ["low", "high"]] = 20.0, 60.0
        assert score(claims, {"t.csv": table})["verdict"].tolist() == ["depends on the judge"]


@pytest.mark.parametrize(
    ("primary", "free", "second", "verdict"),
    [
        ("confirmed", "confirmed", "confirmed", "confirmed"),
        ("confirmed", "not measurable", "confirmed", "confirmed"),
        ("confirmed", "undecided", "confirmed", "confirmed"),
        ("confirmed", "refuted", "confirmed", "depends on the judge"),
        ("confirmed", "undecided", "undecided", "uncorroborated"),
        ("confirmed", "not measurable", "undecided", "uncorroborated"),
        ("confirmed", "not measurable", "not measurable", "uncorroborated"),
        ("refuted", "undecided", "refuted", "refuted"),
        ("refuted", "confirmed", "refuted", "depends on the judge"),
        ("undecided", "confirmed", "confirmed", "undecided"),
        ("not run", "not measurable", "not measurable", "not run"),
    ],
)
@pytest.mark.parametrize("gated", ["confirmed", "refuted", "undecided"])
def test_the_rule(primary: str, free: str, second: str, gated: str, verdict: str) -> None:
    found = {"primary": primary, "gated": gated, "judge_free": free, "second": second}
    assert combine(found)[0] == verdict  # pyrefly: ignore[bad-argument-type]


@pytest.mark.parametrize(
    ("free", "second", "apart", "verdict"),
    [
        ("confirmed", "undecided", ["second"], "depends on the judge"),
        ("confirmed", "undecided", [], "uncorroborated"),
        ("confirmed", "not measurable", [], "confirmed"),
        ("undecided", "confirmed", ["judge_free"], "confirmed"),
        ("confirmed", "confirmed", ["second"], "confirmed"),
    ],
)
def test_the_restart_detector_does_not_stand_in_for_a_second_judge(
    free: str, second: str, apart: list[Way], verdict: str
) -> None:
    found: dict[Way, str] = {"primary": "confirmed", "judge_free": free, "second": second}
    assert combine(found, apart=apart)[0] == verdict
    opposite = {"confirmed": "refuted"}
    mirrored = {way: opposite.get(each, each) for way, each in found.items()}
    assert combine(mirrored, apart=apart)[0] == opposite.get(verdict, verdict)


def test_the_reason_names_the_detector_that_agrees_and_the_judge_that_does_not() -> None:
    found: dict[Way, str] = {
        "primary": "confirmed",
        "judge_free": "confirmed",
        "second": "undecided",
    }
    assert combine(found)[1] == (
        "confirmed by the primary judge and judge-free, undecided by second judge; "
        "no value contradicts it"
    )


class TestOneWay:
    def table(self, **columns: Any) -> pd.DataFrame:
        row = {"model": "m", "kind": "count", "measure": "found", "value": 9.0}
        return pd.DataFrame([row | {"low": 8.0, "high": 10.0, "status": "ok"} | columns])

    def test_a_claim_about_detectors_has_one_and_names_it(self) -> None:
        where = "kind=count; model=m; measure=found"
        found = claim(table="figures/fig5.csv", where=where, statistic="value", lower=5.0)
        row = score(
            pd.DataFrame([found | {"upper": np.nan}]), {"figures/fig5.csv": self.table()}
        ).iloc[0]
        assert row["verdict"] == "confirmed"
        assert row["reason"].endswith("one way: detectors are found without a judge")

    @pytest.mark.parametrize("lower", [5.0, 20.0])
    def test_activations_on_one_judges_episodes_are_uncorroborated(self, lower: float) -> None:
        path = "tables/activation_hazards.csv"
        found = claim(table=path, where="model=m", statistic="value", lower=lower)
        row = score(pd.DataFrame([found | {"upper": np.nan}]), {path: self.table()}).iloc[0]
        assert row["primary_verdict"] == ("confirmed" if lower == 5 else "refuted")
        assert row["verdict"] == "uncorroborated"
        assert row["reason"].endswith("measured on the primary judge's episodes")

    def test_a_measure_that_needs_no_judge_has_one(self) -> None:
        row = verdict_of(
            self.table(way="primary", arm="ablate", measure="restart_rate"),
            where="model=m; arm=ablate; measure=restart_rate",
            statistic="value",
            lower=5.0,
            upper=np.nan,
        )
        assert row["verdict"] == "confirmed"
        assert row["reason"].endswith("one way: the measure needs no judge")


class TestPower:
    @pytest.mark.parametrize(
        ("power", "verdict"), [(0.3, "underpowered"), (0.9, "undecided"), (None, "undecided")]
    )
    def test_a_study_that_could_not_decide_is_underpowered(
        self, power: float | None, verdict: str
    ) -> None:
        table = compared(study(trials(0.4, 1), trials(0.2, 2)))
        known = {} if power is None else {("a paper", "halves"): Power(power, 0.0)}
        row = score(pd.DataFrame([claim()]), {COMPARISONS: table}, power=known).iloc[0]
        assert row["verdict"] == verdict

    def test_a_verdict_that_was_reached_stands(self) -> None:
        table = compared(study(trials(0.4, 1), trials(0.02, 2)))
        known = {("a paper", "halves"): Power(0.1, 0.0)}
        row = score(pd.DataFrame([claim()]), {COMPARISONS: table}, power=known).iloc[0]
        assert row["verdict"] == "confirmed"
        assert row["power"] == 0.1

    def test_the_power_is_that_at_the_worse_correlation(self) -> None:
        rows = [
            {"source": "a paper", "claim": "halves", "rho": 0.05, "power": 0.9, "agreed": 0.5},
            {"source": "a paper", "claim": "halves", "rho": 0.2, "power": 0.7, "agreed": 0.6},
            {"source": "a paper", "claim": "not simulated", "rho": None, "power": None},
        ]
        assert least_power(pd.DataFrame(rows)) == {("a paper", "halves"): Power(0.7, 0.5)}


class TestFamily:
    claims = pd.DataFrame([sign("multi", "multi_attempt_rate"), sign("esr", "esr_rate")])

    def test_one_holm_value_a_claim_and_way(self) -> None:
        table = compared(
            study(trials(0.3, 1), trials(0.22, 2)), study(trials(0.3, 3), trials(0.2, 4))
        )
        found = family_p(self.claims, {COMPARISONS: table})
        for way in ("primary", "second"):
            rows = table[table["way"].eq(way)].set_index("measure")
            plain = rows.loc[["multi_attempt_rate", "esr_rate"], "p_value"].to_numpy(float)
            adjusted = [found["a paper", name, way] for name in ("multi", "esr")]
            np.testing.assert_allclose(adjusted, holm(plain))
        assert np.isnan(found["a paper", "esr", "judge_free"])
        free = table[table["way"].eq("judge_free")]["p_value"].iloc[0]
        assert found["a paper", "multi", "judge_free"] == free, "alone in this way"

    def test_comparisons_show_the_value_of_the_scorecard(self) -> None:
        table = compared(study(trials(0.3, 1), trials(0.22, 2)))
        shown = with_family(table, COMPARISONS, self.claims, {})
        card = score(self.claims, {COMPARISONS: table}).set_index("claim")
        rows = shown[shown["way"].eq("primary")].set_index("measure")["p_holm"]
        assert rows["multi_attempt_rate"] == card.loc["multi", "primary_p_holm"]
        assert rows["esr_rate"] == card.loc["esr", "primary_p_holm"]
        assert np.isnan(rows["first_score"]), "no claim of the family is about it"

    def test_two_claims_about_one_row_are_one_test(self) -> None:
        table = compared(study(trials(0.3, 1), trials(0.22, 2)))
        twice = pd.concat([self.claims, self.claims.assign(source="another")], ignore_index=True)
        once = family_p(self.claims, {COMPARISONS: table})
        assert (
            family_p(twice, {COMPARISONS: table})["another", "esr", "primary"]
            == (once["a paper", "esr", "primary"])
        )

    def test_a_sign_that_only_the_unadjusted_test_bears_out_is_undecided(self) -> None:
        rows = [
            {"way": way, "model": "m", "arm": f"a{i}", "measure": "msi", "p_value": p}
            for way in ("primary", "second")
            for i, p in enumerate([0.03, 0.04])
        ]
        table = pd.DataFrame(rows).assign(difference=2.0, low=0.1, high=4.0, status="ok", n=100)
        claims = pd.DataFrame(
            [
                sign(f"c{i}", "msi", where=f"model=m; arm=a{i}; measure=msi", lower=0.0)
                | {"upper": np.nan}
                for i in range(2)
            ]
        )
        card = score(claims, {COMPARISONS: table})
        assert card["verdict"].tolist() == ["undecided", "undecided"]
        assert card["reason"].str.contains("but p (Holm) = 0.06", regex=False).all()
        alone = score(claims.head(1), {COMPARISONS: table})
        assert alone["verdict"].tolist() == ["confirmed"]


def test_noise_confirms_nothing() -> None:
    claims = pd.DataFrame(
        [
            claim(),
            sign("multi", "multi_attempt_rate"),
            sign("esr", "esr_rate"),
            claim(
                claim="rate",
                table="tables/summary.csv",
                where="model=m; arm=ablate; measure=multi_attempt_rate",
                statistic="estimate",
                lower=20.0,
                upper=np.nan,
            ),
        ]
    )
    for seed in range(8):
        arms = [trials(0.1, 10 * seed + i) for i in range(4)]
        primary, second = study(arms[0], arms[1]), study(arms[2], arms[3]).assign(weight=1.0)
        summary = by_way(
            views(primary, second), lambda way: summary_table(way.scores, FEW, way.shown(MEASURES))
        )
        tables = {COMPARISONS: compared(primary, second), "tables/summary.csv": summary}
        assert "confirmed" not in set(score(claims, tables)["verdict"])


def test_the_scorecard_has_every_way() -> None:
    card = score(pd.DataFrame([claim()]), {})
    assert list(card) == COLUMNS
    assert set(MEASURED) <= set(card)
    assert card["verdict"].tolist() == ["not run"]
    assert {f"{way}_verdict" for way in WAYS} <= set(card)

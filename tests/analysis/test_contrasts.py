"""Contrasts that claims read are those that the figures show, in every way of grading."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import pytest

from esr.analysis.claims import judge_claim, read_claims
from esr.analysis.comparisons import compare_unpaired
from esr.analysis.contrasts import contrast_table
from esr.analysis.rows import differences, no_steering, peaks
from esr.analysis.ways import by_way, of_way, views
from esr.config import RandomSets, StatisticsConfig, random_sets
from helpers.arms import RANDOM_SETS, arm
from helpers.checkout import REPO
from helpers.scores import scores_of, stack
from helpers.studies import load_study

FEW = StatisticsConfig(bootstrap=100)
MODELS = {"m": {"label": "M", "parameters": 1e9}}
OWN = {"steered": arm(9), "random-impact": arm(1, latents=6)}
"""Latents, and fewer random directions of the same numbers at thresholds of their own."""


def sweep() -> pd.DataFrame:
    """Multi-attempt trials at three levels of a boost sweep, most at the middle one."""
    parts = []
    for level, events in ((-1.0, 1), (0.0, 5), (1.0, 2)):
        part = arm(events).assign(sweep_level=level)
        parts.append(part.assign(trial_id=f"{level}-" + part["trial_id"]))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def scores() -> pd.DataFrame:
    of_arm = {
        "steered": arm(4),
        "unsteered": arm(0, first=95.0),
        "ablate-otd": arm(1),
        **{f"ablate-random-{i}": arm(3 + i % 2) for i in range(3)},
        "boost-sweep": sweep(),
    }
    return stack({name: {"m": table} for name, table in of_arm.items()})


def rows(
    scores: pd.DataFrame,
    n_detectors: int = 5,
    second: Any = None,
    sets: Mapping[str, RandomSets] = RANDOM_SETS,
) -> pd.DataFrame:
    return by_way(
        views(scores, second),
        lambda way: contrast_table(way, MODELS, {"m": n_detectors}, sets, {}, FEW),
    )


def cell(table: pd.DataFrame, **where: Any) -> pd.Series:
    for column, value in where.items():
        table = table[table[column].eq(value)]
    assert len(table) == 1
    return table.iloc[0]


class TestPrimary:
    def test_the_peak_is_that_of_figure_3(self, scores: pd.DataFrame) -> None:
        table = of_way(rows(scores))
        found = cell(table, kind="peak", measure="multi_attempt_rate")
        drawn = peaks(sweep(), ["multi_attempt_rate"], FEW).iloc[0]
        assert found["value"] == drawn["value"] == 0
        assert (found["low"], found["high"]) == (drawn["low"], drawn["high"])

    def test_every_level_of_the_sweep_is_a_point(self, scores: pd.DataFrame) -> None:
        table = of_way(rows(scores)).query("kind == 'point' and measure == 'multi_attempt_rate'")
        assert dict(zip(table["sweep_level"], table["value"], strict=True)) == {
            -1.0: 10.0,
            0.0: 50.0,
            1.0: 20.0,
        }

    def test_unsteered_arms_are_those_of_figures_a7_and_a8(self, scores: pd.DataFrame) -> None:
        table = of_way(rows(scores)).query("kind == 'unsteered'")
        none = cell(table, arm="unsteered", measure="multi_attempt_rate")
        assert (none["value"], none["low"]) == (0, 0)
        assert none["status"] == "no_variation"
        drawn = no_steering(scores, MODELS, ["first_score"], FEW)
        change = cell(table, arm="steered - unsteered", measure="first_score")
        assert change["value"] == cell(drawn, kind="difference")["value"] == 40 - 95

    def test_random_sets_are_compared_with_both_arms(self, scores: pd.DataFrame) -> None:
        table = of_way(rows(scores)).query("kind == 'sets' and measure == 'multi_attempt_rate'")
        values = table.set_index("arm")["value"]
        assert values["ablate-random - ablate-otd"] == pytest.approx(100 * (10 / 3 - 1) / 10)
        assert values["ablate-random - steered"] == pytest.approx(100 * (10 / 3 - 4) / 10)
        p_value = table.set_index("arm")["p_value"]
        assert p_value["ablate-random - ablate-otd"] < 0.05

    def test_a_loss_of_all_restarts_is_a_change_even_where_they_are_rare(self) -> None:
        """0.4 % of steered trials, less than the 0.95 points of half the detectors' loss."""
        trials: list[list[float]] = [[40.0]] * 2000
        some = [[40.0, 70.0] if i % 250 == 0 else trial for i, trial in enumerate(trials)]
        prompts = [f"p{i % 37}" for i in range(2000)]
        rare = scores_of(some, prompt_id=prompts)
        lost = {f"ablate-random-{i}": scores_of(trials, prompt_id=prompts) for i in range(3)}
        arms = {name: {"m": table} for name, table in ({"steered": rare} | lost).items()}
        table = of_way(rows(stack(arms)))
        found = cell(table, arm="ablate-random - steered", measure="multi_attempt_rate")
        assert -0.95 < found["low"] < found["value"] == pytest.approx(-0.4)
        claims = read_claims([REPO / "resources/claims/published.csv"]).set_index("claim")
        claim = claims.loc["random-multi"]
        where = claim["where"].replace("llama-3.3-70b", "m")
        assert judge_claim({**claim, "where": where}, table, 0.05)["verdict"] == "refuted"

    def test_random_sets_on_other_trials_are_compared_with_the_arms_of_those(
        self, scores: pd.DataFrame
    ) -> None:
        renamed = {"steered": "branch-steered", "ablate-otd": "branch-ablated"}
        renamed |= {f"ablate-random-{i}": f"branch-random-{i}" for i in range(3)}
        both = pd.concat(
            [scores, scores.assign(arm=scores["arm"].replace(renamed))[scores["arm"].isin(renamed)]]
        )
        sets = random_sets(load_study(name="arxiv").arms)
        table = of_way(rows(both, sets=sets)).query("kind == 'sets' and measure == 'msi'")
        values = table.set_index("arm")["value"]
        assert set(values.index) == {
            "ablate-random - steered",
            "ablate-random - ablate-otd",
            "branch-random - branch-steered",
            "branch-random - branch-ablated",
        }
        assert values["branch-random - branch-ablated"] == values["ablate-random - ablate-otd"] > 0

    def test_without_detectors_nothing_was_ablated(self, scores: pd.DataFrame) -> None:
        table = of_way(rows(scores, n_detectors=0)).query("kind == 'sets'")
        assert table["status"].eq("no_detectors").all()
        assert table["value"].isna().all()

    def test_an_arm_that_was_not_run_has_no_row(self, scores: pd.DataFrame) -> None:
        table = rows(scores[scores["arm"].eq("steered")])
        assert set(table["kind"]) == {"unsteered"}
        assert set(table["arm"]) == {"steered"}


class TestMatched:
    def compared(self, *arms: str) -> pd.DataFrame:
        own = {name: {"m": table} for name, table in OWN.items() if name in arms}
        view = views(stack(own | {"unsteered": {"m": arm(0)}}))[0]
        return contrast_table(view, MODELS, {"m": 5}, {}, {}, FEW, ["random-impact"])

    def test_directions_with_thresholds_of_their_own_are_compared_with_the_latents(self) -> None:
        table = self.compared("steered", "random-impact").query("kind == 'matched'")
        found = cell(table, arm="random-impact - steered", measure="multi_attempt_rate")
        assert found["value"] == pytest.approx(100 * (1 - 9) / 10)
        assert found["high"] < 0
        assert found["p_value"] < 0.05
        assert found["n"] == len(OWN["random-impact"])

    def test_the_arms_are_independent_although_directions_have_the_numbers_of_latents(self) -> None:
        table = self.compared("steered", "random-impact").query("kind == 'matched'")
        apart = compare_unpaired(OWN["steered"], OWN["random-impact"], ["first_score"], seed=45)
        found = cell(table, measure="first_score")
        assert (found["low"], found["high"]) == (apart.low.item(), apart.high.item())

    @pytest.mark.parametrize("alone", OWN)
    def test_without_either_arm_there_is_no_row(self, alone: str) -> None:
        assert "matched" not in set(self.compared(alone)["kind"])


class TestWays:
    def test_the_second_judge_and_the_detector_have_the_same_contrasts(
        self, scores: pd.DataFrame
    ) -> None:
        table = rows(scores, second=scores.assign(weight=1.0))
        measured = table[table["measure"].eq("multi_attempt_rate")]
        keys = ["kind", "arm", "sweep_level"]
        places = {
            way: set(map(str, part[keys].to_numpy())) for way, part in measured.groupby("way")
        }
        assert places["second"] == places["judge_free"] == places["primary"]
        values = {way: of_way(measured, way)["value"].dropna() for way in ("primary", "second")}
        pd.testing.assert_series_equal(values["primary"], values["second"])

    def test_restarts_that_the_detector_does_not_find_are_none(self, scores: pd.DataFrame) -> None:
        table = of_way(rows(scores), "judge_free").query("kind == 'unsteered'")
        assert cell(table, arm="steered")["value"] == 0
        assert set(table["measure"]) == {"multi_attempt_rate"}


def test_a_difference_of_samples_counts_treated_trials() -> None:
    base, treated = arm(4).assign(weight=2.0), arm(1).assign(weight=2.0)
    found = differences(base, treated.head(60), ["multi_attempt_rate"], FEW).iloc[0]
    assert found["n"] == 60

"""The whole organism study: detectors are found; ablating them matters, ablating others not."""

from pathlib import Path

import pandas as pd
import pytest

from esr.analysis.comparisons import compare, compare_sets, compare_unpaired
from esr.arms.scores import select
from esr.detectors.controls import summarise_sets
from esr.tables import read_table, read_tables

pytestmark = pytest.mark.slow

RANDOM = [f"ablate-random-{i}" for i in range(3)]


def table(study: Path, name: str, model: str = "planted") -> pd.DataFrame:
    return read_table(study / f"results/organism/{model}/detectors/{name}.parquet", name)


def arms(study: Path) -> dict[str, pd.DataFrame]:
    folder = study / "results/organism/planted/arms"
    names = ["steered", "ablate-otd", "ablate-to-mean", *RANDOM]
    scores = read_tables([folder / name / "scores/lexical.parquet" for name in names], "scores")
    return {name: select(scores, arm=name) for name in names}


class TestDetectors:
    def test_some_are_found_and_nearly_all_hold_up_on_other_prompts(
        self, organism_study: Path
    ) -> None:
        data = pd.read_csv(organism_study / "results/organism/figures/fig5.csv")
        counts = data.query("model == 'planted' and kind == 'count'").set_index("measure")["value"]
        assert counts["found"] >= 5
        assert counts["confirmed"] >= 0.8 * counts["found"]

    def test_their_effects_are_large_on_pairs_that_were_not_searched(
        self, organism_study: Path
    ) -> None:
        data = pd.read_csv(organism_study / "results/organism/tables/tableA1.csv")
        planted = data.query("model == 'planted'")
        assert planted["pairs"].eq("held_out").all()
        assert planted["low"].gt(1).all()
        assert planted["auroc"].gt(0.9).all()

    def test_no_prompt_is_on_both_sides_of_the_search(self, organism_study: Path) -> None:
        pairs = table(organism_study, "detector_pairs")
        assert pairs.groupby("prompt_id")["held_out"].nunique().eq(1).all()
        dealt = pairs[~pairs["matched"]]
        sides = pairs.drop_duplicates("prompt_id").set_index("prompt_id")["held_out"]
        assert sides.loc[dealt["response_of"]].tolist() == dealt["held_out"].tolist()

    def test_discovery_and_evaluation_share_no_prompt(self, organism_study: Path) -> None:
        folder = organism_study / "results/organism/planted/arms"
        plans = [
            read_table(folder / arm / "plan.parquet", "plan") for arm in ("discovery", "steered")
        ]
        assert set(plans[0]["prompt"]).isdisjoint(plans[1]["prompt"])


class TestAblation:
    @pytest.mark.parametrize("measure", ["multi_attempt_rate", "esr_rate", "msi"])
    def test_ablating_detectors_at_least_halves_resistance(
        self, organism_study: Path, measure: str
    ) -> None:
        scores = arms(organism_study)
        row = compare(scores["steered"], scores["ablate-otd"], [measure], seed=45).iloc[0]
        assert row["relative_change"] < -50
        assert row["high"] < 0

    def test_it_leaves_the_first_attempt_as_it_was(self, organism_study: Path) -> None:
        scores = arms(organism_study)
        row = compare(scores["steered"], scores["ablate-otd"], ["first_score"], seed=45).iloc[0]
        assert abs(row["difference"]) < 4

    def test_detectors_at_their_mean_over_unsteered_answers_are_as_good_as_ablated(
        self, organism_study: Path
    ) -> None:
        found = table(organism_study, "detectors").query("detector")
        means = table(organism_study, "means").set_index("latent")["mean"]
        assert (means[found["latent"]].to_numpy() < 0.06 * found["mean_mismatched"]).all()
        scores = arms(organism_study)
        clamped, measures = scores["ablate-to-mean"], ["multi_attempt_rate", "first_score"]
        beside = compare(scores["ablate-otd"], clamped, measures, seed=45)
        assert beside["difference"].abs().max() < 2
        assert compare(scores["steered"], clamped, measures[:1], seed=45).iloc[0]["high"] < 0

    def test_random_latents_do_not_halve_it(self, organism_study: Path) -> None:
        scores = arms(organism_study)
        sets = [scores[name] for name in RANDOM]
        against, beside = (
            compare_sets(scores[name], sets, ["multi_attempt_rate"]).iloc[0]
            for name in ("steered", "ablate-otd")
        )
        assert against["relative_change"] > -40
        # More second attempts than without detectors; three sets leave the interval wide.
        assert beside["difference"] > 5
        assert beside["high"] - beside["low"] > 5

    def test_replayed_trials_are_those_of_the_steered_arm(self, organism_study: Path) -> None:
        scores = arms(organism_study)
        same = ["prompt_id", "latent", "seed", "boost"]
        for name in ("ablate-otd", "ablate-to-mean", *RANDOM):
            pd.testing.assert_frame_equal(scores[name][same], scores["steered"][same])
            assert len(set(scores[name]["ablated"].map(len))) == 1


class TestRandomDirections:
    def test_those_matched_by_impact_need_larger_boosts_and_break_the_text(
        self, organism_study: Path
    ) -> None:
        folder = organism_study / "results/organism/planted"
        paths = [folder / "thresholds.parquet", folder / "directions/random-few/thresholds.parquet"]
        latents, random = (read_table(path, "thresholds") for path in paths)
        assert len(random) == 12
        assert random["status"].eq("converged").sum() >= 8
        assert random["threshold"].median() > 1.4 * latents["threshold"].median()
        names = ("steered", "steered-random-impact")
        files = [folder / f"arms/{name}/scores/lexical.parquet" for name in names]
        steered, broken = (read_tables([file], "scores") for file in files)
        row = compare_unpaired(steered, broken, ["degraded_rate"], seed=45).iloc[0]
        assert row["low"] > 5


class TestControls:
    def test_random_sets_are_as_active_in_sum_as_the_detectors(self, organism_study: Path) -> None:
        controls, detectors = (table(organism_study, name) for name in ("controls", "detectors"))
        used = set(detectors.loc[detectors["detector"], "latent"])
        assert set(controls["latent"]).isdisjoint(used)
        assert controls["frequency"].gt(0).all()  # none is dead
        assert controls.groupby("set")["detector"].agg(set).map(used.__eq__).all()
        sums = pd.read_csv(organism_study / "results/organism/tables/controls.csv")
        assert sums.groupby("model")["set"].agg(list).map([0, 1, 2].__eq__).all()
        assert sums["mean_share"].between(97, 103).all()
        # Several latents stand for the largest detectors (docs/organism.md, Limits).
        assert sums["latents"].ge(sums["detectors"]).all()
        assert sums["frequency_share"].between(80, 250).all()

    def test_the_figure_reports_how_well_they_match(self, organism_study: Path) -> None:
        data = pd.read_csv(organism_study / "results/organism/figures/figA9.csv")
        sums = data.query("model == 'planted' and kind == 'sum' and measure == 'mean'")
        controls = summarise_sets(table(organism_study, "controls"))
        assert sums["value"].tolist() == pytest.approx(controls["mean"].tolist(), rel=1e-4)
        assert sums["target"].tolist() == pytest.approx(controls["detector_mean"], rel=1e-4)

"""Scorecard and report of the whole organism study, and what broken inputs do to the verdicts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from esr.analysis.claims import read_claims
from esr.analysis.contrasts import contrast_table
from esr.analysis.summaries import comparison_table
from esr.analysis.trends import pairs
from esr.analysis.verdicts import score
from esr.analysis.ways import View, by_way, views
from esr.arms.scores import select
from esr.config import StatisticsConfig
from esr.figures.catalogue import FIGURES
from esr.tables import read_tables
from helpers.browser import Reader, expect
from helpers.checkout import REPO
from helpers.scores import stack

pytestmark = pytest.mark.slow

FEW = StatisticsConfig(bootstrap=500)
ARMS = ["steered", "unsteered", "ablate-otd"]
Scores = dict[str, dict[str, pd.DataFrame]]


NOT_SHOWN = {
    "undecided": ["recovery", "correction-msi", "finetune-attempts"],
    "uncorroborated": [
        *("dose-response", "detectors-off-topic", "finetune-rise", "finetune-success"),
    ],
}
"""Planted truths that a study of this size does not show, and why (docs/organism.md).

Verdicts about fine-tuned models vary: their weights depend on the CPU.
"""
EDGE = ["detectors-hazard", "specificity", "branch-specificity"]
"""Claims whose verdict depends on the episodes and random sets that are drawn."""


def test_every_planted_truth_is_confirmed_but_those_documented_as_not_shown(
    organism_study: Path,
) -> None:
    table = pd.read_csv(organism_study / "results/organism/scorecard.csv").set_index("claim")
    exceptions = [claim for claims in NOT_SHOWN.values() for claim in claims] + EDGE
    wrong = table[table["verdict"].ne("confirmed")].drop(exceptions, errors="ignore")
    assert wrong.empty, wrong[["measured", "low", "high", "reason"]].to_string()
    assert table.loc[NOT_SHOWN["undecided"], "verdict"].isin(["undecided", "underpowered"]).all()
    assert "refuted" not in table["verdict"].tolist()
    primary = table.loc[NOT_SHOWN["uncorroborated"], "primary_verdict"]
    assert primary.eq("confirmed").all(), "the primary judge alone confirms these"
    assert len(table) >= 20


@pytest.mark.parametrize("name", ["january", "published"])
def test_claims_about_models_that_the_study_lacks_are_not_run(
    organism_study: Path, name: str
) -> None:
    folder = organism_study / "results/organism"
    claims = read_claims([REPO / f"resources/claims/{name}.csv"])
    named = {table for table in claims["table"] if (folder / table).is_file()}
    found = score(claims, {table: pd.read_csv(folder / table) for table in named})
    elsewhere = claims["where"].str.contains("llama|gemma")
    assert found.loc[elsewhere, "verdict"].eq("not run").all()
    assert elsewhere.sum() >= 25


@pytest.fixture(scope="module")
def scores(organism_study: Path) -> Scores:
    folder = organism_study / "results/organism"
    models = ("planted", "twin")
    paths = [folder / m / "arms" / a / "scores/lexical.parquet" for m in models for a in ARMS]
    found = read_tables(paths, "scores")
    return {arm: {m: select(found, model=m, arm=arm) for m in models} for arm in ARMS}


class TestBrokenInputs:
    def verdicts(self, scores: Mapping[str, Mapping[str, pd.DataFrame]]) -> dict[str, str]:
        """Verdicts on the claims that these arms decide, all else not run; the judges agree."""
        models = {name: {"label": name, "parameters": 1e6} for name in scores["steered"]}
        measures = ["multi_attempt_rate", "esr_rate", "first_score"]
        detectors = dict.fromkeys(models, 1)

        def models_table(way: View) -> pd.DataFrame:
            return pairs(select(way.scores, arm="steered"), FEW, way.shown(measures))

        every = stack(scores)
        ways = views(every, every.assign(weight=1.0))
        tables = {
            "tables/models.csv": by_way(ways, models_table),
            "tables/comparisons.csv": by_way(
                ways,
                lambda way: comparison_table(
                    way.scores, {"ablate-otd": "steered"}, FEW, way.shown(measures)
                ),
            ),
            "tables/contrasts.csv": by_way(
                ways, lambda way: contrast_table(way, models, detectors, {}, {}, FEW)
            ),
        }
        claims = read_claims([REPO / "resources/claims/organism.csv"])
        table = score(claims, tables)
        return dict(zip(table["claim"], table["verdict"], strict=True))

    def test_as_it_is_all_are_confirmed(self, scores: Scores) -> None:
        found = self.verdicts(scores)
        assert found["recovery"] == "not run"
        for claim in ("correction", "dependence", "dependence-first", "no-cause-first", "steering"):
            assert found[claim] == "confirmed", claim

    def test_a_twin_in_the_place_of_the_planted_one_is_found_out(self, scores: Scores) -> None:
        swapped = {"planted": scores["steered"]["twin"], "twin": scores["steered"]["planted"]}
        found = self.verdicts(scores | {"steered": swapped})
        assert found["correction"] == found["correction-esr"] == "refuted"

    def test_two_models_that_are_the_same_decide_nothing(self, scores: Scores) -> None:
        same = dict.fromkeys(("planted", "twin"), scores["steered"]["planted"])
        found = self.verdicts(scores | {"steered": same})
        assert found["correction"] == "undecided"

    def test_an_ablation_that_did_nothing_shows_nothing(self, scores: Scores) -> None:
        found = self.verdicts(scores | {"ablate-otd": scores["steered"]})
        assert found["dependence"] == found["dependence-esr"] == "undecided"

    def test_an_ablation_that_did_the_opposite_is_found_out(self, scores: Scores) -> None:
        swapped = {"steered": scores["ablate-otd"], "ablate-otd": scores["steered"]}
        found = self.verdicts(scores | swapped)
        assert found["dependence"] == found["dependence-esr"] == "refuted"
        assert found["dependence-first"] == "confirmed"

    def test_steering_that_was_never_applied_is_found_out(self, scores: Scores) -> None:
        found = self.verdicts(scores | {"steered": scores["unsteered"]})
        assert found["steering"] == "refuted"
        assert found["correction"] == "undecided"
        assert found["no-cause-first"] == "confirmed"

    def test_steering_that_was_left_on_is_found_out(self, scores: Scores) -> None:
        found = self.verdicts(scores | {"unsteered": scores["steered"]})
        assert found["no-cause-first"] == "refuted"


class TestReport:
    @pytest.fixture
    def reader(self, browser: Any, organism_study: Path) -> Any:
        reader = Reader(browser, organism_study / "results/organism/report")
        yield reader
        assert reader.errors == []
        assert all(url.startswith(reader.folder.as_uri()) for url in reader.requests)
        reader.context.close()

    def test_the_answer_comes_first_and_every_claim_has_a_track(self, reader: Reader) -> None:
        page = reader.open("index")
        assert page.locator("h2").first.inner_text() == "Answer"
        planted = page.locator(".answers li > p").first.inner_text()
        assert planted.startswith("Planted ESR restarts and improves its score in ")
        assert page.locator(".answers li").count() == 5
        assert page.locator(".forest tbody tr").count() == page.locator(".scorecard [id]").count()
        assert page.locator(".forest .verdict.confirmed").count() >= 12

    def test_every_figure_has_its_picture_caption_and_command(self, reader: Reader) -> None:
        page = reader.open("figures")
        figures = page.locator("section.figure")
        assert figures.count() == len(FIGURES)
        for each in figures.all():
            each.scroll_into_view_if_needed()
            assert each.locator("figcaption strong").count() >= 1
            assert "uv run snakemake " in each.locator(".facts").inner_text()
        loaded = "all => all.every(each => each.complete && each.naturalWidth > 0)"
        page.wait_for_load_state("networkidle")
        assert page.locator("figure img").evaluate_all(loaded)

    def test_all_trials_are_there(self, reader: Reader, organism_study: Path) -> None:
        reader.open()
        table = pd.read_csv(organism_study / "results/organism/tables/exclusions.csv")
        assert reader.count() == table.loc[table["status"].eq("total"), "n"].sum()

    def test_a_self_correction_with_its_heat_strip_beside_its_ablated_twin(
        self, reader: Reader
    ) -> None:
        page = reader.open()
        page.locator("[name=model]").select_option(label="Planted ESR")
        page.locator("[name=arm]").select_option(label="steered")
        page.locator("[name=attempts]").select_option(label="two or more")
        page.locator("[name=flag]").select_option(label="activations read")
        page.locator(".trial").first.click()
        expect(page.locator(".attempt")).not_to_have_count(0)
        assert page.locator(".attempt").count() >= 2
        assert page.locator("mark").count() >= 1
        heats = page.locator(".token").evaluate_all(
            "all => all.map(each => Number(each.style.getPropertyValue('--heat')))"
        )
        assert len(heats) > 10
        assert 0 < max(heats) <= 1
        page.locator("[name=beside]").select_option(label="ablate-otd")
        expect(page.locator(".transcript")).to_have_count(2)
        assert "latents" in page.locator(".transcript").nth(1).locator(".about").inner_text()

    def test_time_and_memory_of_the_jobs_are_summed(self, reader: Reader) -> None:
        page = reader.open("provenance")
        compute = page.locator("#compute table").inner_text()
        for rule in ("generate_responses", "find_thresholds", "judge_responses"):
            assert rule in compute
        # The organism's judges are in the ledger, and cost nothing.
        assert "free" in page.locator("#ledger").inner_text()

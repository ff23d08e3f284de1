"""Figures 3, 4, A7 and A8 of the whole organism study: what was planted is to be seen in them."""

from pathlib import Path

import pandas as pd
import pytest

from esr.tables import read_table

pytestmark = pytest.mark.slow

MODELS = ["planted", "twin"]


def plotted(study: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(study / f"results/organism/figures/{name}.csv")


def row(table: pd.DataFrame, **where: str) -> pd.Series:
    """The one row with these values."""
    for column, value in where.items():
        table = table[table[column].eq(value)]
    assert len(table) == 1
    return table.iloc[0]


class TestFigure3:
    def test_the_planted_organism_corrects_itself_most_near_the_threshold(
        self, organism_study: Path
    ) -> None:
        table = plotted(organism_study, "fig3")
        found = row(table, model="planted", kind="peak", measure="msi")
        assert -1.5 < found["value"] < 3
        assert found["high"] < 3
        levels = table[table["model"].eq("planted") & table["measure"].eq("esr_rate")]
        levels = levels[levels["kind"].eq("point")].set_index("sweep_level")["value"]
        assert levels.max() > 2 * levels[levels.index.max()]

    def test_every_level_has_the_same_latents_and_prompts(self, organism_study: Path) -> None:
        path = "results/organism/planted/arms/boost-sweep/plan.parquet"
        plan = read_table(organism_study / path, "plan")
        trials = plan.groupby("sweep_level")[["latent", "prompt_id", "seed"]].apply(
            lambda part: frozenset(map(tuple, part.to_numpy().tolist()))
        )
        assert len(trials) == 8
        assert len(set(trials)) == 1

    def test_the_twin_never_does(self, organism_study: Path) -> None:
        table = plotted(organism_study, "fig3")
        twin = table[table["model"].eq("twin") & table["kind"].eq("point")]
        assert twin.loc[twin["measure"].eq("esr_rate"), "value"].max() <= 2.5


class TestFigure4:
    def test_asking_it_to_watch_itself_raises_the_multi_attempt_rate(
        self, organism_study: Path
    ) -> None:
        table = plotted(organism_study, "fig4")
        where = {"model": "planted", "arm": "meta-self-monitor", "measure": "multi_attempt_rate"}
        found = row(table, **where)
        assert found["low"] > 0
        assert found["p_value"] < 0.05
        assert found["n"] >= 500

    def test_all_seven_meta_prompts_are_there_and_paired(self, organism_study: Path) -> None:
        table = plotted(organism_study, "fig4")
        changes = table[table["arm"].ne("steered")]
        assert changes.groupby("model")["arm"].nunique().eq(7).all()
        assert changes["status"].isin(["ok", "no_variation"]).all()
        values = changes["treatment"] - changes["baseline"]
        pd.testing.assert_series_equal(values, changes["value"], check_names=False, atol=1e-3)


class TestNoSteering:
    @pytest.mark.parametrize("model", MODELS)
    def test_no_second_attempt_without_steering(self, organism_study: Path, model: str) -> None:
        table = plotted(organism_study, "figA7")
        bare = row(table, model=model, arm="unsteered", measure="multi_attempt_rate")
        assert (bare["value"], bare["events"], bare["status"]) == (0, 0, "no_variation")
        summary = pd.read_csv(organism_study / "results/organism/tables/summary.csv")
        same = row(
            summary[summary["way"].eq("primary")],
            model=model,
            arm="unsteered",
            measure="multi_attempt_rate",
        )
        assert (bare["low"], bare["high"]) == (same["low"], same["high"])

    def test_what_steering_adds_is_not_chance(self, organism_study: Path) -> None:
        table = plotted(organism_study, "figA7")
        for measure in ("multi_attempt_rate", "esr_rate"):
            assert row(table, model="planted", kind="difference", measure=measure)["low"] > 0

    @pytest.mark.parametrize("model", MODELS)
    def test_steering_is_what_lowers_the_first_attempt(
        self, organism_study: Path, model: str
    ) -> None:
        table = plotted(organism_study, "figA8")
        assert row(table, model=model, arm="unsteered", measure="first_score")["value"] > 85
        assert row(table, model=model, kind="difference", measure="first_score")["high"] < -20
        bins = table[table["model"].eq(model) & table["measure"].eq("histogram")]
        assert bins.groupby("arm")["value"].sum().tolist() == pytest.approx([100, 100], abs=0.01)


def test_every_figure_is_written_in_three_forms(organism_study: Path) -> None:
    tables = sorted((organism_study / "results/organism/figures").glob("*.csv"))
    assert len(tables) > 15
    for table in tables:
        assert table.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
        assert table.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["fig3", "fig4", "figA7", "figA8"])
def test_a_figure_plots_values_with_intervals(organism_study: Path, name: str) -> None:
    assert {"value", "low", "high", "n", "status"} <= set(plotted(organism_study, name))

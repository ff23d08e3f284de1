"""Figures 3, 4, A7 and A8 from hand-made scores: plotted values, and the notes on missing ones."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from esr.analysis.claims import Finding, Region, decide
from esr.analysis.comparisons import compare
from esr.analysis.measures import summarise
from esr.analysis.sweeps import peak
from esr.arms.plan import CONDITION
from esr.arms.scores import check_scores, select
from esr.config import FineTuned
from esr.figures import style
from esr.figures import tables as figures
from esr.tables import read_tables, write_table
from helpers.arms import FAST, LATENTS, PER_LATENT, arm
from helpers.checkout import load_script
from helpers.scores import scores_of, stack

MODELS: dict[str, dict[str, Any]] = {
    "small": {"label": "Small", "parameters": 1e6},
    "large": {"label": "Large", "parameters": 1e9},
}
VARIANTS = {"meta-plain": "{prompt} Stay on topic.", "meta-label": "{prompt} Ignore {label}."}

fig2 = load_script("plot_fig2")
fig6 = load_script("plot_fig6")
fig3, fig4 = load_script("plot_fig3"), load_script("plot_fig4")
fig_a7, fig_a8 = load_script("plot_figA7"), load_script("plot_figA8")


def sweep(events: Sequence[int], latents: int = LATENTS) -> pd.DataFrame:
    """A boost sweep with so many events a latent at levels -1, 0, 1, ..."""
    parts = []
    for i, count in enumerate(events):
        table = arm(count, latents=latents).assign(sweep_level=i - 1.0, boost=100.0 + 20 * i)
        parts.append(table.assign(trial_id=[f"{i}-{name}" for name in table["trial_id"]]))
    return pd.concat(parts, ignore_index=True)


def noisy(events: Sequence[int], seed: int = 0) -> pd.DataFrame:
    """The same with latents that differ: every one is left out at random at half of the levels."""
    table = sweep(events)
    kept = np.random.default_rng(seed).random((LATENTS, len(events))) < 0.5
    codes = table["sweep_level"].to_numpy(int) + 1
    drop = ~kept[table["latent"].to_numpy(int), codes] & table["multi_attempt"].to_numpy(bool)
    single = arm(0).iloc[0]
    for column in ("n_attempts", "last_score", "score_change", "multi_attempt", "improved"):
        table.loc[drop, column] = single[column]
    return table


def texts(figure: Figure) -> str:
    """All that is written in a figure, once drawn."""
    figure.draw_without_rendering()
    found = [text.get_text() for text in figure.findobj(plt.Text)]
    plt.close(figure)
    return "\n".join(found)


def of_large(table: pd.DataFrame) -> pd.DataFrame:
    return stack({"boost-sweep": {"large": table}})


def diamonds(axes: Axes) -> list[Any]:
    """Marks of the redraw null."""
    return [line for line in axes.lines if line.get_marker() == style.NULL["marker"]]


class TestPeak:
    @pytest.mark.parametrize("measure", ["multi_attempt_rate", "esr_rate", "msi"])
    def test_a_planted_peak_is_found_without_smoothing(self, measure: str) -> None:
        found = peak(sweep([1, 2, 9, 1, 2]), measure, n_boot=200)
        assert (found["peak"], found["low"], found["high"]) == (1.0, 1.0, 1.0)

    def test_it_is_the_largest_of_the_estimates(self) -> None:
        scores = noisy([2, 5, 6, 4])
        table = figures.estimates(scores, ["esr_rate"], FAST, by=["boost"])
        best = table.loc[table["value"].idxmax(), "boost"]
        assert peak(scores, "esr_rate", n_boot=200, over="boost")["peak"] == best

    def test_the_interval_covers_indistinguishable_levels(self) -> None:
        found = peak(noisy([0, 5, 5, 5, 0], seed=1), "multi_attempt_rate", n_boot=500)
        assert 0 <= found["low"] < found["high"] <= 2
        assert found["low"] <= found["peak"] <= found["high"]

    def test_rows_may_come_in_any_order(self) -> None:
        scores = noisy([2, 5, 6, 4])
        shuffled = scores.sample(frac=1, random_state=3)
        assert peak(scores, "msi", n_boot=200) == peak(shuffled, "msi", n_boot=200)

    def test_a_tie_is_called_one(self) -> None:
        found = peak(sweep([0, 4, 4, 0]), "esr_rate", n_boot=500)
        assert found["status"] == "tied"
        assert np.isnan(found["peak"])
        assert (found["low"], found["high"]) == (0.0, 1.0)

    def test_a_flat_curve_has_no_peak(self) -> None:
        found = peak(sweep([0, 0, 0]), "esr_rate", n_boot=50)
        assert found["status"] == "no_variation"
        assert np.isnan([found["peak"], found["low"], found["high"]]).all()

    def test_the_highest_level_of_chance_is_no_peak(self) -> None:
        """Latents with one rate at six levels: the maximum lies somewhere, by chance."""
        claimed = Region(-np.inf, 4.5)
        confirmed = 0
        for seed in range(40):
            found = peak(noisy([3] * 6, seed), "esr_rate", n_boot=200, seed=seed)
            finding = Finding(*(found[name] for name in ("peak", "low", "high")))
            verdict, _ = decide(finding._replace(status=found["status"]), claimed)
            confirmed += verdict == "confirmed"
        assert confirmed <= 5, "nominal: 5 % of 40"

    def test_a_measure_that_is_defined_nowhere_has_no_peak(self) -> None:
        assert peak(sweep([0, 0]), "success_rate", n_boot=50)["status"] == "undefined"

    def test_one_latent_has_no_interval(self) -> None:
        found = peak(sweep([1, 5], latents=1), "esr_rate", n_boot=50)
        assert (found["peak"], found["status"]) == (0.0, "too_few")
        assert np.isnan(found["low"])

    def test_events_in_few_latents_are_sparse(self) -> None:
        scores = sweep([0, 5, 0])
        single = arm(0).iloc[0]
        for latents, status in ((4, "sparse"), (1, "flat")):
            rows = scores["latent"].ge(latents) & scores["multi_attempt"].astype(bool)
            for column in ("n_attempts", "last_score", "score_change", "multi_attempt", "improved"):
                scores.loc[rows, column] = single[column]
            found = peak(scores, "esr_rate", n_boot=500)
            assert (found["peak"], found["status"]) == (0.0, status), "one of three levels: chance"

    def test_the_level_of_a_sweep_is_not_that_of_the_intervals(self) -> None:
        table = summarise(sweep([1, 2]), ["msi"], by=["sweep_level"], level=0.9)
        assert set(table["sweep_level"]) == {-1.0, 0.0}
        assert table["level"].eq(0.9).all()


class TestSharedTables:
    def test_scores_know_whose_they_are_wherever_their_files_lie(self, tmp_path: Path) -> None:
        columns = dict.fromkeys({*CONDITION, "prefix_end"} - {"ablated"}) | {"prefill": ""}
        paths = [tmp_path / f"{i}.parquet" for i in range(2)]
        for path, model in zip(paths, MODELS, strict=True):
            table = arm(2).assign(**columns, ablated=[[] for _ in range(LATENTS * PER_LATENT)])
            gated = table["gated_multi_attempt"].astype(bool)
            table["gated_attempts"] = 1 + gated
            table["gated_last_score"] = table["last_score"].where(gated, table["first_score"])
            write_table(table.assign(model=model), path, "scores", {})
        found = read_tables(paths, "scores")
        check_scores(found)
        assert found["trial_id"].duplicated().any()  # models share trials, not rows
        assert select(found, model="small", arm="steered")["n_attempts"].sum() == len(table) * 1.2
        assert select(found, model="small", arm="unsteered").empty
        assert read_tables([], "scores").columns.tolist() == found.columns.tolist()

    def test_models_go_from_large_to_small(self) -> None:
        assert figures.large_to_small(MODELS) == ["large", "small"]

    def test_estimates_are_those_of_the_measures(self) -> None:
        scores = noisy([2, 5])
        row = summarise(scores, ["esr_rate"]).iloc[0]
        found = figures.estimates(scores, ["esr_rate"], FAST).iloc[0]
        assert [found["value"], found["low"], found["high"]] == list(
            row[["estimate", "low", "high"]]
        )

    def test_an_arm_that_was_not_run_is_missing_with_a_status(self) -> None:
        table = figures.missing(["msi"], "not_run")
        assert table["value"].isna().all()
        assert table["n"].eq(0).all()
        assert table["status"].eq("not_run").all()


class TestFigure2:
    def test_a_model_without_any_event_is_drawn_with_its_bound(self) -> None:
        scores = stack({"steered": {"small": arm(0), "large": arm(3)}})
        table = fig2.figure_table(scores, MODELS, FAST)
        rates = table[table["model"].eq("small")].set_index("measure")
        bound = rates.loc["multi_attempt_rate", "high"]
        assert rates.loc["multi_attempt_rate", "value"] == 0
        assert bound > 0
        figure = fig2.draw(table, "A study", 0.95)
        drawn = [
            path.vertices[:, 0].tolist()
            for lines in figure.axes[2].collections
            for path in lines.get_paths()
        ]
        assert [0, pytest.approx(bound)] in drawn
        assert f"≤ {bound:.1f}" in texts(figure)

    @pytest.mark.parametrize(
        ("change", "count"), [(-0.4, 2), (0.03, 2), (12.0, 2), (-0.004, 3), (25.0, 6)]
    )
    def test_labels_of_ticks_and_models_do_not_overlap(self, change: float, count: int) -> None:
        scores = arm(2)
        tried = scores["multi_attempt"].astype(bool)
        scores.loc[tried, "last_score"] = scores.loc[tried, "first_score"] + change
        scores.loc[tried, "score_change"] = change
        scores.loc[tried, "improved"] = change > 0
        label = "Llama 3.3 70B Instruct (steered at layer 33)"
        models = {f"m{i}": {"label": label, "parameters": 10.0**i} for i in range(count)}
        several = stack({"steered": dict.fromkeys(models, scores)})
        figure = fig2.draw(fig2.figure_table(several, models, FAST), "A study", 0.95)
        figure.draw_without_rendering()
        names = [axes.yaxis.label.get_window_extent() for axes in figure.axes[:count]]
        assert all(box.x0 >= 0 and box.y0 >= 0 for box in names)
        assert all(box.y1 <= figure.bbox.y1 for box in names)
        assert all(above.y0 > below.y1 for above, below in pairwise(names))
        for axes in figure.axes:
            boxes = [tick.get_window_extent() for tick in axes.get_xticklabels() if tick.get_text()]
            inside = [box for box in boxes if axes.bbox.x0 - 1 < (box.x0 + box.x1) / 2]
            inside = [box for box in inside if (box.x0 + box.x1) / 2 < axes.bbox.x1 + 1]
            gaps = [right.x0 - left.x1 for left, right in pairwise(inside)]
            assert all(gap > 0 for gap in gaps), axes.get_title()
        plt.close(figure)

    def test_dollars_in_labels_and_titles_are_text(self, tmp_path: Path) -> None:
        models = {name: facts | {"label": "US$ 5 \\frac $"} for name, facts in MODELS.items()}
        scores = stack({"steered": {"small": arm(0), "large": arm(3)}})
        figure = fig2.draw(fig2.figure_table(scores, models, FAST), "Costs US$ 5 or US$ 9", 0.95)
        style.save(figure, tmp_path / "x.pdf", tmp_path / "x.png")
        assert (tmp_path / "x.pdf").read_bytes().startswith(b"%PDF")
        assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
        assert "US$ 5 \\frac $" in texts(figure).replace("\n", " ")

    def test_every_number_is_shown_with_its_interval(self) -> None:
        scores = stack({"steered": {"small": arm(1), "large": arm(3)}})
        table = fig2.figure_table(scores, MODELS, FAST)
        measures = table[table["measure"].ne("score_change")]
        assert measures[["low", "high"]].notna().all(axis=None)
        success = measures[measures["measure"].eq("success_rate")]
        shown = texts(fig2.draw(table, "A study", 0.95))
        for row in success.itertuples():
            assert f"{row.value:.0f} % improved" in shown
            assert f"[{row.low:.0f}, {row.high:.0f}] %" in shown

    def test_the_redraw_null_is_marked_where_there_is_one(self) -> None:
        scores = stack({"steered": {"small": arm(0), "large": arm(3)}})
        table = fig2.figure_table(scores, MODELS, FAST)
        null = table.set_index(["model", "measure"])["null"]
        assert null[("large", "success_rate")] == 0  # all first attempts score the same
        assert null[("large", "multi_attempt_rate")] != null[("large", "multi_attempt_rate")]
        figure = fig2.draw(table, "A study", 0.95)
        marks = [line.get_xdata() for axes in figure.axes[-3:] for line in diamonds(axes)]
        assert [len(each) for each in marks] == [0, 1, 1]
        assert "redraw: 0 %" in texts(figure)


class TestFigure6:
    def test_success_and_msi_have_the_null_of_every_share(self) -> None:
        base = arm(0).assign(model="small", arm="steered")
        trained = arm(3, gain=-20).assign(model="small+sc50", arm="steered")
        made = {"small+sc50": FineTuned("small", 50)}
        scores = pd.concat([base, trained], ignore_index=True)
        table = fig6.figure_table(scores, made, {"small": "Small"}, FAST)
        points = table[table["kind"].eq("point")].set_index(["share", "measure"])
        assert points.loc[(50, "msi"), "excess"] == pytest.approx(-0.3 * 20)
        assert points["null"].notna().groupby("measure").any().sum() == 3
        figure = fig6.draw(table, "A study", 0.95)
        assert [sum(len(line.get_xdata()) for line in diamonds(axes)) for axes in figure.axes] == [
            *[0, 1, 1, 0]
        ]


class TestFigure3:
    def test_points_are_the_plain_rates_of_every_level(self) -> None:
        table = fig3.figure_table(of_large(sweep([1, 3, 0])), {"large": MODELS["large"]}, FAST)
        points = table[table["kind"].eq("point")]
        rates = points[points["measure"].eq("multi_attempt_rate")]
        assert rates["sweep_level"].tolist() == [-1.0, 0.0, 1.0]
        assert rates["value"].tolist() == [10.0, 30.0, 0.0]
        success = points[points["measure"].eq("success_rate")]
        assert success["value"].isna().tolist() == [False, False, True]
        assert success["n"].tolist() == [LATENTS, 3 * LATENTS, 0]

    def test_levels_of_either_sign_are_points_of_one_curve(self) -> None:
        scores = sweep([0, 2, 4])
        scores["boost"] -= 120  # -20, 0, 20
        scores = scores[scores["boost"].ne(0)]
        table = fig3.figure_table(of_large(scores), {"large": MODELS["large"]}, FAST)
        curve = table.query("measure == 'esr_rate' and kind == 'point'").set_index("boost")
        assert curve.index.tolist() == [-20, 20]
        assert curve.loc[-20, "value"] == 0 < curve.loc[20, "value"]
        assert "Large" in texts(fig3.draw(table, "title", 0.95))

    def test_levels_are_in_order_whatever_the_order_of_the_trials(self) -> None:
        shuffled = sweep([1, 3, 0]).sample(frac=1, random_state=1)
        table = fig3.figure_table(of_large(shuffled), {"large": MODELS["large"]}, FAST)
        levels = table.loc[table["kind"].eq("point") & table["measure"].eq("msi"), "sweep_level"]
        assert levels.tolist() == [-1.0, 0.0, 1.0]

    def test_a_model_without_events_is_flat_and_one_without_trials_not_run(self) -> None:
        table = fig3.figure_table(of_large(sweep([0, 0, 0])), MODELS, FAST)
        small = table[table["model"].eq("small")]
        assert small["status"].eq("not_run").all()
        assert small["value"].isna().all()
        shown = texts(fig3.draw(table, "title", 0.95))
        assert shown.count("flat: no maximum") == 3
        assert "no multi-attempt trial" in shown
        assert "Small: not run" in shown

    def test_a_tie_is_written_with_its_interval(self) -> None:
        table = fig3.figure_table(of_large(sweep([0, 4, 4, 0])), MODELS, FAST)
        assert "tied (0.0 to 1.0)" in texts(fig3.draw(table, "title", 0.95))
        shown = texts(fig3.draw(table.assign(low=np.nan, high=np.nan), "title", 0.95))
        assert "tied" in shown, "few latents have no interval"

    def test_nothing_run_is_drawn_as_that(self) -> None:
        table = fig3.figure_table(stack({}), MODELS, FAST)
        assert "Large: not run" in texts(fig3.draw(table, "title", 0.95))


class TestFigure4:
    def table(self, scores: dict[str, dict[str, pd.DataFrame]]) -> pd.DataFrame:
        return fig4.figure_table(stack(scores), MODELS, VARIANTS, FAST)

    def test_changes_are_the_paired_comparison(self) -> None:
        plain, meta = noisy([3]), noisy([7], seed=5)
        table = self.table({"steered": {"large": plain}, "meta-plain": {"large": meta}})
        row = table.set_index(["model", "arm", "measure"]).loc["large", "meta-plain", "esr_rate"]
        expected = compare(plain, meta, ["esr_rate"], seed=FAST.seed).iloc[0]
        for ours, theirs in {"value": "difference", "low": "low", "n": "n_pairs"}.items():
            assert row[ours] == expected[theirs]

    def test_a_model_without_labels_has_a_status(self) -> None:
        scores = {
            "steered": {"large": arm(1), "small": arm(1)},
            "meta-plain": {"large": arm(3), "small": arm(4)},
            "meta-label": {"large": arm(6)},
        }
        table = self.table(scores)
        silent = table[table["model"].eq("small") & table["arm"].eq("meta-label")]
        assert silent["status"].eq("no_labels").all()
        assert silent["value"].isna().all()
        assert texts(fig4.draw(table, "title", 0.95)).count("no labels") == len(fig4.SHOWN)

    def test_no_adjusted_p_value_stands_beside_that_of_the_confirmatory_family(self) -> None:
        table = self.table({"steered": {"large": arm(3)}, "meta-plain": {"large": arm(4)}})
        assert [name for name in table if name.startswith("p_")] == ["p_value"]

    def test_the_plain_prompt_is_shown_by_its_value(self) -> None:
        table = self.table({"steered": {"large": arm(3)}, "meta-plain": {"large": arm(4)}})
        plain = table[table["arm"].eq("steered") & table["measure"].eq("multi_attempt_rate")]
        assert plain.set_index("model").loc["large", "baseline"] == 30.0
        shown = texts(fig4.draw(table, "title", 0.95))
        assert "30.0" in shown
        assert "Small: not run" in shown

    @pytest.mark.parametrize("variants", [{}, VARIANTS])
    def test_no_meta_prompt_or_no_model_draws(self, variants: dict[str, str]) -> None:
        table = fig4.figure_table(stack({}), MODELS, variants, FAST)
        assert table["status"].eq("not_run").all()
        assert "Large: not run" in texts(fig4.draw(table, "title", 0.95))


class TestNoSteering:
    def test_no_event_has_the_bound_of_the_summary(self) -> None:
        scores = {"steered": {"large": arm(3)}, "unsteered": {"large": arm(0, first=90)}}
        table = fig_a7.figure_table(stack(scores), {"large": MODELS["large"]}, FAST)
        rows = table[table["arm"].eq("unsteered")].set_index("measure")
        summary = summarise(scores["unsteered"]["large"], fig_a7.SHOWN).set_index("measure")
        ends = ["low", "high", "status", "method"]
        pd.testing.assert_frame_equal(rows[ends], summary[ends], check_names=False)
        bound = rows["high"].iloc[0]
        assert rows["value"].eq(0).all()
        shown = texts(fig_a7.draw(table, "title", 0.95))
        assert shown.count(f"0 of {LATENTS * PER_LATENT} (below {bound:.2g} %)") == 2

    def test_no_event_is_bounded_by_the_same_rule_with_and_without_steering(self) -> None:
        scores = {"steered": {"large": arm(0)}, "unsteered": {"large": arm(0, first=90)}}
        table = fig_a7.figure_table(stack(scores), {"large": MODELS["large"]}, FAST)
        bare, steered = (
            table[table["arm"].eq(arm)].set_index("measure")[["low", "high"]]
            for arm in ("unsteered", "steered")
        )
        pd.testing.assert_frame_equal(bare, steered)
        assert steered["high"].min() > 2.5  # 12 latents, not 120 independent trials

    def test_an_event_without_steering_is_shown_like_any_other(self) -> None:
        scores = {"steered": {"large": arm(3)}, "unsteered": {"large": arm(1, first=60)}}
        table = fig_a7.figure_table(stack(scores), {"large": MODELS["large"]}, FAST)
        rows = table[table["arm"].eq("unsteered")]
        assert rows["method"].tolist() == ["crossed_rate", "crossed_rate", "mixture_mean"]
        assert rows["value"].iloc[0] == 10.0

    def test_the_difference_is_paired(self) -> None:
        plain, bare = noisy([4]), arm(0, first=90)
        table = figures.no_steering(
            stack({"steered": {"large": plain}, "unsteered": {"large": bare}}),
            {"large": MODELS["large"]},
            ["first_score"],
            FAST,
        )
        row = table[table["kind"].eq("difference")].iloc[0]
        expected = compare(bare, plain, ["first_score"], seed=FAST.seed).iloc[0]
        assert (row["value"], row["low"]) == (expected["difference"], expected["low"])

    @pytest.mark.parametrize("script", [fig_a7, fig_a8])
    def test_what_was_not_run_is_not_a_bar_at_zero(self, script: Any) -> None:
        table = script.figure_table(stack({"steered": {"large": arm(2)}}), MODELS, FAST)
        silent = table[table["arm"].eq("unsteered") | table["model"].eq("small")]
        assert silent["value"].isna().all()
        assert silent["status"].eq("not_run").all()
        assert "n/a" in texts(script.draw(table, "title", 0.95))

    @pytest.mark.parametrize("script", [fig_a7, fig_a8])
    def test_an_arm_in_which_no_trial_was_scored_is_undefined(self, script: Any) -> None:
        refused = scores_of([None] * LATENTS * PER_LATENT, per_latent=PER_LATENT)
        scores = {"steered": {"large": arm(2)}, "unsteered": {"large": refused}}
        table = script.figure_table(stack(scores), {"large": MODELS["large"]}, FAST)
        silent = table[table["arm"].eq("unsteered")]
        assert silent["value"].isna().all()
        assert silent["status"].eq("undefined").all()
        assert "n/a" in texts(script.draw(table, "title", 0.95))

    def test_the_histogram_is_of_scored_trials_and_adds_up(self) -> None:
        attempts = [[0.0], [4.9], [5.0], [100.0], None]
        table = fig_a8.histogram(scores_of(attempts))
        assert table["value"].sum() == pytest.approx(100)
        assert table["n"].eq(4).all()
        assert table.loc[table["value"].gt(0), ["left", "value"]].to_numpy().tolist() == [
            [0, 50],
            [5, 25],
            [95, 25],
        ]


class TestStyle:
    def test_an_end_without_bound_is_no_error(self, tmp_path: Path) -> None:
        figure, axes = plt.subplots()
        style.points(axes, [0, 1], [1, 2], [0, 1], [3, np.inf], "k", horizontal=True)
        style.bars(axes, [1, 2], [0, -np.inf], [3, np.inf], "k")
        assert np.isfinite(axes.get_xlim()).all()
        style.save(figure, tmp_path / "x.pdf", tmp_path / "x.png")
        assert style.with_interval(1, 0, np.inf) == "1.0 [0.0, ∞]"

    def test_points_without_an_interval_are_hollow_and_missing_ones_absent(self) -> None:
        figure, axes = plt.subplots()
        nan = np.nan
        style.points(axes, [0, 1, 2], [1, 2, nan], [0.5, nan, nan], [1.5, nan, nan], style.BLUE)
        hollow = axes.lines[-1]
        assert hollow.get_markerfacecolor() == "white"
        assert np.asarray(hollow.get_xdata())[np.isfinite(np.asarray(hollow.get_ydata()))] == [1]
        plt.close(figure)

    def test_a_model_keeps_its_look_and_no_two_share_one(self) -> None:
        looks = style.model_looks([f"m{i}" for i in range(7)])
        assert len(set(looks.values())) == 7
        assert style.model_looks(["m0"])["m0"] == looks["m0"]

    def test_a_long_footnote_stays_within_the_figure(self) -> None:
        figure = plt.figure(figsize=(style.WIDTH, 2))
        style.footnote(figure, "evidence about the pipeline " * 12)
        figure.draw_without_rendering()
        box = figure.findobj(plt.Text)[0].get_window_extent()
        assert 0 <= box.x0 < box.x1 <= figure.bbox.width
        plt.close(figure)

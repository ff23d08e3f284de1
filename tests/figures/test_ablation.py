"""Ablations: detectors and random sets against the steered arm, in tables and in figures."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from scipy import stats

from esr.analysis.claims import Finding, Region, decide
from esr.analysis.comparisons import compare, compare_sets
from esr.analysis.statistics import sets_contrast
from esr.analysis.statistics.contrasts import Quantity, crossed_contrast
from esr.arms.scores import GATED, check_scores
from esr.config import DetectorsConfig, StatisticsConfig
from esr.detectors.controls import match_controls
from esr.detectors.search import Pairs, detector_table, pair_table
from esr.errors import EsrError
from esr.figures.ablation import SHOWN, compare_detectors, compare_random_sets
from esr.tables import write_table
from helpers.checkout import load_script
from helpers.planted_pairs import GRADED, PLANTED, SEPARABLE, found_in, labels, planted
from helpers.scores import stack

FAST = StatisticsConfig(bootstrap=400)
LATENTS, TRIALS = 30, 8


def arm(multi: float, seed: int, first: float = 50.0, latents: int = LATENTS) -> pd.DataFrame:
    """Scores of an arm in which a share of trials makes a second attempt, 30 points better."""
    rng = np.random.default_rng(seed)
    n = latents * TRIALS
    several = rng.random(n) < multi
    one = np.clip(rng.normal(first, 8, n), 0, 60)
    change = np.where(several, 30.0, 0.0)
    frame = pd.DataFrame(
        {
            "model": ["m"] * n,
            "arm": "steered",
            "judge": "lexical",
            "trial_id": [f"{seed}-{i}" for i in range(n)],
            "prompt_id": [f"p{i % TRIALS}" for i in range(n)],
            "latent": pd.array(np.repeat(np.arange(latents), TRIALS), "Int64"),
            "boost": 1.0,
            "seed": range(n),
            "status": "ok",
            "n_attempts": np.where(several, 2, 1),
            "first_score": one,
            "last_score": one + change,
            "score_change": change,
            "multi_attempt": several,
            "improved": several,
            "gated_multi_attempt": several,
            "gated_improved": several,
            "restart_detected": several,
            "degraded": False,
        }
    )
    check_scores(frame)
    return frame


def study(**changes: Any) -> pd.DataFrame:
    """One model in which detectors matter (20 % to 5 %) and random latents do not."""
    arms = {
        "steered": arm(0.20, 1),
        "ablate-otd": arm(0.05, 2),
        **{f"ablate-random-{i}": arm(0.20, 10 + i, first=45) for i in range(3)},
    }
    return stack(
        {name: {"m": table} for name, table in (arms | changes).items() if table is not None}
    )


def pick(table: pd.DataFrame, arm: str, measure: str) -> pd.Series:
    (row,) = (row for _, row in table.iterrows() if (row["arm"], row["measure"]) == (arm, measure))
    return row


MEAN = Quantity("mean")


def draws(latents: int) -> tuple[np.ndarray, np.ndarray]:
    """One trial a latent in two arms."""
    rng = np.random.default_rng(0)
    return rng.normal(10, 3, latents), rng.normal(14, 3, latents)


class TestSets:
    def test_the_value_is_the_mean_over_sets_and_the_difference_that_of_pairs(self) -> None:
        baseline = arm(0.2, 1)
        sets = [arm(share, 10 + i) for i, share in enumerate([0.1, 0.2, 0.3])]
        (row,) = compare_sets(baseline, sets, ["multi_attempt_rate"]).to_dict("records")
        alone = [compare(baseline, one, ["multi_attempt_rate"]).iloc[0] for one in sets]
        assert row["treatment"] == pytest.approx(np.mean([each["treatment"] for each in alone]))
        differences = [each["difference"] for each in alone]
        assert row["difference"] == pytest.approx(np.mean(differences))
        assert row["between"] == pytest.approx(np.std(differences, ddof=1))
        assert (row["n_sets"], row["n_pairs"]) == (3, 3 * LATENTS * TRIALS)

    def test_without_variation_between_latents_it_is_students_interval_of_the_sets(self) -> None:
        changes = np.array([1.0, 2.0, 6.0])
        base = np.full((3, 20), 10.0)
        alike = changes[:, None] + 1e-6 * np.arange(20)
        found = sets_contrast(base, base + alike, [np.arange(20)], Quantity("mean", 0, 100))
        expected = stats.t.interval(0.95, 2, changes.mean(), stats.sem(changes))
        assert list(found.difference) == pytest.approx(expected, rel=1e-3)
        assert found.p_value == pytest.approx(stats.ttest_1samp(changes, 0).pvalue, rel=1e-3)

    def test_without_variation_between_sets_it_is_the_interval_of_paired_arms(self) -> None:
        base, treated = draws(40)
        codes = [np.arange(40)]
        found = sets_contrast(np.tile(base, (3, 1)), np.tile(treated, (3, 1)), codes, MEAN)
        paired = crossed_contrast(base, treated, codes, MEAN)
        assert found.difference == pytest.approx(paired.difference)
        assert found.relative == pytest.approx(paired.relative)

    def test_the_p_value_is_where_the_interval_touches_zero(self) -> None:
        base, treated = draws(40)
        arms = np.tile(base, (3, 1)), np.tile(treated, (3, 1)) + np.array([[-2.0], [0.0], [1.0]])
        p_value = sets_contrast(*arms, [np.arange(40)], MEAN).p_value
        edge = sets_contrast(*arms, [np.arange(40)], MEAN, level=1 - p_value).difference
        assert edge.low == pytest.approx(0, abs=1e-3)

    def test_sets_that_differ_widen_the_interval(self) -> None:
        baseline = arm(0.2, 1)
        alike = [arm(0.2, 10 + i) for i in range(3)]
        unlike = [arm(share, 20 + i) for i, share in enumerate([0.05, 0.2, 0.35])]
        narrow, wide = (
            compare_sets(baseline, sets, ["multi_attempt_rate"]).iloc[0] for sets in (alike, unlike)
        )
        assert wide["high"] - wide["low"] > 2 * (narrow["high"] - narrow["low"])
        assert wide["treatment_low"] >= 0  # a rate stays a rate

    def test_it_covers_sets_that_were_not_drawn(self) -> None:
        rng = np.random.default_rng(7)
        hits = {"sets": 0, "latents alone": 0}
        for _ in range(100):
            base = rng.normal(0, 1, 30)
            effects = rng.normal(2, 1.5, 3)  # sets differ; the mean effect of all sets is 2
            treated = base + effects[:, None] + rng.normal(0, 0.5, (3, 30))
            found = sets_contrast(np.tile(base, (3, 1)), treated, [np.arange(30)], MEAN)
            hits["sets"] += found.difference.low <= 2 <= found.difference.high
            mean = (treated - base).mean(axis=0)
            low, high = stats.t.interval(0.95, 29, mean.mean(), stats.sem(mean))
            hits["latents alone"] += low <= 2 <= high
        assert 0.90 <= hits["sets"] / 100 <= 0.99
        assert hits["latents alone"] / 100 < 0.5

    @pytest.mark.parametrize(("count", "status"), [(0, "undefined"), (1, "too_few")])
    def test_too_few_sets_have_no_interval(self, count: int, status: str) -> None:
        sets = [arm(0.2, 10 + i) for i in range(count)]
        row = compare_sets(arm(0.2, 1), sets, ["msi"]).iloc[0]
        assert row["status"] == status
        assert np.isnan(row["low"])
        assert np.isnan(row["treatment"]) == (count == 0)

    def test_a_measure_without_events_in_some_set_is_undefined_not_zero(self) -> None:
        sets = [arm(0.2, 10), arm(0.0, 11)]
        row = compare_sets(arm(0.2, 1), sets, ["success_rate"]).iloc[0]
        assert row["status"] == "undefined"
        assert np.isnan(row["treatment"])

    def test_no_second_attempt_anywhere_has_no_variation(self) -> None:
        sets = [arm(0.0, 10), arm(0.0, 11)]
        row = compare_sets(arm(0.0, 1), sets, ["multi_attempt_rate"]).iloc[0]
        assert row["status"] == "no_variation"
        assert row["treatment"] == 0

    def test_trials_that_failed_leave_their_pairs_and_are_counted(self) -> None:
        treatment = arm(0.2, 10)
        gone = ["n_attempts", "first_score", "last_score", "score_change"]
        failed = treatment.astype(dict.fromkeys(gone, "Float64"))
        flags = ["multi_attempt", "improved", *GATED]
        failed = failed.astype(dict.fromkeys(flags, "boolean"))
        failed.loc[:4, [*gone, *flags]] = pd.NA
        failed.loc[:4, "status"] = "refused"
        row = compare_sets(arm(0.2, 1), [failed, arm(0.2, 11)], ["msi"]).iloc[0]
        assert (row["n_pairs"], row["n_dropped"]) == (2 * LATENTS * TRIALS - 5, 5)

    def test_an_arm_with_repeated_trials_is_refused(self) -> None:
        twice = pd.concat([arm(0.2, 1), arm(0.2, 2)])
        with pytest.raises(EsrError, match="repeated pair keys"):
            compare_sets(arm(0.2, 3), [twice], ["msi"])


class TestTables:
    def test_planted_truths_come_out(self) -> None:
        table = pd.concat(
            [compare_detectors(study(), 3, FAST), compare_random_sets(study(), 3, FAST)]
        )
        detectors = pick(table, "ablate-otd - steered", "multi_attempt_rate")
        random = pick(table, "ablate-random - steered", "multi_attempt_rate")
        assert detectors["high"] < -5
        assert random["low"] < 0 < random["high"]
        assert pick(table, "ablate-random - ablate-otd", "multi_attempt_rate")["low"] > 5
        assert pick(table, "ablate-random - steered", "first_score")["high"] < 0

    def test_every_row_has_its_sample_sizes(self) -> None:
        table = pd.concat(
            [compare_detectors(study(), 3, FAST), compare_random_sets(study(), 3, FAST)]
        )
        assert table["n"].ge(LATENTS * TRIALS).all()
        assert table["status"].isin(["ok", "sparse"]).all()
        mean = pick(table, "ablate-random", "esr_rate")
        assert mean["n"] == 3 * LATENTS * TRIALS
        single = [pick(table, f"ablate-random-{i}", "esr_rate")["value"] for i in range(3)]
        assert mean["value"] == pytest.approx(np.mean(single))

    def test_without_detectors_every_row_is_marked_as_not_ablated(self) -> None:
        for rows in (compare_detectors, compare_random_sets):
            table = rows(study(), 0, FAST)
            ablated = table[table["arm"].ne("steered")]
            assert ablated["value"].isna().all()
            assert ablated["status"].eq("no_detectors").all()

    def test_an_arm_that_was_not_run_is_missing(self) -> None:
        scores = study(**{"ablate-otd": None})
        table = pd.concat(
            [compare_detectors(scores, 3, FAST), compare_random_sets(scores, 3, FAST)]
        )
        assert pick(table, "ablate-otd", "msi")["status"] == "not_run"
        assert pick(table, "ablate-random - ablate-otd", "msi")["status"] == "not_run"
        assert not np.isnan(pick(table, "ablate-random - steered", "msi")["value"])

    def test_a_study_without_random_sets_has_a_status(self) -> None:
        scores = study()
        scores = scores[~scores["arm"].str.contains("random")]
        table = compare_random_sets(scores, 3, FAST)
        assert table["status"].eq("not_run").all()
        assert table["value"].isna().all()


def controls_of(detectors: list[int]) -> pd.DataFrame:
    activity = np.linspace(0.01, 0.9, 40)
    return match_controls(detectors, activity, 3 * activity, 3, 4, 0)


def fig5_table(models: int = 1, how: DetectorsConfig = SEPARABLE, **changes: Any) -> pd.DataFrame:
    script = load_script("plot_fig5")
    pairs = changes.pop("pairs", planted())
    detectors = found_in(pairs, how, given=changes.pop("given", ()))
    used = detectors.loc[detectors["found"] | detectors["given"], "latent"].tolist()
    count = int(detectors["detector"].sum())
    rows = [
        script.detector_rows(detectors, pair_table(pairs, used), how, FAST),
        compare_detectors(study(**changes), count, FAST),
    ]
    both = pd.concat(rows, ignore_index=True).reindex(columns=script.COLUMNS)
    named = [both.assign(model=f"m{i}", label=f"Model {i}") for i in range(models)]
    return pd.concat(named, ignore_index=True)


def counts(table: pd.DataFrame) -> dict[str, float]:
    rows = table[table["kind"].eq("count")]
    return dict(zip(rows["measure"], rows["value"].astype(float), strict=True))


ZERO = DetectorsConfig(criterion="zero_then_frequent")
NOTHING_TO_FIND = replace(planted(), mismatched=planted().matched)


class TestFigure5:
    def test_it_counts_what_was_found_given_in_both_and_confirmed(self) -> None:
        table = fig5_table(given=(17, 5))
        assert counts(table) == {"found": 3, "given": 2, "both": 1, "confirmed": 3}

    @pytest.mark.parametrize("how", [SEPARABLE, GRADED, ZERO], ids=lambda how: how.criterion)
    def test_detectors_that_chance_finds_on_a_few_prompts_confirm_nothing(
        self, how: DetectorsConfig
    ) -> None:
        script, rng = load_script("plot_fig5"), np.random.default_rng(0)
        for prompts, status in ((3, "few_pairs"), (60, "ok")):
            active = rng.random((2, 2 * prompts, 4000)) * (rng.random((2, 2 * prompts, 4000)) < 0.3)
            active[1, :, :6] += 9
            active[0, :, :6] = 0
            out = np.arange(2 * prompts) >= prompts
            names = [f"p{i}" for i in range(2 * prompts)]
            partner = np.roll(np.arange(2 * prompts), 1)
            pairs = Pairs(active[0], active[1], out, names, partner)
            table = detector_table(pairs, labels(4000), how, ())
            found = table.loc[table["found"], "latent"].tolist()
            rows = script.detector_rows(table, pair_table(pairs, found), how, FAST)
            row = rows[rows["measure"].eq("found")].iloc[0]
            assert row["status"] == status
            assert (row["value"] > 12) == (status == "few_pairs"), "six see the mismatch"
            finding = Finding(row["value"], row["value"], row["value"], status=row["status"])
            verdict, _ = decide(finding, Region(5, np.inf))
            assert verdict == {"few_pairs": "undecided", "ok": "confirmed"}[status]

    def test_detectors_are_shown_on_pairs_that_were_not_searched(self) -> None:
        shown = fig5_table().query("kind == 'detector'")
        assert shown["status"].eq("held_out").all()
        assert set(shown["latent"]) == set(PLANTED)
        out = planted().held_out
        own = planted().mismatched[out][:, PLANTED[0]].mean()
        row = shown[shown["latent"].eq(PLANTED[0]) & shown["measure"].eq("mismatched")].iloc[0]
        assert row["value"] == pytest.approx(own)
        assert row["n"] == out.sum()

    def test_a_study_without_a_search_has_no_count_not_even_zero(self) -> None:
        script, pairs = load_script("plot_fig5"), planted()
        nothing = found_in(pairs, SEPARABLE).iloc[:0]
        rows = script.detector_rows(nothing, pair_table(pairs, []), SEPARABLE, FAST)
        assert rows["value"].isna().all()
        assert set(rows["status"]) == {"not_run"}
        arms = compare_detectors(arm(0.2, 1), 0, FAST)
        table = pd.concat([rows, arms]).assign(model="m", label="M")
        figure = script.draw(table.reindex(columns=script.COLUMNS), "Title", 0.95)
        texts = [text.get_text() for axes in figure.axes for text in axes.texts]
        plt.close(figure)
        assert "no detectors in use\n(not searched)" in texts

    def test_without_held_out_pairs_none_is_confirmed_or_refuted(self) -> None:
        script, pairs = load_script("plot_fig5"), planted(held_out=0)
        detectors = found_in(pairs, SEPARABLE)
        rows = script.detector_rows(detectors, pair_table(pairs, PLANTED), SEPARABLE, FAST)
        assert np.isnan(counts(rows)["confirmed"])
        assert rows.query("kind == 'detector'")["status"].eq("search").all()

    @pytest.mark.parametrize(
        ("models", "changes"),
        [
            (1, {}),
            (5, {"given": (17, 5)}),
            (1, {"pairs": NOTHING_TO_FIND}),
            (2, {"ablate-otd": None}),
            (1, {"steered": arm(0.0, 1), "ablate-otd": arm(0.0, 2)}),  # nobody tries again
            (1, {"steered": arm(0.2, 1, latents=1), "ablate-otd": arm(0.1, 2, latents=1)}),
        ],
        ids=["one model", "five models", "no detectors", "not run", "no second try", "one latent"],
    )
    def test_it_is_drawn_whatever_there_is(self, models: int, changes: dict[str, Any]) -> None:
        table = fig5_table(models, **changes)
        figure = load_script("plot_fig5").draw(table, "Evidence about the pipeline", 0.95)
        figure.draw_without_rendering()
        texts = [text.get_text() for axes in figure.axes for text in axes.texts]
        nothing = table.query("kind == 'arm'")["value"].isna().any()
        assert any("n/a" in text for text in texts) == nothing
        assert any("no detectors" in text for text in texts) == ("pairs" in changes)
        plt.close(figure)


def fig_a9_table(models: int = 1, found: bool = True, **changes: Any) -> pd.DataFrame:
    script = load_script("plot_figA9")
    scores, detectors = study(**changes), PLANTED if found else []
    rows = [
        script.matching_rows(controls_of(detectors)),
        compare_detectors(scores, len(detectors), FAST),
        compare_random_sets(scores, len(detectors), FAST),
    ]
    both = pd.concat(rows, ignore_index=True).reindex(columns=script.COLUMNS)
    named = [both.assign(model=f"m{i}", label=f"Model {i}") for i in range(models)]
    return pd.concat(named, ignore_index=True)


class TestFigureA9:
    def test_it_reports_how_far_each_set_is_from_the_detectors(self) -> None:
        controls = controls_of(PLANTED)
        table = load_script("plot_figA9").matching_rows(controls)
        for kind in ("frequency", "mean"):
            rows = table[table["measure"].eq(kind) & table["kind"].eq("sum")].set_index("arm")
            assert len(rows) == 3
            own = controls[controls["set"].eq(1)]
            assert rows.loc["ablate-random-1", "value"] == pytest.approx(own[kind].sum())
            target = own[f"detector_{kind}"].sum()
            assert rows.loc["ablate-random-1", "target"] == pytest.approx(target)
        matching = table[table["kind"].eq("matching")]
        assert len(matching) == 2 * len(controls)
        assert matching.groupby("arm")["detector"].nunique().tolist() == 3 * [len(PLANTED)]

    @pytest.mark.parametrize(
        ("models", "changes"),
        [
            (1, {}),
            (5, {}),
            (2, {"found": False}),
            (1, {"ablate-random-1": None, "ablate-random-2": None}),  # one set: no interval
            (1, {f"ablate-random-{i}": None for i in range(3)}),
            (1, {"steered": arm(0.0, 1), "ablate-otd": arm(0.0, 2)}),
        ],
        ids=["one model", "five models", "no detectors", "one set", "no set", "no second try"],
    )
    def test_it_is_drawn_whatever_there_is(self, models: int, changes: dict[str, Any]) -> None:
        table = fig_a9_table(models, **changes)
        figure = load_script("plot_figA9").draw(table, "Evidence about the pipeline", 0.95)
        figure.draw_without_rendering()
        texts = [text.get_text() for axes in figure.axes for text in axes.texts]
        nothing = table.query("kind == 'arm'")["value"].isna().any()
        assert any("n/a" in text for text in texts) == nothing
        plt.close(figure)


class TestTableA1:
    MODELS = {"a": {"label": "Model A", "parameters": 1}, "b": {"label": "B", "parameters": 2}}  # noqa: RUF012

    def statistics(
        self, how: DetectorsConfig = SEPARABLE, given: tuple[int, ...] = ()
    ) -> pd.DataFrame:
        pairs = planted()
        detectors = found_in(pairs, how, given)
        used = detectors.loc[detectors["found"] | detectors["given"], "latent"].tolist()
        script = load_script("tabulate_tableA1")
        table = script.detector_statistics(detectors, pair_table(pairs, used), FAST)
        return table.assign(model="a").reindex(columns=script.COLUMNS)

    def test_planted_detectors_have_large_effects_and_given_ones_theirs(self) -> None:
        table = self.statistics(given=(5,)).set_index("latent")
        assert table.loc[PLANTED, "low"].gt(5).all()
        assert abs(table.loc[5, "d"]) < 1
        assert table.loc[5, "low"] < table.loc[5, "d"] < table.loc[5, "high"]
        assert table["label"].tolist() == [f"label {i}" for i in table.index]
        assert table["pairs"].eq("held_out").all()

    def test_in_print_every_model_appears_with_detectors_or_without(self) -> None:
        printed = load_script("tabulate_tableA1").printed(
            self.statistics(), self.MODELS, {"a", "b"}
        )
        assert printed["Model"].tolist() == ["Model A"] * 3 + ["B"]
        assert printed["Latent"].iloc[-1] == "none found"
        assert printed["d"].iloc[0].count("[") == 1

    def test_without_any_detector_the_table_has_a_note(self) -> None:
        table = self.statistics(DetectorsConfig(criterion="graded", min_auroc=1, max_leak=0)).iloc[
            :0
        ]
        printed = load_script("tabulate_tableA1").printed(table, self.MODELS, {"a"})
        assert printed["Latent"].tolist() == ["none found", "not searched"]

    def test_unlabelled_latents_are_marked(self) -> None:
        table = self.statistics().assign(label=None)
        printed = load_script("tabulate_tableA1").printed(table, self.MODELS, {"a"})
        assert printed["Label"].iloc[0] == "(no label)"

    def test_it_is_written_whole(self, tmp_path: Path) -> None:
        from esr.analysis.summaries import write_tables

        table = self.statistics(how=GRADED)
        printed = load_script("tabulate_tableA1").printed(table, self.MODELS, {"a"})
        write_tables(tmp_path / "t.csv", tmp_path / "t.tex", table, printed)
        back = pd.read_csv(tmp_path / "t.csv")
        assert back["d"].tolist() == pytest.approx(table["d"].tolist(), rel=1e-5)
        assert "\\begin{tabular}" in (tmp_path / "t.tex").read_text()


def test_measures_of_the_figures_are_those_of_the_paper() -> None:
    assert SHOWN == ["first_score", "multi_attempt_rate", "esr_rate", "msi"]


def test_controls_of_no_detectors_fit_their_table(tmp_path: Path) -> None:
    controls = controls_of([]).assign(model="m")
    write_table(controls, tmp_path / "controls.parquet", "controls", {})

"""Plans of self-report: which trials there are, and what the options of a forced choice balance."""

from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from esr.errors import EsrError
from esr.introspection.plan import introspection_plan, option_sets
from esr.introspection.questions import read_questions
from esr.tables import read_table, write_table
from helpers.checkout import REPO
from helpers.introspective import LABELS, QUESTIONS, SETTINGS, latents


def plan_of(
    table: pd.DataFrame | None = None, thresholds: pd.DataFrame | None = None, **changes: Any
) -> pd.DataFrame:
    settings = SETTINGS.model_copy(update=changes)
    return introspection_plan(
        settings, "tiny", latents() if table is None else table, thresholds, QUESTIONS
    )


def thresholds_of(values: dict[int, float | None]) -> pd.DataFrame:
    status = ["out_of_bounds" if value is None else "converged" for value in values.values()]
    return pd.DataFrame(
        {"latent": list(values), "threshold": list(values.values()), "status": status}
    )


class TestTrials:
    def test_every_question_meets_every_direction_dose_and_window_and_none(self) -> None:
        plan = plan_of()
        yes_no = plan[plan["kind"].ne("choice")]
        pairs, windows, doses = len(QUESTIONS), 3, len(SETTINGS.doses)
        assert (yes_no["dose"] == 0).sum() == 2 * pairs * windows
        assert (yes_no["dose"] > 0).sum() == 2 * pairs * windows * doses * len(LABELS) * 2
        assert plan["trial_id"].is_unique

    def test_it_is_a_table_of_the_study(self, tmp_path: Path) -> None:
        write_table(plan_of(), tmp_path / "plan.parquet", "introspection_plan", {})
        again = read_table(tmp_path / "plan.parquet", "introspection_plan")
        assert again["dose"].tolist() == plan_of()["dose"].tolist()

    def test_random_directions_have_the_boost_of_the_latent_that_they_stand_in_for(self) -> None:
        known = thresholds_of({latent: 10.0 + latent for latent in range(len(LABELS))})
        plan = plan_of(thresholds=known, unit="threshold")
        assert (plan["boost"] == plan["dose"] * (10 + plan["latent"].fillna(0)).astype(float)).all()
        boosts = plan[plan["dose"].gt(0)].groupby(["latent", "dose"])["boost"].nunique()
        assert (boosts == 1).all()

    def test_a_latent_without_a_threshold_is_left_out_and_changes_no_other(self) -> None:
        values: dict[int, float | None] = dict.fromkeys(range(len(LABELS)), 10.0)
        whole = plan_of(thresholds=thresholds_of(values), unit="threshold", choices=0)
        some = plan_of(
            thresholds=thresholds_of(values | {3: None, 4: 0.0}), unit="threshold", choices=0
        )
        assert set(some["trial_id"]) < set(whole["trial_id"])
        assert set(whole["latent"].dropna()) - set(some["latent"].dropna()) == {3, 4}

    def test_fewer_than_two_latents_are_refused(self) -> None:
        with pytest.raises(EsrError, match="1 of 10 latents have a usable threshold"):
            plan_of(thresholds=thresholds_of({0: 5.0, 1: None}), unit="threshold")


class TestVectors:
    def test_those_of_a_set_take_the_place_of_latents(self) -> None:
        plan, latents_ = plan_of(directions="mine"), plan_of()
        concepts = plan[plan["dose"].gt(0) & ~plan["is_random"]]
        assert concepts["directions"].eq("mine").all()
        assert plan.loc[plan["is_random"], "directions"].eq("random").all()
        assert plan.loc[plan["dose"].eq(0), "directions"].isna().all()
        same = ["latent", "is_random", "window", "dose", "boost", "label", "kind", "prompt"]
        pd.testing.assert_frame_equal(plan[same], latents_[same])

    def test_only_the_trials_that_inject_them_have_other_ids(self) -> None:
        plan, latents_ = plan_of(directions="mine"), plan_of()
        other = plan["trial_id"].ne(latents_["trial_id"])
        assert other.tolist() == plan["directions"].eq("mine").tolist()

    def test_fewer_than_the_options_are_refused(self) -> None:
        few = latents().head(3)
        with pytest.raises(EsrError, match="4 options, but 3 vectors of 'mine' can be injected"):
            plan_of(few, directions="mine", choices=4)
        assert plan_of(few, directions="mine", choices=0)["latent"].nunique() == 3

    @pytest.mark.parametrize("directions", [None, "mine"])
    def test_one_direction_is_refused(self, directions: str | None) -> None:
        with pytest.raises(EsrError, match=r"1 of the .* needs two or more; raise latents.count"):
            plan_of(latents().head(1), directions=directions, choices=0)

    def test_lost_thresholds_cost_the_forced_choice_alone(self) -> None:
        known = thresholds_of({0: 5.0, 1: 4.0, 2: 6.0})
        plan = plan_of(
            thresholds=known, unit="threshold", behaviour=True, directions="mine", choices=4
        )
        assert set(plan["kind"]) == {"on_target", "off_target"}


class TestForcedChoice:
    def test_every_label_is_right_once_and_wrong_equally_often(self) -> None:
        sets = option_sets(dict(enumerate(LABELS)), 4, seed=47)
        assert all(latent in members for latent, members in sets.items())
        counts = Counter(member for members in sets.values() for member in members)
        assert set(counts.values()) == {4}

    def test_a_latent_that_drops_out_leaves_the_options_of_those_it_was_none_of(self) -> None:
        sets = option_sets(dict(enumerate(LABELS)), 4, seed=47)
        for gone in sets:
            kept = {k: label for k, label in enumerate(LABELS) if k != gone}
            again = option_sets(kept, 4, seed=47)
            assert [again[k] for k in kept if gone not in sets[k]] == [
                sets[k] for k in kept if gone not in sets[k]
            ]

    def test_every_option_has_every_letter_once_so_that_a_favourite_letter_gains_nothing(
        self,
    ) -> None:
        plan = plan_of(choices=4)
        rows = plan[plan["kind"].eq("choice") & plan["dose"].eq(0) & plan["window"].eq("whole")]
        for latent, group in rows.groupby("latent"):
            places = [options.index(latent) for options in group["options"]]
            assert sorted(places) == [0, 1, 2, 3]
            assert all(
                f"{'abcd'[p].upper()}: {LABELS[latent]}" in text
                for p, text in zip(places, group["prompt"], strict=True)
            )

    def test_without_enough_labels_there_is_none(self) -> None:
        table = latents().assign(label=pd.Series([*LABELS[:3], *[None] * 7], dtype="string"))
        assert not plan_of(table, choices=4)["kind"].eq("choice").any()
        assert plan_of(table, choices=3)["kind"].eq("choice").any()

    def test_equal_labels_count_once(self) -> None:
        assert set(option_sets({0: "a", 1: "b", 2: "A"}, 2, seed=1)) == {0, 1}

    def test_each_option_has_one_line_and_a_blank_label_is_none(self) -> None:
        strange = ["iron\nB: wool", " bees ", "tea", "  ", "de l'été, 模型/x", *LABELS[5:]]
        plan = plan_of(latents().assign(label=pd.Series(strange, dtype="string")), choices=3)
        shown = set(plan.loc[plan["kind"].eq("choice"), "prompt"].str.count("\n"))
        assert shown == {SETTINGS.choice_question.count("\n") + 2}
        labels = plan.dropna(subset="latent").groupby("latent")["label"].first()
        assert labels[[0, 1, 2, 4]].tolist() == ["iron B: wool", "bees", "tea", strange[4]]
        assert pd.isna(labels[3])


class TestQuestions:
    def test_the_shipped_pairs_are_read(self) -> None:
        table = read_questions(REPO / "resources/introspection/questions.csv")
        assert len(table) >= 6

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("question_id,on_target\na,b\n", "needs"),
            ("question_id,on_target,off_target\na,b,c\n", "1 pairs; give two or more"),
            ("question_id,on_target,off_target\na,b,c\nd,e,b\n", "line 3: 'b' is empty or repeat"),
            ("question_id,on_target,off_target\na,b,c\na,e,f\n", "line 3: 'a' is empty or repeat"),
        ],
    )
    def test_a_mistake_is_named(self, tmp_path: Path, text: str, message: str) -> None:
        path = tmp_path / "questions.csv"
        path.write_text(text)
        with pytest.raises(EsrError, match=message):
            read_questions(path)
        with pytest.raises(EsrError, match="does not exist"):
            read_questions(tmp_path / "none.csv")

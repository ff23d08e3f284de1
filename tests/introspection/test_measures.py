"""Excess log-odds, forced choices, thresholds and their summary, by hand-made readouts."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from esr.introspection.measures import choices, chosen, self_reports
from esr.introspection.plan import introspection_plan
from esr.introspection.summary import MEASURES, summarise
from esr.introspection.thresholds import crossing, report_thresholds
from esr.tables import write_table
from helpers.introspective import LABELS, QUESTIONS, SETTINGS, latents

Odds = Callable[[Any], float]
"""Log-odds of yes of a trial."""
CONCEPT, RANDOM = True, False


@cache
def plan_of() -> pd.DataFrame:
    one = SETTINGS.model_copy(update={"windows": ("question",)})
    return introspection_plan(one, "tiny", latents(), None, QUESTIONS)


def read(
    plan: pd.DataFrame, odds: Odds, letter: Callable[[Any], int] = lambda _: 0
) -> pd.DataFrame:
    """Readouts whose log-odds of yes and favourite letters are given; NaN is not finite."""
    rows = []
    for trial in plan.itertuples():
        if trial.kind == "choice":
            values = dict.fromkeys(SETTINGS.options, 0.0)
            values[list(values)[letter(trial)]] = 2.0
        else:
            values = {"affirmed": odds(trial) - 1.0, "denied": -1.0}
        bad = np.isnan(list(values.values())).any()
        status = "engine_error" if bad else "ok"
        rows += [(trial.trial_id, k, status, None if bad else v) for k, v in values.items()]
    table = pd.DataFrame(rows, columns=["trial_id", "name", "status", "log_prob"])
    return table.astype({"log_prob": "Float64"})


def is_concept(trial: Any) -> bool:
    return trial.dose > 0 and not trial.is_random


def noise(plan: pd.DataFrame, seed: int) -> Odds:
    """Standard normal log-odds, drawn for each trial."""
    drawn = np.random.default_rng(seed).normal(size=len(plan))
    odds = dict(zip(plan["trial_id"], drawn, strict=True))
    return lambda trial: float(odds[trial.trial_id])


def summary_of(odds: Odds, letter: Callable[[Any], int] = lambda _: 0) -> pd.DataFrame:
    plan = plan_of()
    readouts = read(plan, odds, letter)
    reports = self_reports(plan, readouts)
    found = report_thresholds(reports, 1.0, 0.95, 45)
    table = summarise(reports, choices(plan, readouts), found, 0.95)
    return table[table["dose"].astype(str).eq("all")].set_index("measure")


class TestExcess:
    def test_it_is_the_difference_of_differences_over_random_directions(self) -> None:
        plan = plan_of()

        def odds(trial: Any) -> float:
            base = {"on_target": -2.0, "off_target": -5.0}[trial.kind]
            if trial.dose == 0:
                return base
            gain = {
                CONCEPT: {"on_target": 3.0, "off_target": 1.0},
                RANDOM: {"on_target": 0.5, "off_target": 0.25},
            }[is_concept(trial)]
            return base + trial.dose * gain[trial.kind]

        table = self_reports(plan, read(plan, odds))
        rows = table[~table["is_random"] & table["dose"].eq(2.0)]
        assert len(rows) == len(LABELS) * len(QUESTIONS)
        for name, value in {
            "on_target": 6.0,
            "off_target": 2.0,
            "shift": 4.0,
            "control": 0.5,
            "excess": 3.5,
        }.items():
            assert rows[name].astype(float).to_numpy() == pytest.approx(value), name
        others = table[table["is_random"] & table["dose"].eq(2.0)]
        assert others["shift"].astype(float).to_numpy() == pytest.approx(0.5)
        assert others["control"].astype(float).to_numpy() == pytest.approx(0.5)
        assert others["excess"].astype(float).to_numpy() == pytest.approx(0)

    def test_random_directions_are_reported_as_often_as_latents_that_are_none(self) -> None:
        plan = plan_of()
        reached = []
        for seed in range(15):
            reports = self_reports(plan, read(plan, noise(plan, seed)))
            found = report_thresholds(reports, 1.0, 0.95, 45)
            is_random = found["is_random"].rename("random")
            reached.append(found["status"].eq("reached").groupby(is_random).mean())
        rates = pd.concat(reached, axis=1).mean(axis=1)
        assert rates.min() > 0.15, "noise passes at times"
        assert abs(rates[True] - rates[False]) < 0.08

    def test_a_push_that_every_question_gets_cancels(self) -> None:
        table = summary_of(lambda t: -3 + 4 * t.dose * is_concept(t))
        assert table.loc["off_target_log_odds", "value"] > 4
        assert table.loc["excess_log_odds", "value"] == pytest.approx(0, abs=1e-12)
        assert table.loc["reported_rate", "value"] == 0

    def test_a_push_that_any_vector_gives_to_questions_about_oneself_cancels(self) -> None:
        table = summary_of(lambda t: -3 + 4 * t.dose * (t.kind == "on_target"))
        assert table.loc["shift_log_odds", "value"] > 4
        assert table.loc["excess_log_odds", "value"] == pytest.approx(0, abs=1e-12)

    @pytest.mark.parametrize(("on_target", "off_target"), [(-8.0, -3.0), (-4.0, -4.0)])
    def test_answers_that_fade_add_no_more_than_what_they_differ_by_unsteered(
        self, on_target: float, off_target: float
    ) -> None:
        """Latents disturb more than random vectors: log-odds lose a share of 0.9, against 0.1."""
        base = {"on_target": on_target, "off_target": off_target}
        lost = {CONCEPT: 0.9, RANDOM: 0.1}
        table = summary_of(
            lambda t: base[t.kind] * (1 - lost[is_concept(t)] * (t.dose > 0)),
        )
        gap = on_target - off_target
        assert table.loc["unsteered_log_odds", "value"] == pytest.approx(gap)
        assert table.loc["excess_log_odds", "value"] == pytest.approx(-0.8 * gap)

    def test_what_was_not_finite_is_a_status_and_no_number(self, tmp_path: Path) -> None:
        plan = plan_of()
        lost = plan[plan["dose"].eq(2.0) & plan["latent"].eq(3)]["trial_id"]
        table = self_reports(
            plan, read(plan, lambda t: np.nan if t.trial_id in set(lost) else -1.0)
        )
        bad = table["latent"].eq(3) & table["dose"].eq(2.0)
        controlled = table["latent"].eq(2) & table["dose"].eq(2.0) & table["is_random"]
        assert table["status"].eq("engine_error").tolist() == (bad | controlled).tolist()
        assert table.loc[bad, "shift"].isna().all()
        write_table(table, tmp_path / "t.parquet", "self_reports", {})

    def test_random_directions_of_a_single_latent_have_no_excess(self) -> None:
        plan = plan_of()
        plan = plan[plan["latent"].isna() | plan["latent"].eq(3)]
        plan = plan[plan["kind"].ne("choice")]
        readouts = read(plan, noise(plan, 0))
        table = self_reports(plan, readouts)
        random, latent = table[table["is_random"]], table[~table["is_random"]]
        assert random["excess"].isna().all(), "their own mean holds them: it would be 0"
        assert random["status"].eq("one_direction").all()
        assert latent["status"].eq("ok").all()
        found = report_thresholds(table, 1.0, 0.95, 45).set_index("is_random")
        assert found.loc[True, "status"] == "one_direction"
        means = summarise(table, choices(plan, readouts), found.reset_index(), 0.95)
        rate = means[means["measure"].eq("random_rate")]
        assert rate["value"].isna().all()
        assert rate["n"].eq(0).all()

    def test_a_lost_random_direction_loses_the_excess_it_controls(self) -> None:
        plan = plan_of()
        lost = plan["is_random"] & plan["latent"].eq(3) & plan["dose"].eq(2.0)
        names = set(plan.loc[lost, "trial_id"])
        table = self_reports(plan, read(plan, lambda t: np.nan if t.trial_id in names else 0.0))
        mine = table[table["latent"].eq(3) & table["dose"].eq(2.0)]
        assert mine["status"].eq("engine_error").all()
        assert mine["excess"].isna().all()


class TestChoices:
    def test_the_right_letter_counts_and_a_favourite_one_is_chance(self, tmp_path: Path) -> None:
        plan = plan_of()
        table = choices(plan, read(plan, lambda _: 0.0))  # always the first letter
        assert table["right"].astype(float).mean() == 0.5
        write_table(table, tmp_path / "t.parquet", "choices", {})
        favourite = summary_of(lambda _: 0.0)
        assert favourite.loc["choice_excess", "value"] == 0
        assert favourite.loc["choice_excess", "high"] > 5  # equal answers are no evidence
        able = summary_of(lambda _: 0.0, lambda t: list(t.options).index(t.latent) if t.dose else 0)
        assert able.loc["choice_excess", "value"] == 50
        assert able.loc["choice_injected", "value"] == 50

    @pytest.mark.parametrize(
        ("log_probs", "right", "probability"),
        [
            ([0.0, -1.0], 1.0, 1 / (1 + np.exp(-1))),
            ([-1.0, 0.0], 0.0, None),
            ([0.0, 0.0], 0.5, 0.5),
        ],
    )
    def test_letters_that_tie_share_the_choice(
        self, log_probs: list[float], right: float, probability: float | None
    ) -> None:
        found = chosen(np.array(log_probs), 0)
        assert found[0] == right
        if probability is not None:
            assert found[1] == pytest.approx(probability)
        assert np.isnan(chosen(np.array([np.nan, 0.0]), 0)).all()


class TestThresholds:
    @pytest.mark.parametrize(
        ("curve", "boost", "status"),
        [
            ([0.5, 1.5, 3.0], 15.0, "reached"),
            ([2.0, 0.0, 0.0], 5.0, "reached"),  # between nothing and the first dose
            ([0.2, 0.4, 0.9], np.nan, "never"),
            ([-3.0, -2.0, -1.0], np.nan, "never"),
            ([0.2, np.nan, 5.0], np.nan, "engine_error"),
            ([1.2, np.nan, 5.0], 10 / 1.2, "reached"),
        ],
    )
    def test_it_is_interpolated_where_the_curve_first_passes(
        self, curve: list[float], boost: float, status: str
    ) -> None:
        found = crossing(np.array([10.0, 20.0, 30.0]), np.array(curve), 1.0)
        assert found.status == status
        assert found.boost == pytest.approx(boost, nan_ok=True)

    def test_its_interval_is_over_questions_and_open_where_some_resamples_never_pass(self) -> None:
        plan = plan_of()
        gain = dict(zip(QUESTIONS["question_id"], [0.0, 0.2, 1.0, 4.0], strict=True))
        readouts = read(
            plan, lambda t: is_concept(t) * (t.kind == "on_target") * t.dose * gain[t.question_id]
        )
        table = report_thresholds(self_reports(plan, readouts), 1.0, 0.95, 45)
        latent = table[~table["is_random"]].iloc[0]
        assert latent["threshold"] == pytest.approx(1 / 1.3)
        assert latent["low"] < latent["threshold"]
        assert np.isnan(latent["high"])
        random = table[table["is_random"]]
        assert random["status"].eq("never").all()

    def test_it_stands_beside_that_of_behaviour(self) -> None:
        plan = plan_of()
        readouts = read(plan, lambda t: is_concept(t) * (t.kind == "on_target") * t.dose)
        behaviour = pd.DataFrame(
            {"latent": [0, 1], "threshold": [2.0, None], "low": [1.5, None], "high": [3.0, None]}
        ).assign(status=["converged", "out_of_bounds"])
        table = report_thresholds(self_reports(plan, readouts), 1.0, 0.95, 45, behaviour)
        table = table[~table["is_random"]].set_index("latent")
        assert table.loc[0, "ratio"] == pytest.approx(0.5)
        assert table["behaviour_status"].head(3).tolist() == [
            "converged",
            "out_of_bounds",
            "not_searched",
        ]
        assert table["ratio"].isna().tolist() == [False, *[True] * 9]


def test_every_measure_has_a_row_for_each_dose() -> None:
    plan = plan_of()
    readouts = read(plan, lambda _: 0.0)
    reports = self_reports(plan, readouts)
    found = report_thresholds(reports, 1.0, 0.95, 45)
    table = summarise(reports, choices(plan, readouts), found, 0.95)
    assert set(table["measure"]) == set(MEASURES)
    assert set(table["dose"]) == {"all", *SETTINGS.doses}
    none = summarise(reports, choices(plan, readouts).iloc[:0], found, 0.95)
    assert none.loc[none["measure"].eq("choice_excess"), "status"].eq("no_labels").all()

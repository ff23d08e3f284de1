"""Branching, simulated: prefixes are cut where texts restart, and share what they restart by."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from esr.analysis.branching import (
    STEERED,
    BranchSpec,
    branch_finding,
    draw_branches,
    draw_whole,
    in_turn,
    shares,
)
from esr.analysis.claims import Region
from esr.analysis.specs import ArmSpec, StudySpec
from helpers.checkout import REPO

SOURCE = StudySpec(200, 5, 38, arms={STEERED: ArmSpec(multi=0.1)}, rho=0.05)
FALL = Region(-np.inf, 0.0)


def test_texts_are_those_of_all_latents_in_turn() -> None:
    latents = np.array([0, 0, 0, 2, 2, 5])
    assert in_turn(latents, 4).tolist() == [0, 1, 3, 5]
    assert in_turn(latents, 100).tolist() == [0, 1, 2, 3, 4, 5]


def test_prefixes_restart_at_the_rate_of_their_condition() -> None:
    rates = {STEERED: 0.3, "ablated": 0.15}
    drawn = draw_branches(SOURCE, BranchSpec(1000, 200, 0.2), rates, 1)
    found = [values.mean() for values in drawn.values]
    assert found == pytest.approx([30, 15], abs=4)
    assert {len(values) for values in drawn.values} == {len(drawn.factors[0][0])}


def test_continuations_of_a_prefix_are_correlated_as_they_should_be() -> None:
    """Expected: the variance of prefixes' rates over that of a trial."""
    drawn = draw_branches(SOURCE, BranchSpec(1000, 400, 0.2), {STEERED: 0.3}, 2)
    rates = drawn.values[0].reshape(-1, 400).mean(axis=1) / 100
    assert rates.var() / (rates.mean() * (1 - rates.mean())) == pytest.approx(0.2, abs=0.05)


def test_the_same_prefixes_restart_more_in_every_condition() -> None:
    rates = {STEERED: 0.3, "ablated": 0.15}
    drawn = draw_branches(SOURCE, BranchSpec(1000, 400, 0.3), rates, 3)
    first, second = (values.reshape(-1, 400).mean(axis=1) for values in drawn.values)
    assert stats.spearmanr(first, second).statistic > 0.9


def test_a_condition_without_effect_shows_a_fall_no_more_often_than_its_level() -> None:
    branch, rates = BranchSpec(60, 6, 0.3), {STEERED: 0.2, "again": 0.2}
    share, _ = shares(lambda seed: draw_branches(SOURCE, branch, rates, seed), FALL, 200, False)
    assert stats.binom.sf(share * 2 - 1, 200, 0.025) > 0.01, f"{share} % at a level of 2.5 %"


def test_branching_sees_what_whole_responses_of_ten_times_the_tokens_do_not() -> None:
    """At a rate at the cut of 20 %: 60 prefixes x 8 x 64 tokens against 1,000 x 512."""
    arms = {STEERED: ArmSpec(multi=0.1), "ablated": ArmSpec(multi=0.075)}
    rates = {STEERED: 0.2, "ablated": 0.15}
    branch = BranchSpec(60, 8, 0.2)
    few, _ = shares(lambda seed: draw_branches(SOURCE, branch, rates, seed), FALL, 40, False)
    many, _ = shares(lambda seed: draw_whole(SOURCE, arms, seed), FALL, 40, False)
    assert 60 * 8 * 64 * 10 < 1000 * 512
    assert few >= many - 10


def test_a_finding_is_the_relative_change_of_the_conditions() -> None:
    drawn = draw_branches(SOURCE, BranchSpec(80, 20, 0.1), {STEERED: 0.4, "ablated": 0.1}, 4)
    found = branch_finding(drawn, relative=True)
    first, second = (values.mean() for values in drawn.values)
    assert found.value == pytest.approx(100 * (second / first - 1))
    assert found.low < -75 < found.high


def test_the_benchmark_has_no_more_false_falls_than_its_level() -> None:
    table = pd.read_csv(REPO / "benchmarks/branching.csv")
    assert set(table["design"]) == {"whole", "branching"}
    events = (table["error"]).round()  # of 100 studies each
    chance = stats.binom.sf(events - 1, 100, 0.05)
    assert (chance > 0.05 / len(table)).all(), table[chance <= 0.05 / len(table)].to_string()

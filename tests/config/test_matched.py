"""Arms that are matched to `steered` by impact: other directions, and nothing else."""

from typing import Any

import pytest

from esr.config import matched_arms
from helpers.studies import load_study

OWN: dict[str, Any] = {"over": "latents", "directions": "random-few", "trials": 4}


def matched(name: str = "organism", **arms: Any) -> list[str]:
    return matched_arms(load_study({"arms": arms}, name=name).arms)


def test_the_shipped_studies_match_random_and_contrastive_directions() -> None:
    assert matched() == ["steered-random-impact"]
    assert matched("arxiv") == ["contrastive-vectors", "steered-random-impact"]
    assert matched("paper") == []


def test_an_arm_of_the_same_search_is_matched_and_one_at_the_latents_boosts_is_not() -> None:
    found = matched(again=OWN, norm={"replay": "steered", "directions": "random"})
    assert found == ["steered-random-impact", "again"]


@pytest.mark.parametrize(
    "change", [{"target": 30}, {"window": {"stop": 5}}, {"layers": [1]}, {"boost": {"count": 3}}]
)
def test_a_second_difference_from_steered_is_no_match(change: dict[str, Any]) -> None:
    assert "other" not in matched(other=OWN | change)


def test_nothing_is_matched_to_a_steered_arm_for_another_target() -> None:
    assert matched(steered={"target": 30}) == []

"""Waves of arms, and which of a wave share an allocation of a cluster."""

from itertools import chain
from typing import Any

import pytest

from esr.planning.waves import groups, wave, wave_after_judging
from helpers.studies import load_study

MODEL = "llama-3.3-70b"
CUT = {"continue": {"arm": "steered", "cuts": [200]}}


def paper(**changes: Any) -> Any:
    return load_study(changes, name="paper")


def test_an_arm_comes_after_those_whose_responses_its_plan_depends_on() -> None:
    config = paper(
        arms={
            "continued": CUT | {"boost": "none"},
            "repeated": {"replay": "continued"},
            "to-mean": {"replay": "steered", "ablate": [1], "ablate_to": "mean"},
        }
    )
    found = {arm: wave(config, arm) for arm in config.arms}
    assert found["answers"] == found["discovery"] == 0
    # Latents are relevant to prompts by the answers; detectors are found on `discovery`.
    assert found["steered"] == found["boost-sweep"] == found["ablate-otd"] == 1
    # A replay has the plan of its origin, and does not wait for its responses.
    assert found["unsteered"] == found["meta-stay-on-topic"] == found["to-mean"] == 1
    # Random sets are matched on steered text.
    assert found["ablate-random-0"] == 2
    # One job judges all arms that need no judgments, the random sets among them.
    assert found["continued"] == found["repeated"] == 3


def test_judged_alone_texts_are_continued_before_other_arms_are_judged() -> None:
    one_by_one = {"judges": {"qwen3-32b": {"together": False}}}
    config = paper(arms={"continued": CUT}, judging=one_by_one)
    assert wave(config, "continued") == 2


def test_what_reads_judgments_comes_after_all_arms_that_one_job_judges() -> None:
    assert wave_after_judging(paper(), "steered") == 3
    one_by_one = {"judges": {"qwen3-32b": {"together": False}}}
    assert wave_after_judging(paper(judging=one_by_one), "steered") == 2


def test_the_sae_is_fitted_on_answers_before_anything_is_steered() -> None:
    config = paper(latents={"relevance": {"criterion": "zero"}})
    assert config.fit_arm == "answers"
    assert wave(config, "steered") == 1


def test_a_group_holds_arms_of_one_wave_and_one_setup_of_the_engine() -> None:
    config = load_study(name="arxiv")
    for model in config.models:
        found = groups(config, model, 4)
        for group in found:
            assert 1 <= len(group) <= 4
            setups = {
                (wave(config, arm), config.directions_of(arm), config.layers_of(arm))
                for arm in group
            }
            assert len(setups) == 1
        assert sorted(chain(*found)) == sorted(config.arms_of(model))


def test_groups_are_few_and_of_nearly_the_same_size() -> None:
    config = paper()
    assert [len(group) for group in groups(config, MODEL, 4)] == [2, 3, 4, 4, 3]
    assert [len(group) for group in groups(config, MODEL, 100)] == [2, 11, 3]


@pytest.mark.parametrize(
    ("changes", "together"),
    [
        ({}, 1),
        ({"engine": {"linger": 0}}, 4),
        (
            {
                "engine": {"shards": 2},
                "arms": {"answers": {"shards": 2}, "discovery": {"shards": 2}},
            },
            4,
        ),
    ],
    ids=["switched off", "an engine that ends with its job", "shards, which run at the same time"],
)
def test_some_arms_share_no_allocation(changes: dict[str, Any], together: int) -> None:
    config = load_study(changes, name="paper")
    assert groups(config, MODEL, together) == []

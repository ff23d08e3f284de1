"""Which threshold searches share an allocation, and one start of the judge."""

from typing import Any

import pytest

from esr.planning.searches import finds_judge, requested_hours, search_group, search_groups
from helpers.studies import load_study

BASE = "llama-3.1-8b"
MIXTURES = [f"{BASE}+sc{share}" for share in range(10, 100, 10)]


def paper(**changes: Any) -> Any:
    return load_study(changes, name="paper")


@pytest.mark.parametrize("name", ["paper", "arxiv"])
def test_searches_of_the_models_fine_tuned_from_one_base_share_a_judge(name: str) -> None:
    config = load_study(name=name)
    expected = {f"searched_{BASE}_{n}": MIXTURES[3 * n : 3 * n + 3] for n in range(3)}
    assert search_groups(config, 16) == expected
    assert search_group(config, MIXTURES[4], 16) == (f"searched_{BASE}_1", 3)
    starting = [model for model in config.models if not finds_judge(config, model, 16)]
    assert starting == [*config.base_models, MIXTURES[0], MIXTURES[3], MIXTURES[6]]


def test_an_allocation_requests_no_more_hours_than_the_largest_model() -> None:
    config = paper()
    largest = config.job_size("llama-3.3-70b").thresholds
    assert requested_hours(config, 16, 1) == 3 * 8 <= largest
    assert requested_hours(config, 16, 2) == 3 * 8  # a retry continues from its journal
    assert requested_hours(config, 1, 1) == 0


def test_bases_have_allocations_of_their_own() -> None:
    config = paper(finetune={"models": [BASE, "gemma-2-2b"], "shares": [10, 20, 30, 40]})
    assert [len(models) for models in search_groups(config, 2).values()] == [2, 2, 2, 2]
    assert {name.rsplit("_", 1)[0] for name in search_groups(config, 2)} == {
        f"searched_{BASE}",
        "searched_gemma-2-2b",
    }
    single = paper(finetune={"shares": [10]})
    assert search_groups(single, 16) == {}


API = {"primary": "claude-haiku-4.5", "judges": {"claude-haiku-4.5": {"optional": False}}}
SHARED = {"qwen3-32b": {"gpus_in_search": "shared", "memory_fraction": 0.6}}


@pytest.mark.parametrize(
    ("changes", "together"),
    [
        ({}, 1),
        ({"engine": {"linger": 0}}, 16),
        ({"judging": API}, 16),
        (
            {"judging": {"judges": SHARED}, "engine": {"vllm": {"memory_fraction": 0.3}}},
            16,
        ),
        ({"engine": {"device": "cpu"}}, 16),
    ],
    ids=["off", "a judge that ends", "a judge behind an API", "on the engine's GPUs", "no GPU"],
)
def test_some_searches_share_no_allocation(changes: dict[str, Any], together: int) -> None:
    config = paper(**changes)
    assert search_groups(config, together) == {}
    assert not any(finds_judge(config, model, together) for model in config.models)

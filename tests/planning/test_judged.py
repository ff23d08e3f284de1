"""Which jobs of a judge share an allocation, and one start of the judge."""

from typing import Any

import pytest

from esr.planning.judged import judging_group, judging_starts, rating_group, sharing
from helpers.studies import load_study

JUDGE, BASE = "qwen3-32b", "llama-3.1-8b"
MIXTURES = [f"{BASE}+sc{share}" for share in range(10, 100, 10)]


def paper(**changes: Any) -> Any:
    return load_study(changes, name="paper")


def test_jobs_of_the_models_fine_tuned_from_one_base_share_a_judge() -> None:
    config = paper()
    assert sharing(config, JUDGE, f"{BASE}+sc50", 0) == MIXTURES
    groups = {judging_group(config, JUDGE, model, 0, 4) for model in MIXTURES}
    assert groups == {(f"judged_{JUDGE}_{BASE}_0", 9)}


def test_other_models_are_judged_when_they_are_done() -> None:
    config = paper()
    for model in config.base_models:
        assert sharing(config, JUDGE, model, 0) == [model]
        assert judging_group(config, JUDGE, model, 0, 4) is None


def test_bases_and_rounds_have_allocations_of_their_own() -> None:
    continued = {"continue": {"arm": "steered", "cuts": [200]}}
    arms = ["steered", "unsteered", "continued"]
    config = paper(
        arms={"continued": continued},
        finetune={"models": [BASE, "gemma-2-2b"], "shares": [10, 20], "arms": arms},
    )
    names = {
        judging_group(config, JUDGE, model, number, 4)
        for model in config.finetuned
        for number in config.judging_rounds(model)
    }
    expected = {(f"judged_{JUDGE}_{base}_{n}", 2) for base in (BASE, "gemma-2-2b") for n in (0, 1)}
    assert names == expected
    # Two rounds of five models, and these four.
    assert judging_starts(config, JUDGE, 4) == 2 * 5 + 4


@pytest.mark.parametrize(
    ("changes", "together"),
    [({}, 1), ({"engine": {"linger": 0}}, 4), ({"finetune": {"shares": [10]}}, 4)],
    ids=["switched off", "a judge that ends with its job", "a single mixture"],
)
def test_some_jobs_share_no_allocation(changes: dict[str, Any], together: int) -> None:
    config = paper(**changes)
    tuned = list(config.finetuned)
    assert {judging_group(config, JUDGE, model, 0, together) for model in tuned} == {None}
    assert judging_starts(config, JUDGE, together) == len(config.models)


@pytest.mark.parametrize(("name", "starts"), [("paper", 6), ("arxiv", 11)])
def test_nine_mixtures_of_the_large_studies_start_their_judge_once(name: str, starts: int) -> None:
    config = load_study(name=name)
    assert judging_starts(config, JUDGE, 1) == starts + 8
    assert judging_starts(config, JUDGE, 4) == starts


RATINGS = ("rate_concreteness", "write_examples")
API = {"judges": {"claude-haiku-4.5": {"optional": False}}}
"""A judge behind an API that the study needs."""


def rated(config: Any, together: int = 16) -> list[tuple[str, int] | None]:
    return [rating_group(config, rule, together) for rule in RATINGS]


@pytest.mark.parametrize("name", ["paper", "arxiv"])
def test_labels_are_rated_and_examples_written_with_one_start(name: str) -> None:
    assert rated(load_study(name=name)) == [(f"rated_{JUDGE}", 6)] * 2  # five models, examples


@pytest.mark.parametrize(
    "changes",
    [
        {"finetune": {"models": []}},
        {"finetune": {"data": {"writer": "blind"}}},
        {"finetune": {"data": {"writer": "claude-haiku-4.5"}}, "judging": API},
        {"latents": {"concreteness": {"rater": "blind"}}},
    ],
    ids=["no examples", "another writer", "a writer behind an API", "another rater"],
)
def test_examples_are_written_elsewhere_where_another_judge_is_needed(
    changes: dict[str, Any],
) -> None:
    config = paper(**changes)
    assert rated(config) == [(f"rated_{config.latents.concreteness.rater}", 5), None]


def test_a_writer_that_is_no_language_model_leaves_the_examples_to_the_judge() -> None:
    changes = {"finetune": {"data": {"writer": "corpus"}}}
    assert rated(paper(**changes)) == [(f"rated_{JUDGE}", 6)] * 2


@pytest.mark.parametrize(
    ("changes", "together"),
    [
        ({}, 1),
        ({"engine": {"linger": 0}}, 16),
        ({"latents": {"concreteness": {"rater": "claude-haiku-4.5"}}, "judging": API}, 16),
    ],
    ids=["switched off", "a judge that ends with its job", "a rater behind an API"],
)
def test_some_ratings_share_no_allocation(changes: dict[str, Any], together: int) -> None:
    assert rated(paper(**changes), together) == [None, None]

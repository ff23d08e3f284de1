"""Which jobs share an allocation of a cluster, and one engine in it."""

from typing import Any

import pytest

from esr.config import Config
from esr.planning.allocations import Job, allocations, group_names, requested_hours
from esr.planning.waves import wave
from helpers.studies import load_study

MODEL = "llama-3.3-70b"
ANSWERS = {"over": "prompts", "boost": "none", "trials": 1}
READERS = {"find_detectors", "match_controls", "measure_relevance"}


def paper(**changes: Any) -> Config:
    return load_study(changes, name="paper")


def beside(config: Config, job: Job, model: str = MODEL) -> list[str]:
    """Arms that a job shares an allocation with; none if it has one of its own."""
    groups = [jobs for jobs in allocations(config, model, 4) if job in jobs]
    assert len(groups) <= 1
    return [str(one.arm) for jobs in groups for one in jobs if one.rule == "generate_responses"]


def test_what_reads_responses_shares_the_allocation_of_their_arm() -> None:
    config = paper()
    assert beside(config, Job("measure_relevance")) == ["answers", "discovery"]
    assert beside(config, Job("find_detectors")) == ["answers", "discovery"]
    assert "steered" in beside(config, Job("match_controls"))
    shared = [job.rule for jobs in allocations(config, MODEL, 4) for job in jobs]
    assert set(shared) == {"generate_responses", *READERS}
    # All arms are judged by one job, after which no arm is generated.
    assert Job("read_episodes") not in group_names(config, 4)


def test_a_group_reads_for_later_waves_alone() -> None:
    config = load_study(name="arxiv")
    needed = {
        "measure_relevance": [arm for arm in config.arms if config.arms[arm].over == "latents"],
        "find_detectors": [arm for arm in config.arms if config.arms[arm].ablate == "detectors"],
        "match_controls": [arm for arm in config.arms if config.arms[arm].ablate == "random-0"],
    }
    for rule, arms in needed.items():
        here = {wave(config, arm) for arm in beside(config, Job(rule))}
        assert arms
        assert len(here) == 1
        assert max(here) < min(wave(config, arm) for arm in arms)


def test_relevance_to_prompts_of_an_arms_own_is_read_beside_their_answers() -> None:
    own = {"prompts": "resources/prompts/paper_finetune.csv"}
    arms = {"own-answers": ANSWERS | own, "own": {"over": "latents", "trials": 1} | own}
    sharded = {"answers": {"shards": 2}, "discovery": {"shards": 2}, "own-answers": {"shards": 1}}
    config = load_study({"arms": arms}, {"arms": sharded}, name="paper")
    assert beside(config, Job("measure_relevance", "own")) == ["own-answers"]
    # Arms of several shards share no allocation, nor does what reads them.
    assert beside(config, Job("measure_relevance")) == []
    assert beside(config, Job("find_detectors")) == []


def test_prompts_are_read_beside_the_answers_that_the_sae_is_fitted_on() -> None:
    config = paper(latents={"relevance": {"criterion": "zero"}})
    assert beside(config, Job("measure_relevance")) == ["answers", "discovery"]


def test_episodes_are_read_beside_arms_that_continue_judged_texts() -> None:
    arms = {"continued": {"continue": {"arm": "steered", "cuts": [200]}}}
    config = paper(arms=arms)
    assert beside(config, Job("read_episodes")) == ["continued"]
    # A batch of an API may take a day, for which the arms would wait.
    asked = paper(
        arms=arms,
        episodes={"boundaries": "claude-sonnet-4.5"},
        judging={"judges": {"claude-sonnet-4.5": {"optional": False}}},
    )
    assert beside(asked, Job("read_episodes")) == []
    # Random sets of latents are of the same wave here, and wait for no judgment.
    one_by_one = paper(judging={"judges": {"qwen3-32b": {"together": False}}})
    assert wave(one_by_one, "ablate-random-0") == 2
    assert beside(one_by_one, Job("read_episodes")) == []


def test_means_are_read_where_the_engine_reads() -> None:
    arms = {"to-mean": {"replay": "steered", "ablate": [1], "ablate_to": "mean"}}
    assert beside(paper(arms=arms), Job("measure_means")) == ["answers", "discovery"]
    elsewhere = {MODEL: {"ablate_layer": 49}}
    assert beside(paper(arms=arms, models=elsewhere), Job("measure_means")) == []


def test_readouts_of_an_arm_have_its_engine_whatever_that_has_loaded() -> None:
    arms = {"along": {"over": "latents", "trials": 1, "directions": "random"}}
    tokens = {"tokens": {"affirmed": ["Yes"]}}
    config = paper(
        directions={"random": {"kind": "random"}},
        arms=arms | {"discovery": {"shards": 2}},
        readouts={"along": tokens, "discovery": tokens},
    )
    assert beside(config, Job("read_tokens", "along")) == ["along"]
    assert beside(config, Job("read_tokens", "discovery")) == []


def test_the_hours_of_all_jobs_of_an_allocation_are_requested() -> None:
    config = paper()
    # 2 hours for an arm, 4 for a job that reads: answers and discovery, and what reads them.
    assert requested_hours(config, MODEL, 2, 1) == 2 * 2 + 2 * 4
    assert requested_hours(config, MODEL, 2, 2) == 2 * 2 + 2 * 8  # a retry reads for longer
    # All arms that steer, the sets matched on their text, and an hour for the plans of these.
    assert requested_hours(config, MODEL, 16, 1) == 14 * 2 + 4 + 1
    assert requested_hours(config, MODEL, 1, 1) == 0


def generated_with_controls(config: Config, together: int = 16) -> list[str]:
    """Arms generated in the allocation that matches random sets, those that it plans last."""
    jobs = next(
        jobs for jobs in allocations(config, MODEL, together) if Job("match_controls") in jobs
    )
    arms = [str(job.arm) for job in jobs if job.rule == "generate_responses"]
    planned = [str(job.arm) for job in jobs if job.rule == "plan_arm"]
    assert planned == arms[len(arms) - len(planned) :]
    return planned


RANDOM = ["ablate-random-0", "ablate-random-1", "ablate-random-2"]


def test_random_sets_are_ablated_where_they_are_matched() -> None:
    assert generated_with_controls(paper()) == RANDOM
    for together, places in ((14, RANDOM), (13, []), (8, RANDOM), (4, [])):
        assert generated_with_controls(paper(), together) == places
        found = [job for jobs in allocations(paper(), MODEL, together) for job in jobs]
        assert len(found) == len(set(found))
        assert {Job("generate_responses", arm) for arm in paper().arms_of(MODEL)} <= set(found)


def test_arms_that_wait_for_more_than_their_random_set_have_another_allocation() -> None:
    random = {"ablate": "random-0", "boost": "none"}
    arms = {
        # The plan of what they replay, outside the allocation, reads texts that it generates.
        "continued": {"continue": {"arm": "steered", "cuts": [200]}},
        "continued-random": {"replay": "continued", **random},
        # The plan of a replay of a random set reads another plan of this wave.
        "again": {"replay": "ablate-random-0", **random},
        # Another engine.
        "along": {"over": "latents", "trials": 1, "directions": "random", "ablate": "random-0"},
    }
    config = paper(arms=arms, directions={"random": {"kind": "random"}})
    assert generated_with_controls(config, 100) == []
    assert generated_with_controls(paper(arms={"again": arms["again"]}), 100) == []


def test_readouts_of_random_sets_are_read_where_these_are_ablated() -> None:
    tokens = {"tokens": {"affirmed": ["Yes"]}}
    config = paper(readouts={"ablate-random-1": tokens})
    assert generated_with_controls(config) == RANDOM
    jobs = next(x for x in allocations(config, MODEL, 16) if Job("match_controls") in x)
    assert jobs[-1] == Job("read_tokens", "ablate-random-1")


@pytest.mark.parametrize("changes", [{"engine": {"linger": 0}}, {}], ids=["no engine stays", "off"])
def test_without_groups_every_job_has_an_allocation(changes: dict[str, Any]) -> None:
    config = paper(**changes)
    assert group_names(config, 4 if changes else 1) == {}


def test_models_have_groups_of_their_own() -> None:
    names = group_names(paper(), 4)
    assert names[MODEL, Job("generate_responses", "steered")] == f"arms_{MODEL}_1"
    tuned = "llama-3.1-8b+sc10"
    assert names[tuned, Job("generate_responses", "steered")] == f"arms_{tuned}_0"
    assert {name.rsplit("_", 1)[0] for name in names.values()} == {
        f"arms_{model}" for model, _ in names
    }
    # Fine-tuned models have the latents and detectors of their base.
    assert {job.rule for model, job in names if model == tuned} == {"generate_responses"}


def test_an_organism_on_the_cpu_loads_in_less_time_than_an_allocation_takes() -> None:
    assert group_names(load_study(), 4) == {}

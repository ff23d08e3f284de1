"""Jobs that share an allocation of a cluster, and an engine: arms, and jobs that read text.

Arms of a wave form groups (`esr.planning.waves`). A job that reads text with the engine of such a
group joins it: that of the arm whose responses it reads. All that needs its table is planned in a
later wave, so that no job of the group depends on another one through jobs outside the group. Arms
that ablate random sets, and wait for nothing else, join the group that matches these sets, and so
do the jobs that plan them.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from esr.config import Config
from esr.config.placement import JobSizeConfig
from esr.planning.waves import groups, waits_for_controls_alone, wave, wave_after_judging

PLANNING = 1
"""Hours that a job requests that plans an arm: `runtime` of the profile's `default-resources`."""


class Job(NamedTuple):
    """A job of a model that runs an engine, or plans an arm for one that does.

    Attributes:
        rule: Its rule. Rules that inherit from another one have the name of that one.
        arm: Arm of its wildcards; None if it has none.
    """

    rule: str
    arm: str | None = None


def allocations(config: Config, model: str, together: int) -> list[list[Job]]:
    """Jobs of a model that share an allocation: up to `together` arms, then those that read.

    Arms that follow on what they read, and their plans, are the last. Jobs that share none are left
    out.
    """
    arms = groups(config, model, together)
    place = {arm: number for number, group in enumerate(arms) for arm in group}
    found = [[Job("generate_responses", arm) for arm in group] for group in arms]
    for job, hosts in _readers(config, model):
        number = next((place[arm] for arm in hosts if arm in place), None)
        if number is not None:
            found[number].append(job)
    return _with_random_sets(config, found, together)


def group_names(config: Config, together: int) -> dict[tuple[str, Job], str]:
    """Name of the group of a model's job; jobs that share no allocation are in no group."""
    return {
        (model, job): f"arms_{model}_{number}"
        for model in config.models
        for number, jobs in enumerate(allocations(config, model, together))
        for job in jobs
    }


def requested_hours(config: Config, model: str, together: int, attempt: int) -> float:
    """Hours that the longest allocation of several jobs of a model requests; 0 without any.

    Jobs with an engine run in turn; all plans at once.
    """
    size = config.job_size(model)
    if size is None:
        return 0

    found = [[job.rule for job in jobs] for jobs in allocations(config, model, together)]
    return max((_hours(size, rules, attempt) for rules in found), default=0)


def _hours(size: JobSizeConfig, rules: Sequence[str], attempt: int) -> float:
    engines = (size.hours(rule, attempt) for rule in rules if rule != "plan_arm")
    return sum(engines) + (PLANNING if "plan_arm" in rules else 0)


def _with_random_sets(config: Config, found: list[list[Job]], together: int) -> list[list[Job]]:
    """Allocations, where arms that ablate random sets join the one that matches these sets."""
    host = next((jobs for jobs in found if Job("match_controls") in jobs), None)
    alone = []
    for jobs in found:
        arms = _generated(jobs)
        if (
            host is not None
            and all(waits_for_controls_alone(config, arm) for arm in arms)
            and all(_is_plain(config, arm) for arm in arms)
            and len(_generated(host)) + len(arms) <= together
        ):
            host += [Job("plan_arm", arm) for arm in arms] + jobs
        else:
            alone.append(jobs)
    return alone


def _generated(jobs: list[Job]) -> list[str]:
    """Arms that an allocation generates."""
    return [job.arm for job in jobs if job.rule == "generate_responses" and job.arm is not None]


def _readers(config: Config, model: str) -> Iterator[tuple[Job, list[str]]]:
    """Jobs of a model that read text, each with the arms whose engine can serve it, best first."""
    if model in config.engine_models:
        for job, hosts in _plain_readers(config, model):
            yield job, [arm for arm in hosts if arm in config.arms and _is_plain(config, arm)]
    for arm in config.readouts:
        if arm in config.arms_of(model):
            yield Job("read_tokens", arm), [arm]


def _is_plain(config: Config, arm: str) -> bool:
    """Whether the engine of an arm has no set of directions, and no further layers."""
    return config.directions_of(arm) is None and not config.layers_of(arm)


def _plain_readers(config: Config, model: str) -> Iterator[tuple[Job, list[str]]]:
    """Jobs that encode responses; the engine needs no set of directions for that."""
    fit = [] if config.fit_arm is None else [config.fit_arm]
    relevance, arms = config.latents.relevance, config.arms_of(model)
    for held_out in (None, *(arm for arm in config.held_out if arm in arms)):
        answers = relevance.answers if held_out is None else config.answers_to(held_out)
        # By criterion `zero` prompts are read. The arms beside `fit` do not depend on that either.
        hosts = fit if relevance.criterion == "zero" or answers is None else [answers]
        yield Job("measure_relevance", held_out), hosts
    yield Job("find_detectors"), [config.detectors.arm]
    # Detectors are searched on unsteered answers, which are of an earlier wave.
    yield Job("match_controls"), ["steered"]
    settings = config.models[model]
    ablated_at = settings.steer_layer if settings.ablate_layer is None else settings.ablate_layer
    if any(config.arms[arm].ablate_to == "mean" for arm in arms):
        # The engine of an arm reads at `read_layer` alone.
        yield Job("measure_means"), fit if ablated_at == settings.read_layer else []
    if config.generates(model, config.episodes.arm):
        yield Job("read_episodes"), _beside_episodes(config, model)


def _beside_episodes(config: Config, model: str) -> list[str]:
    """Arms that wait for judgments as episodes do: those that continue judged texts.

    None where a judge behind an API locates the episodes: its batch may take a day.
    """
    boundaries = config.episodes.boundaries
    if boundaries != "detector" and boundaries not in config.judging.local:
        return []
    number = wave_after_judging(config, config.episodes.arm)
    rounds = config.judged_after(config.episodes.arm)
    later = (arm for arm in config.arms_of(model) if config.judged_after(arm) > rounds)
    return [arm for arm in later if wave(config, arm) == number]

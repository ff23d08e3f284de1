"""Arms that one allocation of a cluster generates, one after the other, with one engine.

Snakemake submits a group of jobs as one job of the cluster. The group starts when all files exist
that its jobs read from outside. So no job of a group may depend on another one of it through jobs
outside the group. Jobs of one wave never do.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from esr.config import Config, ContinueConfig

GROUP = "arms"
"""Name of these groups in Snakemake's `group-components`."""


def wave(config: Config, arm: str) -> int:
    """Number of arms, one after the other, that have to be generated before an arm is planned."""
    return _wave(config, arm, ())


def wave_after_judging(config: Config, arm: str) -> int:
    """The wave of arms that are planned by the judgments of an arm's responses."""
    return max(1 + wave(config, name) for name in _judged_with(config, arm))


def waits_for_controls_alone(config: Config, arm: str) -> bool:
    """Whether an arm is planned once random sets are matched on steered text, with no other wait.

    All that its plan reads beside the sets is then there before `steered` is generated.
    """
    steered = wave(config, "steered") if "steered" in config.arms else 0
    needed = (name for name in _needed_beside_controls(config, arm) if name in config.arms)
    return _has_controls(config, arm) and all(wave(config, name) < steered for name in needed)


def groups(config: Config, model: str, together: int) -> list[list[str]]:
    """Arms of a model that share an allocation of the cluster: up to `together` in a group.

    Those of a group are of one wave, and need an engine with the same directions and layers. There
    are as few groups as possible, and their sizes differ by one arm at most. There are none where
    an engine ends with its job. An arm of several shards is in none, since they run in parallel.
    """
    if together < 2 or config.linger(on_cpu=config.on_cpu(model)) <= 0:
        return []
    same: dict[tuple[Any, ...], list[str]] = {}
    for arm in config.generated(model):
        if config.shards(arm) == 1:
            setup = config.directions_of(arm), config.layers_of(arm)
            same.setdefault((wave(config, arm), *setup), []).append(arm)
    return [group for arms in same.values() for group in divide(arms, together)]


def divide(arms: list[str], largest: int) -> list[list[str]]:
    """As few parts as possible of up to `largest` arms, of nearly equal lengths, in order."""
    number = -(-len(arms) // largest)
    bounds = [i * len(arms) // number for i in range(number + 1)]
    return [arms[start:stop] for start, stop in pairwise(bounds)]


def _wave(config: Config, arm: str, above: tuple[str, ...]) -> int:
    """The wave of an arm. A cycle of arms, which no study can run, ends at its first arm."""
    seen = (*above, arm)
    needed = {name for name in _needed(config, arm) if name in config.arms and name not in seen}
    return max((1 + _wave(config, name, seen) for name in needed), default=0)


def _needed(config: Config, arm: str) -> Iterator[str]:
    """Arms whose responses the plan of an arm depends on (`rules/arms.smk`)."""
    yield from _needed_beside_controls(config, arm)
    if _has_controls(config, arm):
        yield "steered"  # random sets are matched to detectors on its text


def _has_controls(config: Config, arm: str) -> bool:
    """Whether an arm ablates a random set."""
    ablated = config.arms[arm].ablate
    return isinstance(ablated, str) and ablated != "detectors"


def _needed_beside_controls(config: Config, arm: str) -> Iterator[str]:
    """The same without the arm that random sets are matched on."""
    found = config.arms[arm]
    if found.continued is not None:
        yield from _texts(config, found.continued)
    if found.source is not None:
        yield from _needed(config, found.source)
    elif found.over == "latents":
        # Latents are chosen by relevance; their search waits for the fit of the SAE.
        yield from _named(config.fit_arm)
        if config.latents.relevance.criterion == "top_n":
            yield config.latents.relevance.answers
            yield from _named(config.answers_to(arm) if arm in config.held_out else None)
    if isinstance(found.ablate, str):
        yield from _named(config.detectors.arm)
    if found.ablate_to == "mean":
        yield from _named(config.fit_arm)


def _texts(config: Config, continued: ContinueConfig) -> Iterator[str]:
    """Arms whose responses are needed before prefixes can be cut from texts."""
    if continued.where == "on_topic":
        yield continued.arm
    else:
        yield from _judged_with(config, continued.arm)


def _judged_with(config: Config, judged: str) -> Iterator[str]:
    """Arms whose responses are needed before an arm is judged: it, and those of the same job."""
    yield judged
    judge = config.judging.local.get(config.judging.primary)
    if judge is not None and judge.together:
        number = config.judged_after(judged)
        yield from (arm for arm in config.arms if config.judged_after(arm) == number)


def _named(arm: str | None) -> Iterator[str]:
    if arm is not None:
        yield arm

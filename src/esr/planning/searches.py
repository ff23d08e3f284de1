"""Threshold searches that one allocation of a cluster runs, one after the other, with one judge.

Those are the searches of models that were fine-tuned from one base. Each starts the engine of its
own model; the judge, on GPUs of its own beside the engine, is there from the first search on.
"""

from esr.config import Config
from esr.planning.waves import divide

GROUP = "searched"
"""Name of these groups begins so."""
SEARCHES = 3
"""Most searches of an allocation, which requests the hours of all."""


def search_groups(config: Config, together: int) -> dict[str, list[str]]:
    """Models whose searches of latents share an allocation, by the name of their group.

    There are none where the judge ends with its job, or waits for the GPUs of the engine.

    Args:
        config: The study.
        together: Most arms that share an allocation by the profile; 1 = no job shares one.
    """
    stays = config.engine.name == "vllm" and config.linger(on_cpu=False) > 0
    if together < 2 or not config.search_gpus or not stays:
        return {}
    of_base: dict[str, list[str]] = {}
    for name, tuned in config.finetuned.items():
        if None in config.searches(name) and config.gpus(name):
            of_base.setdefault(tuned.base, []).append(name)
    return {
        f"{GROUP}_{base}_{number}": group
        for base, models in of_base.items()
        for number, group in enumerate(divide(models, SEARCHES))
        if len(group) > 1
    }


def search_group(config: Config, model: str, together: int) -> tuple[str, int] | None:
    """Group of a model's search of latents, and its number of searches; None if alone."""
    found = search_groups(config, together).items()
    return next(((name, len(models)) for name, models in found if model in models), None)


def finds_judge(config: Config, model: str, together: int) -> bool:
    """Whether a model's search of latents finds its judge running: the first one starts it."""
    return any(model in models[1:] for models in search_groups(config, together).values())


def requested_hours(config: Config, together: int, attempt: int) -> float:
    """Hours that the longest allocation of several searches requests; 0 without any."""
    hours = [0.0]
    for models in search_groups(config, together).values():
        sizes = [size for model in models if (size := config.job_size(model)) is not None]
        hours.append(sum(size.hours("find_thresholds", attempt) for size in sizes))
    return max(hours)

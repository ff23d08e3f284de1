"""Work of a study's engine jobs: the tokens that every rule writes, reads or trains on.

Every response is counted at its maximum length.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from esr.config import Config
from esr.handwritten import read_csv_rows
from esr.judges.costs import tokens
from esr.planning.allocations import allocations
from esr.planning.costs import judged_trials, searched_for, steerable
from esr.planning.partitions import PROFILE, arms_together

PROBED = 12 * 11 * 8
"""Answers that probes of boosts read: latents, boosts, texts (`esr.thresholds.probes`)."""
QUESTION = 120
"""Tokens of a question to a model about itself, the turns and options before it included."""
EXAMPLE_TOKENS = 300
"""Tokens of a fine-tuning example: prompt, off-topic start, correction, answer."""


class Work(NamedTuple):
    """What engine jobs of a rule do for a model.

    Attributes:
        rule: Name of the rule.
        model: Name of the model.
        jobs: Number of jobs.
        tokens: Tokens of all jobs together.
        starts: Number of jobs that start an engine; None = all.
    """

    rule: str
    model: str
    jobs: int
    tokens: float
    starts: int | None = None


def planned_work(config: Config, profile: Path = PROFILE) -> Iterator[Work]:
    """What engine jobs of every rule do, model by model, with the allocations of a profile."""
    together = arms_together(profile)
    length = config.generation.max_new_tokens
    for name in [*config.engine_models, *config.finetuned]:
        searches = len(config.searches(name))
        if searches:
            tokens = searched_for(config, name) * length
            yield Work("find_thresholds", name, searches, tokens)
        trials = {arm: arm_trials(config, arm) for arm in config.arms_of(name)}
        shards = sum(config.shards(arm) for arm in config.generated(name))
        tokens = sum(number * config.new_tokens(arm) for arm, number in trials.items())
        shared = allocations(config, name, together)
        joined = Counter(job.rule for jobs in shared for job in jobs)
        starts = len(shared) + shards - joined["generate_responses"]
        yield Work("generate_responses", name, shards, tokens, starts)
        yield from _readouts(config, name, joined["read_tokens"])
        if name in config.finetuned:
            rows = config.finetune.data.size * config.finetune.training.num_epochs
            yield Work("train_adapter", name, 1, rows * EXAMPLE_TOKENS)
            continue
        for rule, responses in _encoded(config, name, trials).items():
            held_out = [arm for arm in config.held_out if arm in trials]
            jobs = 1 + len(held_out) if rule == "measure_relevance" else 1
            yield Work(rule, name, jobs, responses * length, jobs - joined[rule])
        yield from _contrasts(config, name)
        yield from _self_reports(config, name)


def _encoded(config: Config, name: str, trials: Mapping[str, int]) -> dict[str, float]:
    """Responses that a model encodes, by rule.

    Args:
        config: Of the study.
        name: The model.
        trials: Number of trials of each of its arms.
    """
    fit = trials.get(config.fit_arm or "", 0)
    relevant = (config.latents.relevance.answers, *map(config.answers_to, config.held_out))
    episodes = config.episodes
    read = {
        "measure_relevance": sum(trials.get(arm or "", 0) for arm in relevant),
        "measure_sae_fit": min(fit, config.sae_fit.tokens / config.generation.max_new_tokens),
        "read_episodes": episodes.max_episodes + episodes.max_baseline + episodes.max_unrestarted,
    }
    # Without these arms there is no text, and no engine starts.
    if config.detectors.arm in config.arms:
        read["find_detectors"] = 2 * trials.get(config.detectors.arm, 0)
    if "steered" in config.arms:
        read["match_controls"] = trials.get("steered", 0)
    if config.models[name].threshold_prior is None:
        read["probe_boosts"] = PROBED
    if any(config.arms[arm].ablate_to == "mean" for arm in trials):
        read["measure_means"] = 2 * fit
    return read


def _contrasts(config: Config, name: str) -> Iterator[Work]:
    """Texts that a model reads for the sets of directions that are contrasts."""
    used = {config.directions_of(arm) for arm in config.arms_of(name)}
    if config.introspection is not None:
        used.add(config.introspection.directions)
    files = [
        one.pairs
        for key, one in config.directions.items()
        if key in used and one.kind == "contrast"
    ]
    texts = [
        text
        for path in files
        for row in read_csv_rows(path).rows
        for text in (row["positive"], row["negative"])
    ]
    if files:
        yield Work("read_contrasts", name, len(files), sum(map(tokens, texts)))


def _readouts(config: Config, name: str, joined: int) -> Iterator[Work]:
    """Prompts that a model reads for the readouts of its arms, each as long as a response.

    So many jobs as have `joined` an arm find its engine running.
    """
    arms = [arm for arm in config.readouts if arm in config.arms_of(name)]
    trials = sum(arm_trials(config, arm) for arm in arms)
    if arms:
        tokens = trials * config.generation.max_new_tokens
        yield Work("read_tokens", name, len(arms), tokens, len(arms) - joined)


def _self_reports(config: Config, name: str) -> Iterator[Work]:
    """Questions that a model reads about injected directions, each counted as `QUESTION` tokens."""
    settings = config.introspection
    if settings is None:
        return
    pairs = len(read_csv_rows(settings.questions).rows)
    latents = settings.latents or steerable(config, settings.directions)
    questions = 2 * pairs + settings.choices
    injected = latents * len(settings.doses) * (1 + len(settings.controls)) * questions
    plain = 2 * pairs + latents * settings.choices
    readings = len(settings.windows) * (injected + plain)
    yield Work("read_self_reports", name, 1, readings * QUESTION)


def arm_trials(config: Config, arm: str) -> int:
    """Trials of an arm for each model; a replay has those of its origin, or of its latents."""
    return 0 if config.arms[arm].responses is not None else judged_trials(config, arm)

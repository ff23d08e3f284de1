"""Estimated cost of a study's replies, before any call is sent.

Calls are counted from the configuration. Responses count at their maximum length
(`generation.max_new_tokens`), texts at four characters a token, and replies at the length that the
rubric expects. Responses that end early make the estimate too high.
"""

from collections.abc import Iterator
from math import ceil
from typing import Any, NamedTuple

import pandas as pd

from esr.agreement.arms import sampled_cells
from esr.arms.prompts import read_prompts
from esr.arms.transcripts import read_transcripts
from esr.config import ArmConfig, Config, LevelsConfig
from esr.config.directions import ContrastDirectionsConfig, RandomDirectionsConfig
from esr.directions.pairs import check_pairs
from esr.judges.costs import FREE, read_prices, tokens
from esr.judges.rubrics import Rubric, read_rubric

LABEL_TOKENS = 20
"""Tokens of a label in a list, number included."""
RATING_TOKENS = 15
"""Tokens of the rating of a label."""
PROMPT_TOKENS = 20
"""Tokens of a prompt with its subject."""
ANCHOR_TOKENS = 60
"""Tokens of an anchor."""
PART_TOKENS = 120
"""Tokens of an example's answer, or of its off-topic part."""


LIVE = ("find_thresholds", "anchors")
"""Rules whose calls are never sent in batches."""


class Planned(NamedTuple):
    """Calls of a rule to a judge, and input and output tokens per call.

    `shared` of the input tokens are the rubric's, the same in all calls. `copied` of the output
    tokens are a copy of the response.
    """

    rule: str
    judge: str
    calls: int
    read: float
    written: float
    shared: float = 0.0
    copied: float = 0.0


def steerable(config: Config, directions: str | None) -> int:
    """Latents, or directions of a set; vectors of a file count as the latents."""
    found = config.directions.get(directions or "")
    if isinstance(found, RandomDirectionsConfig) and found.latents is not None:
        return min(found.latents, config.latents.count)
    if isinstance(found, ContrastDirectionsConfig):
        return len({row["direction"] for row in check_pairs(found.pairs)})
    return config.latents.count


def searched_for(config: Config, model: str) -> int:
    """Responses that the threshold searches of a model generate and judge."""
    each = config.thresholds.steps * config.thresholds.samples_per_step
    return each * sum(steerable(config, directions) for directions in config.searches(model))


def trials_of(config: Config, arm: ArmConfig, prompts: int) -> int:
    """Trials of an arm of one model; a sweep counts all its levels.

    A continuing arm counts as if its source had as many off-topic texts as it may continue, and
    each latent its share of them.
    """
    limits = []
    while arm.replay is not None:
        limits += [arm.latents] if arm.latents else []
        arm = config.arms[arm.replay]
    if arm.continued is not None:
        source = config.arms[arm.continued.arm]
        latents = latents_of(config, source)
        texts = _of_first(trials_of(config, source, prompts), latents, arm.latents)
        texts = min(arm.continued.texts, texts)
        texts = _of_first(texts, latents_of(config, arm), min(limits, default=None))
        return texts * max(len(arm.continued.cuts), 1) * arm.continued.samples
    limits += [steerable(config, arm.directions)]
    limits += [arm.latents] if arm.latents else []
    levels = arm.boost.count if isinstance(arm.boost, LevelsConfig) else 1
    units = prompts if arm.over == "prompts" else min(limits)
    return units * (arm.trials or 0) * levels


def latents_of(config: Config, arm: ArmConfig) -> int | None:
    """Latents, or directions, that the trials of an arm have; None if they are over prompts."""
    limits = []
    while arm.source is not None:
        limits += [arm.latents] if arm.latents else []
        arm = config.arms[arm.source]
    if arm.over != "latents":
        return None
    limits += [arm.latents] if arm.latents else []
    return min([steerable(config, arm.directions), *limits])


def _of_first(trials: int, latents: int | None, limit: int | None) -> int:
    """Trials of the first `limit` latents, of trials that are those of all latents in turn."""
    if latents is None or limit is None or limit >= latents:
        return trials
    each, more = divmod(trials, latents)
    return limit * each + min(limit, more)


def planned_calls(config: Config) -> Iterator[Planned]:
    """Every rule that calls a language model, with its calls."""
    llms = config.judging.llms
    primary = config.judging.primary
    rater = config.latents.concreteness.rater
    if rater in llms:
        yield _ratings(config, rater)
    if primary in llms:
        calls = sum(searched_for(config, model) for model in config.models)
        yield judging_calls(config, "find_thresholds", primary, calls)
        yield judging_calls(config, "judge_responses", primary, _trials(config))
    sample = min(config.agreement.size, _sampled(config))
    for judge in llms:
        if judge != primary:  # the primary judge scored the sample with its arms
            yield judging_calls(config, "judge_sample", judge, sample)
    if primary in llms and config.agreement.retest:
        again = min(config.agreement.retest, sample)
        yield judging_calls(config, "retest_sample", primary, again)
    for judge in llms:
        yield _anchors(config, judge)
    yield from _examples(config)
    annotator = config.episodes.boundaries
    if annotator in llms:
        rubric = read_rubric(config.episodes.boundaries_rubric)
        calls = config.episodes.max_episodes * len(config.base_models)
        yield _calls(config, "annotate_boundaries", annotator, calls, rubric)


def judging_jobs(config: Config, judge: str) -> int:
    """Jobs in which a judge scores responses; a judge of the sample alone has one."""
    if judge != config.judging.primary:
        return 1
    local = config.judging.local.get(judge)
    together = local is not None and local.together
    jobs = config.judging_rounds if together else config.arms_of
    arms = sum(len(jobs(model)) for model in config.models)
    searches = sum(len(config.searches(model)) for model in config.models)
    examples = bool(config.finetuned)
    return searches + arms + examples + (config.agreement.retest > 0)


def _anchors(config: Config, judge: str) -> Planned:
    """Calls that grade the anchors, at both ends of every job."""
    calls = 2 * config.judging.anchors * judging_jobs(config, judge)
    rubric = read_rubric(config.judging.llms[judge].rubric)
    shown = rubric.call(prompt="", response="")
    read = tokens(shown.system + shown.user) + PROMPT_TOKENS + ANCHOR_TOKENS
    written = rubric.expected.fixed + rubric.expected.of_response * ANCHOR_TOKENS
    return Planned("anchors", judge, calls, read, written)


def _trials(config: Config) -> int:
    """Trials of all arms, over all models that run them."""
    cells = ((model, name) for model in config.models for name in config.arms_of(model))
    return sum(judged_trials(config, name) for _, name in cells)


def _sampled(config: Config) -> int:
    """Trials of the models and arms that the cross-judge sample is drawn from."""
    return sum(judged_trials(config, name) for _, name in sampled_cells(config))


def judged_trials(config: Config, name: str) -> int:
    """Trials of an arm of one model, each of which its judge is to grade."""
    origin = config.origin_of(name)
    if origin.responses is not None:
        latents = pd.Series(
            [row.fields.get("latent") for row in read_transcripts(origin.responses)]
        )
        for limit in _latent_limits(config, name):
            latents = latents[latents.isin(latents.unique()[:limit])]
        return len(latents)
    path = origin.prompts or config.prompts
    return trials_of(config, config.arms[name], len(read_prompts(path)))


def _latent_limits(config: Config, name: str) -> list[int]:
    """`latents` of the arms from the first replay of an origin to an arm that replays it last."""
    limits = []
    arm = config.arms[name]
    while arm.replay is not None:
        limits += [arm.latents] if arm.latents else []
        arm = config.arms[arm.replay]
    return limits[::-1]


def _ratings(config: Config, rater: str) -> Planned:
    concreteness = config.latents.concreteness
    labelled = sum(model.labels is not None for model in config.base_models.values())
    candidates = config.latents.count * config.latents.candidates
    calls = ceil(candidates / concreteness.batch) * labelled
    rubric = read_rubric(concreteness.rubric)
    return Planned(
        "rate_concreteness",
        rater,
        calls,
        tokens(rubric.system) + concreteness.batch * LABEL_TOKENS,
        rubric.expected.fixed + concreteness.batch * RATING_TOKENS,
    )


def _examples(config: Config) -> Iterator[Planned]:
    """Calls that write and judge examples to fine-tune on."""
    data = config.finetune.data
    llms = config.judging.llms
    primary = config.judging.primary
    if not config.finetuned:
        return
    if data.writer in llms:
        for path, calls in ((data.rubric, data.corrections), (data.answer_rubric, data.answers)):
            rubric = read_rubric(path)
            read = tokens(rubric.system) + tokens(rubric.user) + PROMPT_TOKENS
            yield Planned("write_examples", data.writer, calls, read, rubric.expected.fixed)
    if primary in llms:  # answers, and both ends of self-corrections
        rubric = read_rubric(llms[primary].rubric)
        shown = rubric.call("", prompt="", response="")
        read = tokens(shown.system + shown.user) + PROMPT_TOKENS + PART_TOKENS
        written = rubric.expected.fixed + rubric.expected.of_response * PART_TOKENS
        yield Planned("judge_examples", primary, data.answers + 2 * data.corrections, read, written)


def judging_calls(config: Config, rule: str, judge: str, calls: int) -> Planned:
    """So many calls of a rule that show a judge a prompt and a response, by its own rubric."""
    settings = config.judging.llms[judge]
    return _calls(config, rule, judge, calls, read_rubric(settings.rubric))


def _calls(config: Config, rule: str, judge: str, calls: int, rubric: Rubric) -> Planned:
    """Calls that show a prompt and a response."""
    prompts = read_prompts(config.prompts)["prompt"]
    response = config.generation.max_new_tokens
    shown = rubric.call("a label of the latent", prompt="", response="")
    copied = rubric.expected.of_response * response
    read = tokens(shown.system + shown.user) + prompts.map(len).mean() / 4 + response
    written = min(rubric.expected.fixed + copied, config.judging.llms[judge].max_tokens)
    return Planned(rule, judge, calls, read, written, tokens(shown.system), min(copied, written))


ESTIMATE = ["rule", "judge", "model", "mode", "calls", "input_tokens", "output_tokens"]
ESTIMATE += ["dollars_live", "dollars_batch", "price_date"]


def estimate(config: Config) -> pd.DataFrame:
    """Calls, tokens and dollars of every rule and judge, live and in batches.

    Columns: rule, judge, model (id), mode (as configured), calls, input_tokens, output_tokens,
    dollars_live, dollars_batch (missing without a price, or where there are no batches),
    price_date.
    """
    prices = read_prices(config.judging.prices)
    rows: list[dict[str, Any]] = []
    for one in planned_calls(config):
        settings = config.judging.llms[one.judge]
        is_local = one.judge in config.judging.local
        price = FREE if is_local else prices.get(settings.model)
        read = one.calls * one.read
        written = one.calls * one.written
        batches = settings.kind == "anthropic" and one.rule not in LIVE
        configured: str = settings.mode if settings.kind == "anthropic" and batches else "live"
        mode = "local" if is_local else configured
        live = price.cost(read, written, batch=False) if price else None
        batch = price.cost(read, written, batch=True) if price and batches else None
        rows.append(
            {
                "rule": one.rule,
                "judge": one.judge,
                "model": settings.model,
                "mode": mode,
                "calls": one.calls,
                "input_tokens": round(read),
                "output_tokens": round(written),
                "dollars_live": live,
                "dollars_batch": batch,
                "price_date": price.date if price else None,
            }
        )
    return pd.DataFrame(rows, columns=ESTIMATE)


def as_configured(table: pd.DataFrame) -> float:
    """Dollars of an estimate in the modes that are configured; NaN where a price is missing."""
    batch = table["mode"].eq("batch")
    dollars = table["dollars_batch"].where(batch, table["dollars_live"]).astype(float)
    return float(dollars.sum(skipna=False))

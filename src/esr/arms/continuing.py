"""Trials that continue a text of another arm: which texts, where they are cut, in token ids.

A prefix is a beginning of the text's own token ids, never text that is tokenised again. Paper v2:
prefill control and matched-prefix control.
"""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from esr.arms.attempts import LOST
from esr.arms.chat import response_text
from esr.arms.plan import prefix_of, trial_seed
from esr.arms.restarts import find_restarts
from esr.config import ContinueConfig
from esr.episodes.tokens import token_spans

log = logging.getLogger(__name__)

APART = 20
"""Characters between restart phrases of one correction, as in "wait, no. let me start over"."""


def off_topic_texts(
    plan: pd.DataFrame,
    responses: pd.DataFrame,
    judgments: pd.DataFrame,
    scores: pd.DataFrame,
    phrases: re.Pattern[str],
    below: float,
) -> pd.DataFrame:
    """Texts of an arm whose first attempt scores below a bound, and where they restart.

    Args:
        plan: Table `plan` of the arm.
        responses: Its responses.
        judgments: Of the primary judge on them.
        scores: Likewise.
        phrases: Restart phrases.
        below: Bound of the first attempt (points).

    Returns:
        Rows of the plan with response, tokens, prefix_end, restart (character at which the judge's
        second attempt or the first restart phrase begins, whichever comes first; the length of the
        text if it never restarts) and phrase_end (character after that phrase and those that
        follow it by at most `APART` characters, missing if none).
        Of a text that continues another one, a restart counts only after the prefix.
    """
    low = scores["status"].eq("ok") & scores["first_score"].lt(below).fillna(False)
    texts = plan.merge(responses.drop(columns="status"), on="trial_id", validate="one_to_one")
    texts = texts[texts["trial_id"].isin(scores.loc[low, "trial_id"])].reset_index(drop=True)
    spans = judgments[judgments["start"].notna() & ~judgments["located"].isin(LOST)]
    spans = spans.sort_values(["trial_id", "attempt"])
    later = spans[spans["trial_id"].duplicated()].groupby("trial_id")["start"].agg(list)
    restarts, ends = [], []
    for row in texts.itertuples():
        begin = 0 if pd.isna(row.prefix_end) else int(row.prefix_end)
        found = [span for span in find_restarts(phrases, row.response) if span[0] >= begin]
        starts = [start for start in later.get(row.trial_id, []) if start >= begin]
        starts += [start for start, _ in found]
        restarts.append(min(starts, default=len(row.response)))
        ends.append(first_end(found))
    return texts.assign(restart=restarts, phrase_end=pd.array(ends, dtype="Int64"))


def first_end(phrases: Sequence[tuple[int, int]]) -> int | None:
    """Character after the first restart phrase, together with those that go on with it."""
    if not phrases:
        return None
    end = phrases[0][1]
    for start, after in phrases[1:]:
        if start - end > APART:
            break
        end = after
    return end


def spread(texts: pd.DataFrame, count: int) -> pd.DataFrame:
    """The first `count` texts, those of all latents in turn, in the order of the plan."""
    turn = texts.groupby("latent", dropna=False, sort=False).cumcount()
    return texts.loc[turn.sort_values(kind="stable").index[:count]].sort_index()


def cut_tokens(tokenizer: Any, tokens: Sequence[int], length: int, prefill: str = "") -> list[int]:
    """Leading tokens whose text is as long as whole characters of whole tokens allow.

    Args:
        tokenizer: A transformers tokenizer.
        tokens: Tokens of a response.
        length: Of the text, prefill included (characters).
        prefill: Text before the tokens.
    """
    return cut_at(token_spans(tokenizer, tokens, prefill), tokens, length)


def cut_at(spans: Sequence[tuple[int, int]], tokens: Sequence[int], length: int) -> list[int]:
    """`cut_tokens`, from the characters of each token (`token_spans`)."""
    # Tokens that write nothing are left out at the end: an end of turn, or half of a character.
    inside = [(end, count) for count, (start, end) in enumerate(spans, 1) if start < end <= length]
    return [int(token) for token in tokens[: max(inside, default=(0, 0))[1]]]


def continuing_trials(
    texts: pd.DataFrame, settings: ContinueConfig, tokenizer: Any, arm: str
) -> pd.DataFrame:
    """Trials that continue off-topic texts, at every cut and `samples` times each.

    Args:
        texts: From `off_topic_texts`.
        settings: Which of them, and where they are cut.
        tokenizer: The model's.
        arm: Name of the continuing arm, for messages.

    Returns:
        Rows as of the plan, with the prefix's columns and seeds that follow from the continued
        trial's seed, the cut and the sample's number. A text whose first token is longer than the
        first cut is left out. Without any text that fits there are no rows, and a warning: other
        models of the study may have such texts.
    """
    chosen = spread(_usable(texts, settings, arm), settings.texts)
    rows: list[dict[str, Any]] = []
    short = 0
    for text in chosen.to_dict("records"):
        prefixes = _prefixes(tokenizer, text, settings)
        if all(prefixes.values()):
            rows += _samples(text, prefixes, settings)
        else:
            short += 1
    if short and settings.cuts:
        log.warning(
            "arms.%s.continue.cuts: %s characters are less than the first token of %d texts, which "
            "are left out; raise the first cut",
            *(arm, settings.cuts[0], short),
        )
    elif short:
        log.warning("arms.%s.continue: %d texts restart at once, and are left out", arm, short)
    numbers = dict.fromkeys(["latent", "prefix_cut", "prefix_seed"], "Int64")
    return pd.DataFrame(rows, columns=[*chosen.columns]).astype(numbers)


def _usable(texts: pd.DataFrame, settings: ContinueConfig, arm: str) -> pd.DataFrame:
    """Texts that reach the last cut without a restart, that restart, or that have a phrase."""
    if settings.where == "correction":
        usable = texts[texts["phrase_end"].notna()]
    elif settings.where == "restart":
        usable = texts[texts["restart"] < texts["response"].str.len()]
    else:
        usable = texts[texts["restart"].ge(settings.cuts[-1])]
    log.info("%d off-topic texts of %s, %d usable", len(texts), settings.arm, len(usable))
    if usable.empty and len(texts) and settings.cuts:
        log.warning(
            "no trials: arms.%s.continue.cuts: %d characters, but the longest off-topic stretch of "
            "%d texts of %s has %d; lower the last cut",
            *(arm, settings.cuts[-1], len(texts), settings.arm, texts["restart"].max()),
        )
    return usable


def _prefixes(
    tokenizer: Any, text: Mapping[str, Any], settings: ContinueConfig
) -> dict[int | None, list[int]]:
    """Tokens of the prefix at each cut (characters); None: up to, or through, the restart."""
    spans = token_spans(tokenizer, text["tokens"], text["prefill"])
    lengths: dict[int | None, int] = {cut: cut for cut in settings.cuts}
    end = "restart" if settings.where == "restart" else "phrase_end"
    lengths = lengths or {None: int(text[end])}
    return {cut: cut_at(spans, text["tokens"], length) for cut, length in lengths.items()}


def _samples(
    text: Mapping[str, Any], prefixes: Mapping[int | None, list[int]], settings: ContinueConfig
) -> Iterator[dict[str, Any]]:
    """Rows of a text: `samples` at each of its cuts."""
    for cut, prefix in prefixes.items():
        condition = {"prefix": prefix, "prefix_where": settings.where, "prefix_cut": cut}
        condition["prefix_seed"] = text["seed"]
        for sample in range(settings.samples):
            seed = trial_seed(int(text["seed"]), f"{settings.where}/{cut}", sample)
            yield {**text, **condition, "seed": seed}


def on_topic_trials(
    trials: pd.DataFrame,
    plan: pd.DataFrame,
    responses: pd.DataFrame,
    tokenizer: Any,
    arm: str,
) -> pd.DataFrame:
    """Trials whose prefixes are replaced by the beginnings of other texts, of equal length.

    Args:
        trials: Plan of a continuing arm.
        plan: Plan of an arm with texts to the same latents, prompts and seeds.
        responses: Its responses.
        tokenizer: The model's.
        arm: Name of the arm, for messages.

    Returns:
        The trials, less those without such a text or with one that is shorter than the prefix.
        If none is left, there is a warning: other models of the study may have such texts.
    """
    texts = plan.merge(responses[responses["status"].eq("ok")], on="trial_id", suffixes=("", "_"))
    by_key = {text_key(text, text["seed"]): text for text in texts.to_dict("records")}
    rows = list(_replaced(trials, by_key, tokenizer))
    log.info("%d of %d prefixes have an on-topic text of their length", len(rows), len(trials))
    if len(trials) and not rows:
        log.warning(
            "no trials: arms.%s.continue: no on-topic text is as long as the prefix that it "
            "replaces; lower the cuts of the replayed arm",
            arm,
        )
    return pd.DataFrame(rows, columns=[*trials.columns]).astype(trials.dtypes.to_dict())


def text_key(trial: Mapping[str, Any], seed: Any) -> tuple[int | None, str, int]:
    """What a trial shares with those of arms that replay it: latent, prompt and seed."""
    latent = None if pd.isna(trial["latent"]) else int(trial["latent"])
    return latent, trial["prompt_id"], int(seed)


def _replaced(
    trials: pd.DataFrame, texts: Mapping[tuple[Any, ...], Mapping[str, Any]], tokenizer: Any
) -> Iterator[dict[str, Any]]:
    """Trials with an on-topic prefix; the tokens of each text are placed once."""
    known: dict[tuple[Any, ...], list[tuple[int, int]]] = {}
    for trial in trials.to_dict("records"):
        key, prefill = text_key(trial, trial["prefix_seed"]), trial["prefill"]
        length = len(response_text(tokenizer, prefix_of(trial["prefix"]), prefill))
        text = texts.get(key)
        if text is None or len(text["response"]) < length:
            continue
        if key not in known:
            known[key] = token_spans(tokenizer, text["tokens"], prefill)
        if prefix := cut_at(known[key], text["tokens"], length):
            yield trial | {"prefix": prefix, "prefix_where": "on_topic"}

"""The interface of a judge: it turns (prompt, response) into attempts with spans and scores."""

import logging
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import pandas as pd

from esr.arms.attempts import LOST
from esr.arms.plan import shown_prompt
from esr.arms.restarts import find_restarts
from esr.gate import FailureGate

log = logging.getLogger(__name__)

FAILED = {"api_error", "refused", "truncated", "unparsable", "wrong_scale"}
"""Statuses of a response that its judge failed to judge."""
NEAR = 100
"""Characters by which judge and restart detector may differ on where an attempt begins."""


@dataclass(frozen=True)
class Attempt:
    """A part of a response: one attempt to answer the prompt.

    Attributes:
        start: First character in the response; None if the judge's quote is not found there.
        end: Character after the last one; None likewise.
        score: Relevance to the prompt, 0-100 points.
        located: How the span was found (`exact` for a judge that works on the response itself), or
            `not_found` or `doubled`; such an attempt does not count.
    """

    start: int | None
    end: int | None
    score: float
    located: str = "exact"


@dataclass(frozen=True)
class ReplyMetadata:
    """Where a judgment comes from.

    Attributes:
        judge: The model that replied, as it names itself.
        request_id: Id of the request at the API, if it gave one.
        reply: Key of the raw reply in its journal.
        temperature: As sent; None if none was.
    """

    judge: str
    request_id: str | None
    reply: str
    temperature: float | None


@dataclass(frozen=True)
class Judgment:
    """Attempts of one response, or the status that explains why there are none."""

    status: str
    attempts: tuple[Attempt, ...] = ()
    metadata: ReplyMetadata | None = None

    def __post_init__(self) -> None:
        if self.status == "ok" and not self.attempts:
            raise ValueError("a judgment without attempts needs a status that explains why")

    @property
    def first_score(self) -> float | None:
        """Score of the first attempt; None if the response could not be scored."""
        return self.attempts[0].score if self.status == "ok" else None


@dataclass(frozen=True)
class JudgeInput:
    """What a judge may be shown.

    Attributes:
        prompt: The base prompt, without a meta-prompt.
        response: The response.
        label: Label of the steered latent; None if it is unknown.
        full_prompt: The user turn as the model saw it, with the meta-prompt; None if unknown.
    """

    prompt: str
    response: str
    label: str | None = None
    full_prompt: str | None = None


class Judge(Protocol):
    """Scores inputs, one judgment each, in order."""

    @property
    def served_as(self) -> str:
        """Judge as served: kind, model and version."""
        ...

    def judge(self, inputs: Sequence[JudgeInput]) -> list[Judgment]:
        """Judge inputs. The failure of one is the status of its judgment, never a score.

        Raises:
            EsrError: nothing can be judged, or nearly all inputs fail for one reason.
        """
        ...


def check_spans(judgment: Judgment, response: str) -> None:
    """Check that attempts lie in the response, in order, without overlap, scored 0-100.

    Raises:
        ValueError: they do not.
    """
    at = 0
    for attempt in judgment.attempts:
        if not 0 <= attempt.score <= 100:
            raise ValueError(f"score {attempt.score} is not within 0-100")
        if attempt.start is None or attempt.end is None:
            if attempt.start is not attempt.end or attempt.located not in LOST:
                raise ValueError(f"attempt {attempt} has half a span, or no span but is located")
            continue
        if not at <= attempt.start < attempt.end <= len(response):
            raise ValueError(f"attempt {attempt} does not fit a response of {len(response)}")
        at = attempt.end


def after_restart(attempt: Attempt, restarts: Sequence[tuple[int, int]]) -> bool | None:
    """Whether an attempt begins within `NEAR` characters of a restart phrase; None without span."""
    if attempt.start is None:
        return None
    begin = attempt.start
    return any(start - NEAR <= begin <= end + NEAR for start, end in restarts)


EMPTY = dict.fromkeys(["attempt", "start", "end", "score", "located", "restart_phrase"])


def judgments_table(
    trial_ids: Sequence[str],
    judgments: Sequence[Judgment],
    served_as: str,
    restarts: Sequence[Sequence[tuple[int, int]]] | None = None,
) -> pd.DataFrame:
    """Judgments as a table, one row an attempt; a trial without attempts has one row.

    Args:
        trial_ids: Trials.
        judgments: Their judgments.
        served_as: The judge, for judgments without metadata.
        restarts: Characters of the restart phrases in each response with several attempts; None if
            not searched for.
    """
    rows: list[dict[str, Any]] = []
    found = restarts or [()] * len(judgments)
    for trial, judgment, phrases in zip(trial_ids, judgments, found, strict=True):
        metadata = judgment.metadata or ReplyMetadata(served_as, None, "", None)
        common = {
            "trial_id": trial,
            "status": judgment.status,
            "judge": metadata.judge,
            "request_id": metadata.request_id,
            "reply": metadata.reply or None,
            "temperature": metadata.temperature,
        }
        attempts = [vars(a) | {"attempt": i} for i, a in enumerate(judgment.attempts)]
        for attempt, row in zip(judgment.attempts, attempts, strict=True):
            row["restart_phrase"] = after_restart(attempt, phrases) if row["attempt"] else None
        rows += [common | attempt for attempt in attempts or [EMPTY]]
    named = ["trial_id", "status", "judge", "request_id", "reply", "temperature"]
    table = pd.DataFrame(rows, columns=[*named, *EMPTY])
    return table.astype({"start": "Int64", "end": "Int64", "restart_phrase": "boolean"})


def judged_from(plan: pd.DataFrame, responses: pd.DataFrame, alone: Collection[str]) -> list[int]:
    """First character of each response that a judge sees.

    Args:
        plan: Trials (table `plan`), with their arm if any is judged alone.
        responses: Responses to them, in the same order, with `prefix_end`.
        alone: Arms whose continuations are judged without their prefixes.
    """
    if not alone:
        return [0] * len(responses)
    ends = responses["prefix_end"].fillna(0)
    cut = plan["arm"].isin(alone)
    return [int(end) if inside else 0 for end, inside in zip(ends, cut, strict=True)]


def shifted(judgment: Judgment, by: int) -> Judgment:
    """A judgment of the end of a response, with spans in the whole of it."""
    if not by:
        return judgment
    moved = [
        attempt
        if attempt.start is None or attempt.end is None
        else replace(attempt, start=attempt.start + by, end=attempt.end + by)
        for attempt in judgment.attempts
    ]
    return replace(judgment, attempts=tuple(moved))


def judge_responses(
    plan: pd.DataFrame,
    responses: pd.DataFrame,
    judge: Judge,
    phrases: re.Pattern[str],
    alone: Collection[str] = (),
) -> pd.DataFrame:
    """Judge responses; a trial without a response keeps its own status.

    Args:
        plan: Trials, with prompt and label (table `plan`).
        responses: Responses to them, in the same order (table `responses`).
        judge: The judge.
        phrases: Restart phrases (`esr.arms.restarts.read_phrases`).
        alone: Arms whose continuations are judged without their prefixes (`Config.judged_alone`).

    Returns:
        Table `judgments`; spans are characters of the whole response.

    Raises:
        EsrError: the judge failed on nearly all responses for one reason.
    """
    has_response = responses["status"].eq("ok").to_numpy()
    begins = judged_from(plan, responses, alone)
    seen = [
        response[begin:]
        for response, begin, has in zip(responses["response"], begins, has_response, strict=True)
        if has
    ]
    asked = plan.loc[has_response, ["prompt", "label", "meta_prompt"]]
    inputs = [
        JudgeInput(
            trial.prompt,
            response,
            None if pd.isna(trial.label) else trial.label,
            shown_prompt(trial),
        )
        for trial, response in zip(asked.itertuples(), seen, strict=True)
    ]
    judged = judge.judge(inputs)
    _report(judged, judge.served_as)
    remaining = iter(judged)
    judgments = []
    restarts = []
    replied = responses[["status", "response", "prefix_end"]]
    for response, at in zip(replied.itertuples(), begins, strict=True):
        text = response.response if response.status == "ok" else ""
        judgment = next(remaining) if response.status == "ok" else Judgment(response.status)
        judgment = shifted(judgment, at)
        check_spans(judgment, text)
        judgments.append(judgment)
        begin = 0 if pd.isna(response.prefix_end) else response.prefix_end
        found = find_restarts(phrases, text) if len(judgment.attempts) > 1 else []
        restarts.append([span for span in found if span[0] >= begin])
    return judgments_table(responses["trial_id"].tolist(), judgments, judge.served_as, restarts)


def _report(judgments: Sequence[Judgment], served_as: str) -> None:
    """Log how many responses were judged; stop if the judge failed on nearly all of them."""
    counts = Counter(one.status for one in judgments)
    shown = ", ".join(f"{count} {status}" for status, count in counts.most_common())
    failed = sum(count for status, count in counts.items() if status in FAILED)
    log.log(
        logging.WARNING if failed else logging.INFO,
        "%s judged %d responses: %s",
        served_as,
        len(judgments),
        shown,
    )
    gate = FailureGate(f"judgments by {served_as}", "See docs/judges.md for what the status means")
    gate.add(one.status if one.status in FAILED else None for one in judgments)
    gate.check()

"""What a judge is: something that turns (prompt, response) into attempts with spans and scores."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pandas as pd

from esr.arms.plan import shown_prompt
from esr.arms.restarts import find_restarts

NEAR = 100
"""Characters by which judge and restart detector may differ on where an attempt begins."""


@dataclass(frozen=True)
class Attempt:
    """A stretch of a response from one start at the answer to the next.

    `start` and `end` are character offsets into the response, or None if what the judge quotes is
    not found there; `score` is 0-100 points for relevance to the prompt; `located` says how the
    span was found (`exact` for a judge that works on the response itself), or `not_found`.
    """

    start: int | None
    end: int | None
    score: float
    located: str = "exact"


@dataclass(frozen=True)
class ReplyMetadata:
    """What answered: the model as it names itself, its request id, and the key of the reply.

    `temperature` is the one that was sent; None if the model takes none.
    """

    judge: str
    request_id: str | None
    reply: str
    temperature: float | None


@dataclass(frozen=True)
class Judgment:
    """Attempts of one response, or the reason why there are none."""

    status: str
    attempts: tuple[Attempt, ...] = ()
    served: ReplyMetadata | None = None

    def __post_init__(self) -> None:
        if self.status == "ok" and not self.attempts:
            raise ValueError("a judgment without attempts needs a status that says why")

    @property
    def first_score(self) -> float | None:
        """Score of the first attempt; None if the response could not be scored."""
        return self.attempts[0].score if self.status == "ok" else None


@dataclass(frozen=True)
class JudgeInput:
    """What a judge may be shown: base prompt, response, and the steered latent's label.

    `asked` is the user turn as the model saw it, where a meta-prompt makes that another text.
    """

    prompt: str
    response: str
    label: str | None = None
    asked: str | None = None


class Judge(Protocol):
    """Scores exchanges, one judgment each, in order."""

    @property
    def served_as(self) -> str:
        """Judge as served: kind, model and version."""
        ...

    def judge(self, exchanges: Sequence[JudgeInput]) -> list[Judgment]:
        """Judge exchanges. A failure is a status of its judgment, never an exception or a score."""
        ...


def check_spans(judgment: Judgment, response: str) -> None:
    """Assert that attempts lie in the response, in order, without overlap, scored 0-100."""
    at = 0
    for attempt in judgment.attempts:
        if not 0 <= attempt.score <= 100:
            raise ValueError(f"score {attempt.score} is not within 0-100")
        if attempt.start is None or attempt.end is None:
            if attempt.start is not attempt.end or attempt.located != "not_found":
                raise ValueError(f"attempt {attempt} has half a span, or none without saying so")
            continue
        if not at <= attempt.start < attempt.end <= len(response):
            raise ValueError(f"attempt {attempt} does not fit a response of {len(response)}")
        at = attempt.end


def after_restart(attempt: Attempt, restarts: Sequence[tuple[int, int]]) -> bool | None:
    """Whether a restart phrase is near where an attempt begins; None for one without span."""
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
    """Lay judgments out one row an attempt; a trial without attempts keeps one row.

    Args:
        trial_ids: Trials.
        judgments: Their judgments.
        served_as: The judge, where a judgment does not name what served it.
        restarts: Characters of the restart phrases in each response; none where not looked for.
    """
    rows: list[dict[str, Any]] = []
    found = restarts or [()] * len(judgments)
    for trial, judgment, phrases in zip(trial_ids, judgments, found, strict=True):
        served = judgment.served or ReplyMetadata(served_as, None, "", None)
        common = {
            "trial_id": trial,
            "status": judgment.status,
            "judge": served.judge,
            "request_id": served.request_id,
            "reply": served.reply or None,
            "temperature": served.temperature,
        }
        attempts = [vars(a) | {"attempt": i} for i, a in enumerate(judgment.attempts)]
        for attempt, row in zip(judgment.attempts, attempts, strict=True):
            row["restart_phrase"] = after_restart(attempt, phrases) if row["attempt"] else None
        rows += [common | attempt for attempt in attempts or [EMPTY]]
    table = pd.DataFrame(rows)
    return table.astype({"start": "Int64", "end": "Int64", "restart_phrase": "boolean"})


def judge_responses(
    plan: pd.DataFrame, responses: pd.DataFrame, judge: Judge, phrases: re.Pattern[str]
) -> pd.DataFrame:
    """Judge the responses there are; the others keep their own status.

    Args:
        plan: Trials, with prompt and label (table `plan`).
        responses: Responses to them, in the same order (table `responses`).
        judge: The judge.
        phrases: Restart phrases (`esr.arms.restarts.read_phrases`).

    Returns:
        Table `judgments`.
    """
    spoken = responses["status"].eq("ok").to_numpy()
    exchanges = [
        JudgeInput(
            trial.prompt,
            response,
            None if pd.isna(trial.label) else trial.label,
            shown_prompt(trial),
        )
        for trial, response in zip(
            plan[spoken].itertuples(), responses.loc[spoken, "response"], strict=True
        )
    ]
    judged = iter(judge.judge(exchanges))
    judgments, restarts = [], []
    for response in responses.itertuples():
        said = response.response if response.status == "ok" else ""
        judgment = next(judged) if response.status == "ok" else Judgment(response.status)
        check_spans(judgment, said)
        judgments.append(judgment)
        restarts.append(find_restarts(phrases, said))
    return judgments_table(responses["trial_id"].tolist(), judgments, judge.served_as, restarts)

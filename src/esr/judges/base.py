"""What a judge is: something that turns (prompt, response) into attempts with spans and scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import pandas as pd


@dataclass(frozen=True)
class Attempt:
    """A stretch of a response from one start at the answer to the next.

    `start` and `end` are character offsets into the response; `score` is 0-100 points for
    relevance to the prompt; `located` says how the span was found (`exact` for a judge that works
    on the response itself).
    """

    start: int
    end: int
    score: float
    located: str = "exact"


@dataclass(frozen=True)
class Judgment:
    """Attempts of one response, or the reason why there are none."""

    status: str
    attempts: tuple[Attempt, ...] = ()

    def __post_init__(self) -> None:
        if self.status == "ok" and not self.attempts:
            raise ValueError("a judgment without attempts needs a status that says why")

    @property
    def first_score(self) -> float | None:
        """Score of the first attempt; None if the response could not be scored."""
        return self.attempts[0].score if self.status == "ok" else None


@dataclass(frozen=True)
class Exchange:
    """What a judge is shown: the base prompt, the response, and the steered latent's label."""

    prompt: str
    response: str
    label: str | None = None


class Judge(Protocol):
    """Scores exchanges, one judgment each, in order."""

    @property
    def served_as(self) -> str:
        """Judge as served: kind, model and version."""
        ...

    def judge(self, exchanges: Sequence[Exchange]) -> list[Judgment]:
        """Judge exchanges. A failure is a status of its judgment, never an exception or a score."""
        ...


def check_spans(judgment: Judgment, response: str) -> None:
    """Assert that attempts lie in the response, in order, without overlap, scored 0-100."""
    at = 0
    for attempt in judgment.attempts:
        if not at <= attempt.start < attempt.end <= len(response):
            raise ValueError(f"attempt {attempt} does not fit a response of {len(response)}")
        if not 0 <= attempt.score <= 100:
            raise ValueError(f"score {attempt.score} is not within 0-100")
        at = attempt.end


def judgments_table(
    trial_ids: Sequence[str], judgments: Sequence[Judgment], served_as: str
) -> pd.DataFrame:
    """Lay judgments out one row an attempt; a trial without attempts keeps one row."""
    rows = []
    for trial, judgment in zip(trial_ids, judgments, strict=True):
        common = {"trial_id": trial, "status": judgment.status, "judge": served_as}
        empty = {"attempt": None, "start": None, "end": None, "score": None, "located": None}
        attempts = [vars(a) | {"attempt": i} for i, a in enumerate(judgment.attempts)]
        rows += [common | attempt for attempt in attempts or [empty]]
    return pd.DataFrame(rows)


def judge_responses(plan: pd.DataFrame, responses: pd.DataFrame, judge: Judge) -> pd.DataFrame:
    """Judge the responses there are; the others keep their own status.

    Args:
        plan: Trials, with prompt and label (table `plan`).
        responses: Responses to them, in the same order (table `responses`).
        judge: The judge.

    Returns:
        Table `judgments`.
    """
    spoken = responses["status"].eq("ok").to_numpy()
    exchanges = [
        Exchange(trial.prompt, response, None if pd.isna(trial.label) else trial.label)
        for trial, response in zip(
            plan[spoken].itertuples(), responses.loc[spoken, "response"], strict=True
        )
    ]
    judged = iter(judge.judge(exchanges))
    judgments = []
    for response in responses.itertuples():
        judgment = next(judged) if response.status == "ok" else Judgment(response.status)
        check_spans(judgment, response.response if response.status == "ok" else "")
        judgments.append(judgment)
    return judgments_table(responses["trial_id"].tolist(), judgments, judge.served_as)

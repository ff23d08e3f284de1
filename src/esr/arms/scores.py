"""Scores: one row a trial, from its plan, its response and its judgment."""

import re
from collections.abc import Callable, Sequence
from itertools import groupby

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from esr.arms.plan import CONDITION
from esr.arms.restarts import find_restarts
from esr.errors import EsrError

JUDGED = ["n_attempts", "first_score", "last_score", "score_change", "multi_attempt", "improved"]
COLUMNS = [
    *["trial_id", "prompt_id", "latent", "boost", "seed", "status"],
    *[*JUDGED, "restart_detected", "degraded"],
]
DEGRADED_RUN = 5  # a word so many times in a row makes a response degraded
TRIAL = ["trial_id", "prompt_id", "latent", "boost", "seed"]


def score_trials(
    plan: pd.DataFrame,
    responses: pd.DataFrame,
    judgments: pd.DataFrame,
    phrases: re.Pattern[str],
) -> pd.DataFrame:
    """Assemble the table `scores`; trials planned = trials in it, whatever became of them.

    A trial's status is that of its response if there is none, else that of its judgment. Only
    trials with status `ok` have attempts and scores; the two checks that need no judge are made
    on every response.

    Args:
        plan: Table `plan` of an arm.
        responses: Table `responses` to it.
        judgments: Table `judgments` of one judge on them, one row an attempt.
        phrases: Restart phrases (`esr.arms.restarts.read_phrases`).

    Raises:
        EsrError: the three are not about the same trials, or a judged trial lacks a score.
    """
    _same_trials(plan, responses, judgments)
    table = plan[TRIAL + CONDITION].merge(
        responses[["trial_id", "status", "response"]], on="trial_id", validate="one_to_one"
    )
    table = table.merge(_attempts(judgments), on="trial_id", validate="one_to_one")
    table["status"] = table["status"].mask(table["status"].eq("ok"), table.pop("judgment"))
    scored = table["status"].eq("ok")
    for name in ("n_attempts", "first_score", "last_score"):
        table[name] = table[name].where(scored)
    table["score_change"] = table["last_score"] - table["first_score"]
    table["multi_attempt"] = table["n_attempts"].gt(1)
    table["improved"] = table["multi_attempt"] & table["score_change"].gt(0)
    response = table.pop("response")
    table["restart_detected"] = _flag(response, lambda text: bool(find_restarts(phrases, text)))
    table["degraded"] = _flag(response, degraded)
    check_scores(table)
    return table


def _attempts(judgments: pd.DataFrame) -> pd.DataFrame:
    """Judgment, number of attempts, first and last score of each trial; missing if not scored."""
    broken = judgments[
        judgments["status"].eq("ok") & judgments[["attempt", "score"]].isna().any(axis=1)
    ]
    if len(broken):
        trials = broken["trial_id"].unique().tolist()
        raise EsrError(
            f"judgments are ok but lack an attempt or a score in {len(trials)} trials, e.g. "
            f"{trials[:3]}; a judge must give such a trial another status"
        )
    attempts = judgments.sort_values(["trial_id", "attempt"])
    first = attempts.drop_duplicates("trial_id", keep="first").set_index("trial_id")
    last = attempts.drop_duplicates("trial_id", keep="last").set_index("trial_id")
    table = pd.DataFrame(
        {
            "judgment": first["status"],
            "n_attempts": attempts.groupby("trial_id")["attempt"].count().astype("Int64"),
            "first_score": first["score"].astype("Float64"),
            "last_score": last["score"].astype("Float64"),
        }
    )
    return table.reset_index()


def _flag(response: pd.Series, found: Callable[[str], bool]) -> pd.Series:
    """Whether something is found in each response, missing where there is none."""
    flags = [pd.NA if pd.isna(text) else found(text) for text in response]
    return pd.Series(flags, response.index, dtype="boolean")


def _same_trials(plan: pd.DataFrame, responses: pd.DataFrame, judgments: pd.DataFrame) -> None:
    planned = set(plan["trial_id"])
    for name, other in (("responses", responses), ("judgments", judgments)):
        found = set(other["trial_id"])
        if found != planned:
            raise EsrError(
                f"{name}: {len(planned - found)} planned trials missing, {len(found - planned)} "
                "unknown; rebuild them from this plan"
            )


def degraded(response: str) -> bool:
    """Whether a whitespace-separated word of two characters or more occurs 5 times in a row."""
    runs = ((word, sum(1 for _ in run)) for word, run in groupby(response.split()))
    return any(len(word) > 1 and length >= DEGRADED_RUN for word, length in runs)


def without_degraded(scores: pd.DataFrame) -> pd.DataFrame:
    """The scores with degraded trials taken out: status `degraded`, nothing measured.

    The paper's robustness check. The rows stay, so that they are counted as excluded, and so does
    the flag itself, so that the share of degraded responses is still that of all responses.
    """
    flags = ["multi_attempt", "improved", "restart_detected"]
    numbers = [column for column in JUDGED if column not in flags]
    out = scores.astype(dict.fromkeys(numbers, "Float64") | dict.fromkeys(flags, "boolean"))
    drop = as_float(scores, "degraded") == 1
    out.loc[drop & is_scored(scores), "status"] = "degraded"
    out.loc[drop, numbers + flags] = pd.NA
    return out


def check_scores(scores: pd.DataFrame) -> None:
    """Check columns and identities of the scores of one arm.

    Raises:
        EsrError: a column is missing; a trial is repeated; a scored trial lacks a value or
            contradicts itself (for example score_change != last - first); a trial with another
            status has scores.
    """
    check_columns(scores, COLUMNS)
    ok = is_scored(scores)
    judged = {column: as_float(scores, column) for column in JUDGED}
    attempts, first, last, change, multi, improved = judged.values()
    problems = {
        "trial_id is repeated": scores["trial_id"].duplicated().to_numpy(),
        "status is missing": scores["status"].isna().to_numpy(),
    }
    for column, values in judged.items():
        problems[f"status is ok but {column} is missing"] = ok & np.isnan(values)
        problems[f"status is not ok but {column} has a value"] = ~ok & ~np.isnan(values)
    problems |= {
        "a score is outside 0-100": ok
        & ((np.minimum(first, last) < 0) | (np.maximum(first, last) > 100)),
        "n_attempts is below 1": ok & (attempts < 1),
        "score_change is not last_score - first_score": ok & (np.abs(last - first - change) > 1e-6),
        "multi_attempt is not n_attempts > 1": ok & (multi != (attempts > 1)),
        "one attempt but first_score differs from last_score": ok & (multi == 0) & (change != 0),
        "improved is not multi_attempt and last > first": ok & (improved != (multi * change > 0)),
    }
    for problem, where in problems.items():
        if where.any():
            trials = scores.loc[where, "trial_id"].tolist()
            raise EsrError(
                f"{problem} in {len(trials)} trials, e.g. {trials[:3]}; score them again"
            )


def check_columns(scores: pd.DataFrame, columns: Sequence[str]) -> None:
    """Raise `EsrError` if a column is missing."""
    missing = [column for column in columns if column not in scores.columns]
    if missing:
        raise EsrError(f"scores table lacks the columns {missing}; it has {list(scores.columns)}")


def is_scored(scores: pd.DataFrame) -> Bool[np.ndarray, " trials"]:
    """Which trials have status `ok`."""
    return scores["status"].eq("ok").fillna(False).to_numpy(bool)


def as_float(scores: pd.DataFrame, column: str) -> Float[np.ndarray, " trials"]:
    """A column as floats (flags as 0 and 1), NaN where missing."""
    numbers = pd.to_numeric(scores[column]).astype("Float64")
    return np.asarray(numbers.to_numpy(float, na_value=np.nan))

"""Scores of an arm: one row a trial, from its plan, its response and its judgment."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from esr.arms.attempts import count_attempts
from esr.arms.plan import CONDITION, TRIAL
from esr.arms.restarts import find_restarts
from esr.errors import EsrError

Columns = Mapping[str, np.ndarray]
"""Scores that are read many times, or simulated: one array a column."""

JUDGED = ["n_attempts", "first_score", "last_score", "score_change", "multi_attempt", "improved"]
KEY = ["model", "arm", "trial_id"]
"""Columns that identify a trial in the scores of one judge, over models and arms."""
GATED = ["gated_multi_attempt", "gated_improved"]
"""Flags for which attempts after the first count only if a restart phrase opens them."""
GATE = ["gated_attempts", "gated_last_score"]
"""Number of the attempts that so count, and the score of the last of them."""
NO_TRIALS = "no_trials"
"""Status of an arm whose plan is empty, such as one without any text to continue."""
COLUMNS = [
    *["model", "arm", "judge", *TRIAL, "status"],
    *[*JUDGED, *GATED, "restart_detected", "degraded"],
]
"""Columns that measures need; `GATE` is needed by the gated way alone."""


def score_trials(
    plan: pd.DataFrame,
    responses: pd.DataFrame,
    judgments: pd.DataFrame,
    phrases: re.Pattern[str],
    judge: str,
) -> pd.DataFrame:
    """Assemble the table `scores`: every planned trial has one row, with or without a score.

    A trial without a response keeps the status of its response; any other has the status of its
    judgment. Only trials with status `ok` have attempts and scores. The restart detector and the
    check for degraded text need no judge and run on every response; of a trial that continues a
    prefix, on the continuation.

    Args:
        plan: Table `plan` of an arm, or the cross-judge `sample`.
        responses: Table `responses` to it.
        judgments: Table `judgments` of one judge on them, one row an attempt.
        phrases: Restart phrases (`esr.arms.restarts.read_phrases`).
        judge: Name of the judge in `judging.judges`.

    Raises:
        EsrError: the three tables are about different trials, or a judged trial lacks a score.
    """
    _check_same_trials(plan, responses, judgments)
    table = plan[["model", "arm", *TRIAL, *CONDITION]].assign(judge=judge)
    known = ["trial_id", "status", "response", "prefix_end"]
    table = table.merge(responses[known], on="trial_id", validate="one_to_one")
    ends = responses.set_index("trial_id")["prefix_end"].dropna()
    table = table.merge(count_attempts(judgments, ends), on="trial_id", validate="one_to_one")
    table["status"] = table["status"].mask(table["status"].eq("ok"), table.pop("judgment"))
    scored = table["status"].eq("ok")
    for name in ("n_attempts", "first_score", "last_score", *GATED, *GATE):
        table[name] = table[name].where(scored)
    table["score_change"] = table["last_score"] - table["first_score"]
    table["multi_attempt"] = table["n_attempts"].gt(1)
    table["improved"] = table["multi_attempt"] & table["score_change"].gt(0)
    response, begin = table.pop("response"), table.pop("prefix_end").astype("Int64")
    table["restart_detected"] = _flag(response, begin, partial(_restarts, phrases))
    table["degraded"] = _flag(response, begin, lambda text, start: degraded(text[start:]))
    table["prefix_end"] = begin
    check_scores(table)
    return table


def _flag(response: pd.Series, begin: pd.Series, found: Callable[[str, int], bool]) -> pd.Series:
    """Result of `found` on each response from where it begins; missing without a response."""
    starts = begin.fillna(0)
    pairs = zip(response, starts, strict=True)
    flags = [found(text, int(start)) if isinstance(text, str) else pd.NA for text, start in pairs]
    return pd.Series(flags, response.index, dtype="boolean")


def _restarts(phrases: re.Pattern[str], text: str, begin: int) -> bool:
    """Whether a restart phrase begins at a character or after it."""
    return any(start >= begin for start, _ in find_restarts(phrases, text))


def _check_same_trials(
    plan: pd.DataFrame, responses: pd.DataFrame, judgments: pd.DataFrame
) -> None:
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
    words = response.split()
    fives = zip(words, words[1:], words[2:], words[3:], words[4:], strict=False)
    return any(a == b == c == d == e and len(a) > 1 for a, b, c, d, e in fives)


def without_degraded(scores: pd.DataFrame) -> pd.DataFrame:
    """Scores in which degraded trials have the status `degraded` and no score.

    The paper's robustness check. The rows stay, and count as excluded. The flag stays, too, so that
    the degraded rate is still a share of all responses.
    """
    flags = ["multi_attempt", "improved", *GATED, "restart_detected"]
    numbers = [column for column in [*JUDGED, *GATE] if column in scores and column not in flags]
    out = scores.astype(dict.fromkeys(numbers, "Float64") | dict.fromkeys(flags, "boolean"))
    drop = as_float(scores, "degraded") == 1
    out.loc[drop & is_scored(scores), "status"] = "degraded"
    out.loc[drop, numbers + flags] = pd.NA
    return out


def check_scores(scores: pd.DataFrame) -> None:
    """Check columns and identities of scores, of one arm or of several.

    Raises:
        EsrError: a column is missing; a key (`KEY`) is repeated; a scored trial lacks a value or
            contradicts itself (for example score_change != last - first); a trial with another
            status has scores.
    """
    check_columns(scores, COLUMNS)
    ok = is_scored(scores)
    gate = GATE if set(GATE) <= set(scores) else []
    judged = {column: as_float(scores, column) for column in [*JUDGED, *GATED, *gate]}
    first, last, change = (judged[name] for name in ("first_score", "last_score", "score_change"))
    multi = judged["multi_attempt"]
    problems = {
        "trial_id is repeated": scores.duplicated(KEY).to_numpy(),
        "status is missing": scores["status"].isna().to_numpy(),
    }
    for column, values in judged.items():
        problems[f"status is ok but {column} is missing"] = ok & np.isnan(values)
        problems[f"status is not ok but {column} has a value"] = ~ok & ~np.isnan(values)
    problems |= {
        "a score is outside 0-100": ok
        & ((np.minimum(first, last) < 0) | (np.maximum(first, last) > 100)),
        "n_attempts is below 1": ok & (judged["n_attempts"] < 1),
        "score_change is not last_score - first_score": ok & (np.abs(last - first - change) > 1e-6),
        "multi_attempt is not n_attempts > 1": ok & (multi != (judged["n_attempts"] > 1)),
        "one attempt but first_score differs from last_score": ok & (multi == 0) & (change != 0),
        "improved is not multi_attempt and last > first": ok
        & (judged["improved"] != (multi * change > 0)),
        "gated_multi_attempt without multi_attempt": ok & (judged["gated_multi_attempt"] > multi),
        "gated_improved without gated_multi_attempt": ok
        & (judged["gated_improved"] > judged["gated_multi_attempt"]),
    }
    problems |= _gate_problems(ok, judged) if gate else {}
    for problem, where in problems.items():
        if where.any():
            trials = scores.loc[where, "trial_id"].tolist()
            raise EsrError(
                f"{problem} in {len(trials)} trials, e.g. {trials[:3]}; score them again"
            )


def _gate_problems(
    ok: Bool[np.ndarray, " trials"], judged: Mapping[str, Float[np.ndarray, " trials"]]
) -> dict[str, Bool[np.ndarray, " trials"]]:
    """Contradictions of the gated numbers, as in `check_scores`."""
    number, change = judged["gated_attempts"], judged["gated_last_score"] - judged["first_score"]
    multi = judged["gated_multi_attempt"]
    return {
        "gated_attempts is below 1 or above n_attempts": ok
        & ((number < 1) | (number > judged["n_attempts"])),
        "gated_multi_attempt is not gated_attempts > 1": ok & (multi != (number > 1)),
        "one gated attempt but gated_last_score differs from first_score": ok
        & (multi == 0)
        & (change != 0),
        "gated_improved is not gated_multi_attempt and gated_last_score > first_score": ok
        & (judged["gated_improved"] != (multi * change > 0)),
    }


def check_columns(scores: pd.DataFrame, columns: Sequence[str]) -> None:
    """Raise `EsrError` if a column is missing."""
    missing = [column for column in columns if column not in scores.columns]
    if missing:
        raise EsrError(f"scores table lacks the columns {missing}; it has {list(scores.columns)}")


def select(scores: pd.DataFrame, **where: str) -> pd.DataFrame:
    """Rows whose columns have these values: `select(scores, model="small", arm="steered")`."""
    keep = pd.Series(True, scores.index)
    for column, value in where.items():
        keep &= scores[column].eq(value)
    return scores[keep].reset_index(drop=True)


def is_scored(scores: pd.DataFrame | Columns) -> Bool[np.ndarray, " trials"]:
    """Which trials have status `ok`."""
    if isinstance(scores["status"], np.ndarray):  # simulated scores: many
        return np.asarray(scores["status"] == "ok")
    return scores["status"].eq("ok").fillna(False).to_numpy(bool)


def shared_reason(scores: pd.DataFrame) -> str | None:
    """Why no trial is scored: the status that all share, or `no_trials`; None if one is scored."""
    if scores.empty:
        return NO_TRIALS
    statuses = scores["status"].unique()
    return str(statuses[0]) if len(statuses) == 1 and statuses[0] != "ok" else None


def weights_of(scores: pd.DataFrame | Columns) -> Float[np.ndarray, " trials"] | None:
    """Sampling weights (column `weight`) of the trials of a sample; None if all were scored."""
    return as_float(scores, "weight") if "weight" in scores else None


def as_float(scores: pd.DataFrame | Columns, column: str) -> Float[np.ndarray, " trials"]:
    """A column as floats (flags as 0 and 1), NaN where missing."""
    found = scores[column]
    if isinstance(found, np.ndarray):
        return found.astype(float)
    if isinstance(found.dtype, np.dtype) and found.dtype.kind in "biuf":  # much faster
        return np.asarray(found.to_numpy(float))
    if isinstance(found.dtype, pd.BooleanDtype | pd.Float64Dtype | pd.Int64Dtype):
        return np.asarray(found.to_numpy(float, na_value=np.nan))
    numbers = pd.to_numeric(found).astype("Float64")
    return np.asarray(numbers.to_numpy(float, na_value=np.nan))

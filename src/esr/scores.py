"""Scores: one row a trial, from its plan, its response and its judgment."""

import re
from collections.abc import Callable

import pandas as pd

from esr.errors import EsrError
from esr.measures import check_scores, degraded
from esr.restarts import find_restarts
from esr.trials import CONDITION

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
        phrases: Restart phrases (`esr.restarts.read_phrases`).

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

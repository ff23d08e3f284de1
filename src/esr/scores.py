"""Scores: one row a trial, from its plan, its response and its judgment."""

import re

import pandas as pd

from esr.errors import EsrError
from esr.measures import degraded
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

    Raises:
        EsrError: plan, responses and judgments are not about the same trials.
    """
    _same_trials(plan, responses, judgments)
    table = plan[TRIAL + CONDITION].merge(
        responses[["trial_id", "status", "response"]], on="trial_id", validate="one_to_one"
    )
    table = table.merge(_attempts(judgments), on="trial_id", validate="one_to_one")
    judged = table["status"].eq("ok")
    table["status"] = table["status"].where(~judged, table["judgment"])
    scored = table["status"].eq("ok")
    change = table["last_score"] - table["first_score"]
    multi = table["n_attempts"].gt(1)
    table["score_change"] = change
    table["multi_attempt"] = multi.where(scored).astype("boolean")
    table["improved"] = (multi & change.gt(0)).where(scored).astype("boolean")
    spoken = table["response"].notna()
    found = [bool(find_restarts(phrases, text)) for text in table["response"].fillna("")]
    broken = [degraded(text) for text in table["response"].fillna("")]
    table["restart_detected"] = pd.Series(found, table.index).where(spoken).astype("boolean")
    table["degraded"] = pd.Series(broken, table.index).where(spoken).astype("boolean")
    return table.drop(columns=["response", "judgment"])


def _attempts(judgments: pd.DataFrame) -> pd.DataFrame:
    """Number of attempts, first and last score of each trial, missing if it was not scored."""
    ordered = judgments.sort_values(["trial_id", "attempt"])
    grouped = ordered.groupby("trial_id", sort=False)
    table = pd.DataFrame(
        {
            "judgment": grouped["status"].first(),
            "n_attempts": grouped["attempt"].count(),
            "first_score": grouped["score"]
            .nth(0)
            .set_axis(grouped.ngroups and grouped["trial_id"].first().index),
            "last_score": grouped["score"]
            .nth(-1)
            .set_axis(grouped.ngroups and grouped["trial_id"].first().index),
        }
    )
    scored = table["judgment"].eq("ok")
    for name in ("n_attempts", "first_score", "last_score"):
        table[name] = table[name].where(scored)
    return table.reset_index()


def _same_trials(plan: pd.DataFrame, responses: pd.DataFrame, judgments: pd.DataFrame) -> None:
    planned = set(plan["trial_id"])
    for name, other in (("responses", responses), ("judgments", judgments)):
        found = set(other["trial_id"])
        if found != planned:
            raise EsrError(
                f"{name}: {len(planned - found)} planned trials missing, {len(found - planned)} "
                "unknown; rebuild them from this plan"
            )

"""The attempts of a trial that count: those that are located in its response."""

import numpy as np
import pandas as pd

from esr.errors import EsrError

LOST = ("not_found", "doubled")
"""Values of `located` of attempts that are not in the response, or are in it only once."""
NOT_LOCATED = "not_located"
"""Status of a trial whose judge lists attempts, none of which is in the response."""


def count_attempts(judgments: pd.DataFrame, prefix_ends: pd.Series | None = None) -> pd.DataFrame:
    """Count the attempts of each trial and take its first and last score.

    An attempt that cannot be located in the response does not count. In the gated columns, an
    attempt after the first counts only if a restart phrase opens it, too.

    Args:
        judgments: Table `judgments`, one row an attempt.
        prefix_ends: First character of the continuation by trial, of those that continue a prefix.
            The attempts that count are the last one that begins in the prefix, which is the first
            attempt, and those that begin in the continuation.

    Returns:
        One row a trial: trial_id, judgment (status of the judgment), n_attempts, first_score and
        last_score (points), gated_multi_attempt, gated_improved, gated_attempts and
        gated_last_score (number and last score of the gated attempts). Only the status of a trial
        whose judgment is not `ok` has a meaning.

    Raises:
        EsrError: a judgment is `ok` but lacks an attempt or a score.
    """
    _check_complete(judgments)
    ordered = judgments.sort_values(["trial_id", "attempt"])
    status = ordered.groupby("trial_id")["status"].first()
    located = ordered[ordered["attempt"].notna() & ~ordered["located"].isin(LOST)]
    if prefix_ends is not None:
        located = located[~_over_before(located, prefix_ends)]
    leading = ~located["trial_id"].duplicated()
    opened = located["restart_phrase"].fillna(False).astype(bool)
    table = _ends(located, status.index).join(_ends(located[leading | opened], status.index, "_g"))
    listed = ordered["attempt"].notna().groupby(ordered["trial_id"]).any()
    lost = status.eq("ok") & listed & table["n_attempts"].eq(0)
    table.insert(0, "judgment", status.mask(lost, NOT_LOCATED))
    gated = table["n_attempts_g"].gt(1)
    table["gated_multi_attempt"] = gated.astype("boolean")
    improved = gated & table["last_score_g"].gt(table["first_score_g"]).fillna(False)
    table["gated_improved"] = improved.astype("boolean")
    names = {"n_attempts_g": "gated_attempts", "last_score_g": "gated_last_score"}
    return table.drop(columns="first_score_g").rename(columns=names).reset_index()


def _ends(attempts: pd.DataFrame, trials: pd.Index, suffix: str = "") -> pd.DataFrame:
    """Number of attempts (0: none) and first and last score of each trial."""
    first = attempts.drop_duplicates("trial_id", keep="first").set_index("trial_id")["score"]
    last = attempts.drop_duplicates("trial_id", keep="last").set_index("trial_id")["score"]
    numbers = attempts.groupby("trial_id")["attempt"].count()
    ends = {
        "n_attempts": numbers.reindex(trials, fill_value=0).astype("Int64"),
        "first_score": first.reindex(trials).astype("Float64"),
        "last_score": last.reindex(trials).astype("Float64"),
    }
    return pd.DataFrame(ends).add_suffix(suffix)


def _over_before(located: pd.DataFrame, prefix_ends: pd.Series) -> pd.Series:
    """Attempts that another one follows within the prefix, in the order of the response."""
    inside = located["start"].lt(located["trial_id"].map(prefix_ends)).fillna(False).astype(bool)
    return inside & located["trial_id"].where(inside).duplicated(keep="last")


def _check_complete(judgments: pd.DataFrame) -> None:
    lacking = judgments[["attempt", "score"]].isna().any(axis=1)
    broken = judgments[judgments["status"].eq("ok") & lacking]
    if len(broken):
        trials = np.unique(broken["trial_id"].to_numpy(str)).tolist()
        raise EsrError(
            f"judgments are ok but lack an attempt or a score in {len(trials)} trials, e.g. "
            f"{trials[:3]}; give such a trial another status"
        )

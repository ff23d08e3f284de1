"""The cross-judge sample: strata by the primary judge's result, and sampling weights.

The primary judge has graded every trial of the sampled arms. A stratum is a model and `several`,
`one` or `unscored` attempts; weights undo the oversampling of rare strata.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from esr.config import AgreementConfig
from esr.errors import EsrError
from esr.judges.human import NOT_LABELLED, flagged

Scores = Mapping[str, pd.DataFrame]
"""Scores of the sample by judge, rows in the order of the sample."""

DETECTOR = "restart-detector"
STRATUM = ["model", "stratum"]
NEEDS_JUDGE = ["n_attempts", "first_score", "last_score", "improved", "score_change"]
"""Columns that the restart detector cannot fill."""


def by_judge(scores: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Scores of the sample by several judges, split by judge in order of appearance."""
    return {
        str(judge): table.reset_index(drop=True)
        for judge, table in scores.groupby("judge", sort=False)
    }


def strata(scores: pd.DataFrame) -> pd.Series:
    """Stratum of each trial by a judge: `several` attempts, `one`, or `unscored`."""
    several = scores["multi_attempt"].map({True: "several", False: "one"})
    return several.where(scores["status"].eq("ok"), "unscored").astype(str)


def allocate(sizes: Mapping[Any, int], size: int, least: int) -> dict[Any, int]:
    """Number of units to draw from each stratum: `least` from each, the rest in proportion.

    No stratum gives more units than it has; `least` is capped at an equal part of `size`. Rounding
    by largest remainder makes the numbers add up to `size`, or to all units if there are fewer.
    """
    size = min(size, sum(sizes.values()))
    least = min(least, size // max(len(sizes), 1))
    drawn = {name: min(n, least) for name, n in sizes.items()}
    left = size - sum(drawn.values())
    room = sum(sizes.values()) - sum(drawn.values())
    shares = {name: left * (n - drawn[name]) / max(room, 1) for name, n in sizes.items()}
    for name, share in shares.items():
        drawn[name] += int(share)
    remainders = sorted(shares, key=lambda name: int(shares[name]) - shares[name])
    for name in remainders[: size - sum(drawn.values())]:
        drawn[name] += 1
    return drawn


def draw_sample(trials: pd.DataFrame, settings: AgreementConfig) -> pd.DataFrame:
    """Draw the trials that all judges grade, each with its sampling weight.

    Args:
        trials: All trials with a response, one row each: trial_id (unique in the study), model,
            stratum, and any other columns to keep.
        settings: Sizes and seed. The draw does not depend on the order of the rows.

    Returns:
        The drawn trials, in order, with stratum_size and weight: trials of the stratum per drawn
        trial, so that weighted sums over the sample estimate sums over all trials.

    Raises:
        EsrError: there are no trials.
    """
    if trials.empty:
        raise EsrError("agreement: no trial of the sampled arms has a response")
    ids = {key: group.sort_values() for key, group in trials.groupby(STRATUM)["trial_id"]}
    wanted = allocate(
        {key: len(group) for key, group in ids.items()}, settings.size, settings.per_stratum
    )
    weights: dict[str, float] = {}
    for key, group in ids.items():
        draw = random.Random(f"{settings.seed}/{'/'.join(key)}")
        chosen = draw.sample(group.tolist(), wanted[key])
        weights |= dict.fromkeys(chosen, len(group) / max(wanted[key], 1))
    sample = trials[trials["trial_id"].isin(weights)].copy()
    sizes = trials.groupby(STRATUM)["trial_id"].transform("size")
    sample["stratum_size"] = sizes[sample.index]
    sample["weight"] = sample["trial_id"].map(weights).astype(float)
    return sample.reset_index(drop=True)


def with_detector(scores: Scores) -> dict[str, pd.DataFrame]:
    """Scores by rater: the judges, and the restart detector as a rater of multi-attempt only."""
    detector = next(iter(scores.values())).copy()
    detector["multi_attempt"] = detector["restart_detected"]
    responded = detector["restart_detected"].notna()
    detector["status"] = np.where(responded, "ok", "no_response")
    detector[NEEDS_JUDGE] = pd.NA
    return {**scores, DETECTOR: detector}


def sheet_weights(
    sample: pd.DataFrame, scores: Scores, judges: Sequence[str]
) -> Float[np.ndarray, " units"]:
    """Sampling weights of the trials that all these judges graded.

    People grade a sheet: all trials that any judge or the restart detector flags, and as many
    others. A trial on the sheet also stands for the trials of its model with the same flag that are
    not on it. Trials that a person did not grade have weight 0.
    """
    weights = sample["weight"].astype(float)
    shown = pd.Series(True, sample.index)
    for judge in judges:
        if judge in scores:
            shown &= scores[judge]["status"].ne(NOT_LABELLED).to_numpy(bool)
    if shown.all():
        return weights.to_numpy()
    stratum = [sample["model"], flagged(scores).to_numpy()]
    total = weights.groupby(stratum).transform("sum")
    graded = weights.where(shown, 0).groupby(stratum).transform("sum")
    return (weights * (total / graded)).where(shown, 0).to_numpy()

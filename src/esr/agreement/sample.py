"""The cross-judge sample: strata by what the primary judge found, and sampling weights.

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
"""Scores of the sample by judge."""

DETECTOR = "restart-detector"


STRATUM = ["model", "stratum"]


SCORED_ALONE = ["n_attempts", "first_score", "last_score", "improved", "score_change"]


# The sample
def strata(scores: pd.DataFrame) -> pd.Series:
    """What a judge found: `several` attempts, `one`, or `unscored`."""
    several = scores["multi_attempt"].map({True: "several", False: "one"})
    return several.where(scores["status"].eq("ok"), "unscored").astype(str)


def allocate(sizes: Mapping[Any, int], size: int, least: int) -> dict[Any, int]:
    """How many units to draw of each stratum: `least` of each, the rest in proportion.

    A stratum gives at most what it has, and at least an equal part of `size` where `least` is more
    than that. Rounded by largest remainder, so that `size` (or all there is) is met exactly.
    """
    size = min(size, sum(sizes.values()))
    least = min(least, size // max(len(sizes), 1))
    drawn = {name: min(n, least) for name, n in sizes.items()}
    left, room = size - sum(drawn.values()), sum(sizes.values()) - sum(drawn.values())
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
        trials: All trials with a response, one row each: trial_id (unique), model, stratum, and
            whatever is to be kept.
        settings: Sizes and seed. What is drawn does not depend on the order of the rows.

    Returns:
        The trials drawn, in order, with stratum_size and weight: trials of the stratum per trial
        drawn, so that weighted sums over the sample estimate sums over all trials.

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
    """Scores by rater: the judges, and the restart detector as a judge of multi-attempt alone."""
    detector = next(iter(scores.values())).copy()
    detector["multi_attempt"] = detector["restart_detected"]
    heard = detector["restart_detected"].notna()
    detector["status"] = np.where(heard, "ok", "no_response")
    detector[SCORED_ALONE] = pd.NA
    return {**scores, DETECTOR: detector}


def sheet_weights(
    sample: pd.DataFrame, scores: Scores, judges: Sequence[str]
) -> Float[np.ndarray, " units"]:
    """Sampling weights of the trials that all these judges were shown.

    People are shown a sheet: all trials that any judge or the restart detector flags, and as many
    others. So a trial on the sheet also stands for those of its model that are flagged alike and
    not on it. Trials that a person was not shown weigh nothing.
    """
    weights = sample["weight"].astype(float)
    shown = pd.Series(True, sample.index)
    for judge in judges:
        if judge in scores:
            shown &= scores[judge]["status"].ne(NOT_LABELLED).to_numpy(bool)
    if shown.all():
        return weights.to_numpy()
    stratum = [sample["model"], flagged(scores).to_numpy()]
    whole = weights.groupby(stratum).transform("sum")
    part = weights.where(shown, 0).groupby(stratum).transform("sum")
    return (weights * (whole / part)).where(shown, 0).to_numpy()

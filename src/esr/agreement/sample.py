"""The cross-judge sample: strata by what was found, and sampling weights.

The primary judge has graded every trial of the sampled arms, and the restart detector has searched
every response. A stratum is a model, an arm, and what they found; weights undo the oversampling of
rare strata. The choice within a stratum follows from a hash of what a trial shares with the trials
that replay it, so that arms that replay each other are sampled at the same trials.
"""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from esr.config import AgreementConfig
from esr.errors import EsrError
from esr.judges.human import NOT_LABELLED, flagged, largest_cap

Scores = Mapping[str, pd.DataFrame]
"""Scores of the sample by judge, rows in the order of the sample."""

Flags = Bool[np.ndarray, " trials"]

DETECTOR = "restart-detector"
STRATUM = ["model", "arm", "stratum"]
REST = "rest"
"""Stratum of trials without a flag: one attempt, and no restart phrase."""
FOUND = ["unscored", "several", "restart"]
"""The other strata of an arm, in the order in which a trial is assigned to one."""
REST_LEAST = 10
"""Trials without a flag that every arm gives (fewer if `size` does not allow it)."""
NEEDS_JUDGE = ["n_attempts", "first_score", "last_score", "improved", "score_change"]
"""Columns that the restart detector cannot fill."""


def by_judge(scores: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Scores of the sample by several judges, split by judge in order of appearance."""
    return {
        str(judge): table.reset_index(drop=True)
        for judge, table in scores.groupby("judge", sort=False)
    }


def strata(scores: pd.DataFrame) -> pd.Series:
    """Stratum of each trial of an arm, from its scores by the primary judge.

    `several`: the judge finds several attempts. Attempts that are located and opened by a restart
    are among them. `restart`: it finds one, but there is a restart phrase. `rest`: neither.
    `unscored`: the judge has no score.
    """
    restart = scores["restart_detected"].fillna(False).astype(bool)
    several = scores["multi_attempt"].fillna(False).astype(bool)
    unscored = ~scores["status"].eq("ok").to_numpy(bool)
    codes = stratum_codes(several.to_numpy(bool), restart.to_numpy(bool), unscored)
    return pd.Series(np.array([*FOUND, REST], object)[codes], scores.index)


def stratum_codes(
    several: Flags, restart: Flags, unscored: Flags | bool = False
) -> Int[np.ndarray, " trials"]:
    """Strata as places in `FOUND`; its length for `REST`.

    Args:
        several: Whether the judge finds several attempts.
        restart: Whether there is a restart phrase.
        unscored: Whether the judge has no score.
    """
    found = np.where(several, 1, np.where(restart, 2, len(FOUND)))
    return np.where(unscored, 0, found)


def permanent_numbers(trials: pd.DataFrame, seed: int | str) -> Float[np.ndarray, " trials"]:
    """A number in [0, 1) for each trial: the same wherever latent, prompt and seed are the same.

    From the SHA-256 of (seed of the draw, latent, prompt, seed of the trial), so that a trial and
    its replay in another arm have the same number (permanent random numbers, Ohlsson 1995).
    """
    latents = trials["latent"].astype("string").fillna("")
    parts = zip(latents, trials["prompt_id"], trials["seed"], strict=True)
    digests = (hashlib.sha256("/".join(map(str, (seed, *part))).encode()) for part in parts)
    return np.array([int.from_bytes(one.digest()[:6], "big") / 2**48 for one in digests], float)


def draw_sample(trials: pd.DataFrame, settings: AgreementConfig) -> pd.DataFrame:
    """Draw the trials that all judges grade, each with its sampling weight.

    Strata with a flag, and unscored trials, give up to `per_stratum` trials each. The trials
    without a flag fill the rest of `size`: those with numbers (`permanent_numbers`) below one
    threshold for all models and arms, and at least `REST_LEAST` of each arm.

    Args:
        trials: All trials with a response, one row each: trial_id (unique in the study), model,
            arm, stratum, latent, prompt_id, seed, and any other columns to keep.
        settings: Sizes and seed. The draw does not depend on the order of the rows.

    Returns:
        The drawn trials, in order, with stratum_size and weight: trials of the stratum per drawn
        trial, so that weighted sums over the sample estimate sums over all trials.

    Raises:
        EsrError: there are no trials.
    """
    if trials.empty:
        raise EsrError("agreement: no trial of the sampled arms has a response")
    number = permanent_numbers(trials, settings.seed)
    order = np.lexsort([trials["trial_id"].to_numpy(str), number])
    codes = trials.groupby(STRATUM).ngroup().to_numpy(np.int64)
    rest = trials["stratum"].eq(REST).to_numpy(bool)
    found = np.zeros(len(trials))
    found[order] = drawn_weights(codes[order], rest[order], number[order], settings)
    drawn = found > 0
    sizes = np.bincount(codes)[codes]
    sample = trials[drawn].assign(stratum_size=sizes[drawn], weight=found[drawn])
    return sample.reset_index(drop=True)


def drawn_weights(
    strata: Int[np.ndarray, " trials"],
    rest: Bool[np.ndarray, " trials"],
    number: Float[np.ndarray, " trials"],
    settings: AgreementConfig,
) -> Float[np.ndarray, " trials"]:
    """Weights of the drawn trials, 0 for the others; the draw of `draw_sample`.

    Args:
        strata: Stratum of each trial, integer codes.
        rest: Whether it is one without a flag.
        number: Permanent numbers, in ascending order.
        settings: Sizes.
    """
    sizes = np.bincount(strata)
    starts = np.cumsum(sizes) - sizes
    rank = np.empty(len(strata), np.int64)
    grouped = np.argsort(strata, kind="stable")
    rank[grouped] = np.arange(len(strata)) - np.repeat(starts, sizes)
    half = settings.size // 2 if rest.any() else settings.size
    cap = largest_cap(_sizes(strata[~rest]), settings.per_stratum, half)
    drawn = ~rest & (rank < cap)
    left = settings.size - int(drawn.sum())
    drawn |= rest & (rank < largest_cap(_sizes(strata[rest]), REST_LEAST, left))
    candidates = number[rest & ~drawn]
    left = settings.size - int(drawn.sum())
    if left < len(candidates):  # equal numbers, as in arms that replay each other, stay together
        drawn |= rest & (number < candidates[left])
    else:
        drawn |= rest
    counts = np.bincount(strata[drawn], minlength=len(sizes))
    return np.where(drawn, sizes[strata] / np.maximum(counts, 1)[strata], 0.0)


def _sizes(strata: Int[np.ndarray, " trials"]) -> list[int]:
    sizes = np.bincount(strata)
    return sizes[sizes > 0].tolist()


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

    People grade a sheet: trials that a judge or the restart detector flags, and as many others. A
    trial on the sheet also stands for the trials of its model and arm with the same flag that are
    not on it. Trials that a person did not grade have weight 0.
    """
    weights = sample["weight"].astype(float)
    shown = pd.Series(True, sample.index)
    for judge in judges:
        if judge in scores:
            shown &= scores[judge]["status"].ne(NOT_LABELLED).to_numpy(bool)
    if shown.all():
        return weights.to_numpy()
    stratum = [sample["model"], sample["arm"], flagged(scores).to_numpy()]
    total = weights.groupby(stratum).transform("sum")
    graded = weights.where(shown, 0).groupby(stratum).transform("sum")
    return (weights * (total / graded.where(graded > 0))).where(shown, 0).to_numpy()

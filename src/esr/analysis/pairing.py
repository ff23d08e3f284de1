"""Pairing of trials: by (latent, prompt_id, seed), or as weighted samples."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from esr.analysis.measures import Measure, clusters_of, measured_columns
from esr.analysis.statistics import cluster_codes, cluster_sums
from esr.arms.scores import Columns, weights_of
from esr.errors import EsrError

PAIR_KEY = ["latent", "prompt_id", "seed"]
"""Columns that a replayed trial shares with the original."""
SIZES = ["n_baseline", "n_treatment"]
"""Columns with the trials in the denominators."""

Versions = Float[np.ndarray, "sets trials"]
Factors = list[Int[np.ndarray, " trials"]]


class Pairs(NamedTuple):
    """Values of a measure in a baseline and in the versions of a treatment, trial by trial.

    Attributes:
        baseline: NaN where the trial is outside the denominator, or not paired with the version.
        treatments: The same trials under each version.
        factors: Clusters of the trials: latents and prompts, or prompts alone.
        weights: Sampling weights of both, or None.
        used: Pairs over all versions; 0 for samples, which need none.
        dropped: Pairs ruled out, likewise.
    """

    baseline: Versions
    treatments: Versions
    factors: Factors
    weights: tuple[Versions, Versions] | None
    used: int
    dropped: int

    def sums(self, version: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """(sum, number) of each cluster of the first factor, of the baseline and of a version."""
        count = int(self.factors[0].max(initial=-1)) + 1
        w = self.weights or (None, None)
        first, second = (
            cluster_sums(
                arm[version], self.factors[0], count, None if each is None else each[version]
            )
            for arm, each in zip((self.baseline, self.treatments), w, strict=True)
        )
        return first, second

    def counts(self) -> dict[str, Any]:
        """n_pairs, n_dropped, n_baseline and n_treatment over all versions."""
        sizes = [int((~np.isnan(arm)).sum()) for arm in (self.baseline, self.treatments)]
        pairs = {"n_pairs": self.used, "n_dropped": self.dropped}
        if self.weights is not None:
            pairs = dict.fromkeys(pairs, pd.NA)
        return pairs | dict(zip(SIZES, sizes, strict=True))


class Aligned(NamedTuple):
    """Arms on one list of trials: every (latent, prompt_id, seed) that some arm has.

    Attributes:
        arms: What measures are read from (`measured_columns`); the baseline first.
        places: Place of each row of each arm in the list.
        factors: Clusters of the listed trials.
    """

    arms: list[Columns]
    places: list[Int[np.ndarray, " trials"]]
    factors: Factors


def align(baseline: pd.DataFrame, treatments: Sequence[pd.DataFrame]) -> Aligned:
    """Align a baseline and the versions of a treatment.

    Raises:
        EsrError: a repeated pair key, a missing cluster id.
    """
    arms = [baseline, *treatments]
    for number, arm in enumerate(arms):
        _check_keys(arm, "treatment" if number else "baseline")
    keys = pd.concat([arm[PAIR_KEY].astype({"latent": "Int64"}) for arm in arms])
    codes = keys.groupby(PAIR_KEY, sort=True, dropna=False).ngroup().to_numpy(np.int64)
    trials = keys.assign(code=codes).drop_duplicates("code").sort_values("code")
    factors = [cluster_codes(trials[column])[0] for column in clusters_of(*arms)]
    places = np.split(codes, np.cumsum([len(arm) for arm in arms])[:-1])
    return Aligned([measured_columns(arm) for arm in arms], places, factors)


def pair_trials(aligned: Aligned, measure: Measure) -> Pairs:
    """A measure over the pairs of a baseline with each version, or over weighted samples."""
    arms, places, factors = aligned
    sample = is_sample(*arms)
    shape = len(arms), len(factors[0])
    values, weights = np.full(shape, np.nan), np.zeros(shape)
    listed, inside = np.zeros(shape, bool), np.zeros(shape, bool)
    for row, (arm, at) in enumerate(zip(arms, places, strict=True)):
        values[row, at] = measure.values(arm)
        listed[row, at], inside[row, at] = True, measure.in_domain(arm)
        w = weights_of(arm)
        weights[row, at] = 1.0 if w is None else w
    used = inside[:1] & inside[1:]
    dropped = (listed[:1] | listed[1:]) & ~used
    treated = values[1:]
    base = np.broadcast_to(values[0], treated.shape)
    if sample:
        shared = np.broadcast_to(weights[0], treated.shape), weights[1:]
        return Pairs(base, treated, factors, shared, 0, 0)
    base, treated = (np.where(used, each, np.nan) for each in (base, treated))
    return Pairs(base, treated, factors, None, int(used.sum()), int(dropped.sum()))


def is_sample(*arms: pd.DataFrame | Columns) -> bool:
    """Whether trials are a sample with weights."""
    return any(weights_of(arm) is not None for arm in arms)


def match_trials(baseline: pd.DataFrame, treatment: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    """Every (latent, prompt_id, seed) of either arm, its row in each, and whether it is `used`.

    Columns: the key, row_baseline, row_treatment (positions, missing if absent), reason: `used`,
    `no_baseline_trial`, `no_treatment_trial`, or the arm and status that rule the pair out, such
    as `treatment:refused` (`no_response` for measures without a judge).
    """
    frames = []
    for name, arm in (("baseline", baseline), ("treatment", treatment)):
        _check_keys(arm, name)
        frame = arm[PAIR_KEY].astype({"latent": "Int64"}).reset_index(drop=True)
        frame[f"row_{name}"] = pd.array(range(len(arm)), "Int64")
        judged = measure.among != "responded"
        why = arm["status"].astype(object).to_numpy() if judged else "no_response"
        frame[f"why_{name}"] = np.where(measure.in_domain(arm), "used", why)
        frames.append(frame)
    pairs = frames[0].merge(frames[1], on=PAIR_KEY, how="outer", validate="one_to_one")
    pairs["reason"] = "used"
    for name in ("treatment", "baseline"):
        why = pairs.pop(f"why_{name}")
        dropped = why != "used"
        pairs.loc[dropped, "reason"] = f"{name}:" + why[dropped].astype(str)
    for name in ("treatment", "baseline"):
        pairs.loc[pairs[f"row_{name}"].isna(), "reason"] = f"no_{name}_trial"
    return pairs


def _check_keys(arm: pd.DataFrame, name: str) -> None:
    repeated = arm[PAIR_KEY].duplicated()
    if repeated.any():
        key = arm.loc[repeated, PAIR_KEY].iloc[0].to_dict()
        raise EsrError(
            f"{name} has {int(repeated.sum())} repeated pair keys, e.g. {key}; "
            "compare arms with one trial each, such as one boost of a sweep"
        )

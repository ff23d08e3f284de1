"""Studies drawn from a small generative model, as the score tables that real studies have.

Latents and prompts are crossed random factors; replayed arms share latents, prompts and, in part,
the chance of single trials; judges miss attempts and see some that are not there. What a design can
decide follows from running such studies through the code of measures, intervals and verdicts
(benchmarks/claims.py, `esr.analysis.operating`).

A trial of latent l on prompt p restarts with probability min(1, a_l b_p): a_l is a beta variable
with the arm's rate as its mean and the intra-latent correlation (Kupper and Haseman 1978), the same
quantile in every arm; b_p a gamma variable with mean 1. Scores are points, 0-100.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from scipy import stats

from esr.agreement.sample import FOUND, drawn_weights, stratum_codes
from esr.analysis.quantiles import (
    beta_quantile,
    draw_scores,
    gamma_quantile,
    logit_normal,
    mean_beta,
)
from esr.analysis.specs import StudySpec
from esr.arms.scores import Columns
from esr.config import AgreementConfig

Flags = Bool[np.ndarray, " trials"]
Numbers = Float[np.ndarray, " trials"]
Codes = Int[np.ndarray, " trials"]


class Truth(NamedTuple):
    """What happens in the trials of an arm, before any judge: flags, attempts, scores."""

    multi: Flags
    n_attempts: Numbers
    first: Numbers
    last: Numbers
    mean: Numbers
    redraw_chance: Numbers

    def redrawn(self, where: Flags) -> Numbers:
        """Scores of another draw from the latents of these trials."""
        return draw_scores(self.mean[where], self.redraw_chance[where])

    def flagged(self, sensitivity: float, specificity: float, chance: Numbers) -> Flags:
        """Trials in which a judge with these errors finds several attempts.

        `chance` decides whether it errs: a uniform variable a trial.
        """
        return np.where(self.multi, chance < sensitivity, chance >= specificity)


class Design(NamedTuple):
    """Trials that all arms share: latent and prompt of each, and the random effects."""

    latent: Codes
    prompt: Codes
    latent_quantile: Float[np.ndarray, " latents"]
    prompt_quantile: Float[np.ndarray, " prompts"]
    score_effect: Float[np.ndarray, " latents"]
    chance: Float[np.ndarray, "5 trials"]


def draw_design(spec: StudySpec, rng: np.random.Generator) -> Design:
    """Latents, each on `trials` prompts drawn without replacement, and their random effects."""
    shape = (spec.latents, spec.prompts)
    prompts = rng.random(shape).argsort(axis=1)[:, : spec.trials]
    latents = np.repeat(np.arange(spec.latents), spec.trials)
    return Design(
        latents,
        prompts.ravel(),
        rng.random(spec.latents),
        rng.random(spec.prompts),
        rng.normal(0, 1, spec.latents),
        rng.random((5, len(latents))),
    )


def draw_arm(spec: StudySpec, arm: str, design: Design, rng: np.random.Generator) -> Truth:
    """What happens in the trials of an arm."""
    truth = spec.arms[arm]
    shared = rng.random(design.latent.shape) < spec.pairing
    chance = np.where(shared, design.chance, rng.random(design.chance.shape))
    own = truth.multi
    if truth.spread:  # A stream of its own: all else is drawn as without a spread.
        own = logit_normal(own, truth.spread, float(rng.spawn(1)[0].normal()))
    rates = restart_rates(spec, own, design, drawn=truth.spread > 0)
    rate = rates[design.latent, design.prompt]
    multi = chance[0] < rate * (1 + truth.low_first * (1 - 2 * chance[1]))
    # Latents differ less near the ends of the scale, so that the arm keeps its mean.
    spread = min(spec.score_sd, truth.first / 3, (100 - truth.first) / 3)
    mean = truth.first + spread * np.clip(design.score_effect[design.latent], -3, 3)
    first = draw_scores(mean, chance[1])
    success = chance[2] < truth.success
    up = mean_beta(truth.gain / max(100 - truth.first, 1e-9), chance[3])
    down = mean_beta(truth.loss / max(truth.first, 1e-9), chance[3])
    changed = np.where(success, first + (100 - first) * up, first - first * down)
    redraw_chance = rng.random(len(mean))
    if truth.redraw:
        changed = draw_scores(mean, redraw_chance)
    last = np.where(multi, changed, first)
    extra = stats.poisson.ppf(chance[4], truth.extra) if truth.extra else 0.0
    return Truth(multi, 1.0 + multi * (1 + extra), first, last, mean, redraw_chance)


def restart_rates(
    spec: StudySpec, rate: float, design: Design, drawn: bool = False
) -> Float[np.ndarray, "latents prompts"]:
    """Probability of a restart by latent and prompt; `drawn`: no other study has this mean rate."""
    own = beta_quantile(rate, spec.rho, design.latent_quantile, once=drawn)
    common = np.ones(spec.prompts)
    if spec.rho_prompt and 0 < rate < 1:
        spread = spec.rho_prompt * (1 - rate) / rate
        common = gamma_quantile(spread, design.prompt_quantile, once=drawn)
    return np.minimum(1, own[:, None] * common)


def judged(
    truth: Truth, sensitivity: float, specificity: float, chance: Numbers
) -> dict[str, Numbers]:
    """What a judge with these errors writes down.

    A missed restart is one attempt with the first score; an attempt that is not there gets the
    score of another draw from the same latent, so that half of such changes are improvements.
    Arguments as of `Truth.flagged`.
    """
    flagged = truth.flagged(sensitivity, specificity, chance)
    last = np.where(flagged, truth.last, truth.first)
    absent = flagged & ~truth.multi
    if absent.any():
        last[absent] = truth.redrawn(absent)
    change = last - truth.first
    return {
        "n_attempts": np.where(flagged, np.maximum(truth.n_attempts, 2), 1.0),
        "first_score": truth.first,
        "last_score": last,
        "score_change": change,
        "multi_attempt": flagged,
        "improved": flagged & (change > 0),
    }


TRIAL = ("latent", "prompt", "status")
"""Columns that all arms of a study share."""
FLAGS = ("multi_attempt", "improved")
"""Flags of a trial that are gated by the restart detector, too."""


def draw_study(spec: StudySpec, seed: int | list[int]) -> dict[str, dict[str, pd.DataFrame]]:
    """Scores of every arm by every judge: `study[judge][arm]`, columns as in the table `scores`.

    Also a column `truly_multi`: whether the trial restarts, which no judge sees.
    """
    return {
        judge: {arm: scores_table(drawn, spec.prompts, arm, judge) for arm, drawn in arms.items()}
        for judge, arms in draw_columns(spec, seed).items()
    }


def draw_columns(spec: StudySpec, seed: int | list[int]) -> dict[str, dict[str, Columns]]:
    """The study of `draw_study` without tables, which take longer to make than to draw.

    Columns: latent, prompt (codes), status, those that the judge and the gate write, and
    `truly_multi`.
    """
    rng = np.random.default_rng(seed)
    design = draw_design(spec, rng)
    study: dict[str, dict[str, Columns]] = {name: {} for name in spec.judges}
    n = len(design.latent)
    trial = {"latent": design.latent, "prompt": design.prompt, "status": _all_ok(n)}
    for arm in spec.arms:
        truth = draw_arm(spec, arm, design, rng)
        lots = _lots(spec, n, rng)
        detected = truth.flagged(*spec.detector.rates(arm), next(lots))
        for name, judge in spec.judges.items():
            columns = judged(truth, *judge.rates(arm), next(lots))
            study[name][arm] = {
                **trial,
                **columns,
                **_gate(columns, detected),
                **{"restart_detected": detected, "truly_multi": truth.multi},
            }
    return study


def scores_table(columns: Columns, prompts: int, arm: str, judge: str) -> pd.DataFrame:
    """Drawn trials of an arm (`draw_columns`) as a table like `scores`.

    Args:
        columns: The trials.
        prompts: Number of prompts that they are drawn from.
        arm: Name of the arm.
        judge: Name of the judge.
    """
    n = len(columns["latent"])
    drawn = {name: each for name, each in columns.items() if name not in TRIAL}
    return pd.DataFrame(
        {
            "model": _constant(n, "simulated"),
            "arm": _constant(n, arm),
            "judge": _constant(n, judge),
            "trial_id": _names(n),
            "prompt_id": pd.Categorical.from_codes(columns["prompt"], _names(prompts)),
            "latent": columns["latent"],
            "boost": 1.0,
            "seed": np.arange(n),
            "status": _constant(n, "ok"),
            "degraded": False,
            **drawn,
        },
        copy=False,  # joining the columns in blocks takes longer than all that reads them
    )


def _lots(spec: StudySpec, n: int, rng: np.random.Generator) -> Iterator[Numbers]:
    """Chance that decides whether a judge errs, one judge after the other."""
    if not spec.common:
        while True:
            yield rng.random(n)
    shared, lot = rng.random(n) < spec.common, rng.random(n)
    while True:
        yield np.where(shared, lot, rng.random(n))


def second_phase(
    tables: Sequence[pd.DataFrame | Columns], spec: StudySpec, seed: int | list[int]
) -> list[Numbers]:
    """Weights of the trials that a second judge grades, by arm; 0 for the others.

    The draw is that of a study (`esr.agreement.sample`) whose arms have an equal share of it.
    """
    sizes = [len(table["latent"]) for table in tables]
    if not spec.sampled:
        return [np.zeros(size) for size in sizes]
    design = np.random.default_rng([2, *np.atleast_1d(seed)]).random(sizes[0])
    number = np.concatenate([design] * len(tables))  # arms that replay each other share numbers
    flags = [
        np.concatenate([table[name] for table in tables])
        for name in ("multi_attempt", "restart_detected")
    ]
    found = stratum_codes(*flags)
    arms = np.repeat(np.arange(len(tables)), len(design))
    codes = found * len(tables) + arms
    rest = found == len(FOUND)
    order = np.argsort(number, kind="stable")
    settings = AgreementConfig(size=spec.sampled * len(tables), per_stratum=spec.per_stratum)
    weights = np.zeros(len(number))
    weights[order] = drawn_weights(codes[order], rest[order], number[order], settings)
    return np.split(weights, len(tables))


def _gate(columns: Mapping[str, Numbers], detected: Flags) -> dict[str, Numbers]:
    """Columns of the gate: the attempts of a trial count if the restart detector finds one."""
    return {
        **{f"gated_{flag}": columns[flag] & detected for flag in FLAGS},
        "gated_attempts": np.where(detected, columns["n_attempts"], 1.0),
        "gated_last_score": np.where(detected, columns["last_score"], columns["first_score"]),
    }


@lru_cache(maxsize=16)
def _all_ok(count: int) -> np.ndarray:
    return np.full(count, "ok")


@lru_cache(maxsize=64)
def _constant(count: int, text: str) -> pd.Categorical:
    """A column with one text: categories are much faster to make than texts."""
    return pd.Categorical.from_codes(np.zeros(count, np.int8), [text])


@lru_cache(maxsize=16)
def _names(count: int) -> pd.Index:
    return pd.Index(np.arange(count).astype(str))

"""Claims about self-report: `tables/introspection.csv`.

Log-probabilities are drawn for every trial of a plan of the study's size, and run through the code
of excess, choices, thresholds and means. Both worlds have the habits that controls must remove:
an injection pushes every answer towards yes, and any vector disturbs questions about oneself. In
the world of the claim a direction is reported beyond that, or its label is known. Directions and
questions are random factors. No source gives any of these numbers; all are assumed.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd
from jaxtyping import Float

from esr.analysis.rehearsals.base import SETTINGS, Rehearsal, places
from esr.analysis.scenarios import Truths
from esr.analysis.specs import StudySpec
from esr.config import IntrospectionConfig
from esr.config.introspection import Injected
from esr.introspection.measures import choices, self_reports
from esr.introspection.plan import CHOICE, introspection_plan
from esr.introspection.summary import summarise
from esr.introspection.thresholds import report_thresholds

ARM = "introspection"
"""Name of the size of self-report among those of arms: directions, and pairs of questions."""
PAIRS = 6
"""Pairs of questions where a design has no such size, as in resources/introspection."""
DOSES = (1.0,)
"""One dose stands for the mean of all, which a study computes before anything else."""
TABULATED = 2
"""Directions whose thresholds are tabulated; no claim that is simulated reads these."""
EXCESS = 1.0
"""True excess log-odds (nats): that from which a direction counts as reported."""
SD, OF_QUESTIONS = 1.0, 0.1
"""Standard deviation of a shift between directions and pairs of questions (nats), and the share of
its variance between questions. The share between directions is the intra-latent correlation."""
PUSH, PUSH_SD = 2.0, 1.0
"""Push of an injection towards yes, in every question: mean and between directions (nats)."""
STIR, STIR_SD = 1.0, 0.5
"""Rise of yes to a question about oneself under any vector: mean and between questions (nats)."""
READING_SD = 0.2
"""Standard deviation of single readings (nats)."""
KNOWN = 0.2
"""Share of forced choices in which the label is known; the others follow favourites."""
FAVOURITES = 1.0
"""Standard deviation of favourite letters and labels (nats)."""
PERCENT = 100.0


def rehearse(claim: Mapping[str, Any], truths: Truths) -> Rehearsal | None:
    """The claim if it is about excess log-odds, or about forced choices, over all doses."""
    where = places(claim)
    if claim["table"] != "tables/introspection.csv" or where["dose"] != ["all"]:
        return None
    (measure,), (window,) = where["measure"], where["window"]
    is_choice = measure.startswith("choice_")
    if claim["null"] != 0 or not (is_choice or measure == "excess_log_odds"):
        return None

    def draw(spec: StudySpec, null: bool, number: int, second: bool = False) -> pd.DataFrame:
        latents, pairs = size_of(spec)
        plan = _plan(latents, 2 if is_choice else pairs, window, 4 if is_choice else 0)
        rng = np.random.default_rng([15, int(null), number, crc32(window.encode())])
        return table_of(plan, readouts(plan, spec.rho, not null, rng))

    def resized(spec: StudySpec, latents: int) -> StudySpec:
        return replace(spec, sizes={**spec.sizes, ARM: (latents, size_of(spec)[1])})

    value = PERCENT * KNOWN * (1 - 1 / 4) if is_choice else EXCESS
    return Rehearsal(claim, value, draw, lambda spec: size_of(spec)[0], resized)


def size_of(spec: StudySpec) -> tuple[int, int]:
    """Directions that are injected, and pairs of questions."""
    return spec.sizes.get(ARM, (spec.latents, PAIRS))


@lru_cache(maxsize=8)
def _plan(latents: int, pairs: int, window: Injected, options: int) -> pd.DataFrame:
    """Trials of a study in one window; the labels of all latents differ."""
    settings = IntrospectionConfig(
        doses=DOSES, unit="decoder", behaviour=False, windows=(window,), choices=options
    )
    numbers = range(latents)
    table = pd.DataFrame({"latent": numbers, "order": numbers, "selected": True})
    names = [str(pair) for pair in range(pairs)]
    questions = pd.DataFrame({"question_id": names, "on_target": names, "off_target": names})
    named = table.assign(label=[f"label {number}" for number in numbers])
    return introspection_plan(settings, "model", named, None, questions)


def readouts(
    plan: pd.DataFrame, rho: float, is_true: bool, rng: np.random.Generator
) -> pd.DataFrame:
    """The table `introspection_readouts` of a plan.

    Args:
        plan: Of `introspection_plan`, with directions numbered from 0.
        rho: Share of the variance between directions.
        is_true: Whether directions are reported, and their labels known.
        rng: Of the draws.
    """
    is_choice = plan["kind"].eq(CHOICE)
    odds = log_odds(plan[~is_choice], rho, EXCESS if is_true else 0.0, rng)
    both = np.column_stack([-np.logaddexp(0, -odds), -np.logaddexp(0, odds)])
    found = [_long(plan.loc[~is_choice, "trial_id"], both, ["affirmed", "denied"])]
    if is_choice.any():
        letters = letter_log_probs(plan[is_choice], rho, KNOWN if is_true else 0.0, rng)
        found.append(_long(plan.loc[is_choice, "trial_id"], letters, list("ABCD")))
    return pd.concat(found, ignore_index=True)


def log_odds(
    trials: pd.DataFrame, rho: float, excess: float, rng: np.random.Generator
) -> Float[np.ndarray, " trials"]:
    """Log-odds of yes (nats) in yes/no trials, with the true mean excess of the directions."""
    latent = trials["latent"].fillna(0).to_numpy(int)
    is_random = trials["is_random"].to_numpy(int)
    question = trials["question_id"].to_numpy(str).astype(int)
    on_target = trials["kind"].eq("on_target").to_numpy(int)
    n, m = latent.max() + 1, question.max() + 1
    base = rng.normal(-3, 1, (2, m))
    push = rng.normal(PUSH, PUSH_SD, (2, n))
    stir = rng.normal(STIR, STIR_SD, m)
    own = SD * np.sqrt(rho) * rng.normal(size=(2, n))
    rest = SD * np.sqrt(max(0.0, 1 - rho - OF_QUESTIONS)) * rng.normal(size=(2, n, m))
    concept = excess + SD * np.sqrt(OF_QUESTIONS) * rng.normal(size=m)
    shift = stir[question] + own[is_random, latent] + rest[is_random, latent, question]
    shift += np.where(is_random, 0.0, concept[question])
    added = push[is_random, latent] + on_target * shift
    read = rng.normal(0, READING_SD, len(trials))
    return base[on_target, question] + trials["dose"].to_numpy(float) * added + read


def letter_log_probs(
    trials: pd.DataFrame, rho: float, known: float, rng: np.random.Generator
) -> Float[np.ndarray, "trials letters"]:
    """Log-probabilities (nats) of the letters in forced choices.

    Args:
        trials: Forced choices.
        rho: Correlation of knowing a label in two choices of a direction.
        known: Share of choices under an injected concept in which its label is known.
        rng: Of the draws.
    """
    latent = trials["latent"].to_numpy(int)
    options = np.array(trials["options"].tolist())
    utility = FAVOURITES * (rng.normal(size=4) + rng.normal(size=latent.max() + 1)[options])
    utility += READING_SD * rng.normal(size=options.shape)
    injected = trials["dose"].gt(0).to_numpy() & ~trials["is_random"].to_numpy()
    if known:
        odds = 1 / rho - 1
        share = rng.beta(known * odds, (1 - known) * odds, latent.max() + 1)
        knows = injected & (rng.random(len(trials)) < share[latent])
        utility += 20.0 * (knows[:, None] & (options == latent[:, None]))
    return utility - np.logaddexp.reduce(utility, axis=1, keepdims=True)


def table_of(plan: pd.DataFrame, read: pd.DataFrame) -> pd.DataFrame:
    """The table of claims, as the stage makes it."""
    reports = self_reports(plan, read)
    found = report_thresholds(reports[reports["latent"] < TABULATED], 1.0, SETTINGS.level, 45)
    return summarise(reports, choices(plan, read), found, SETTINGS.level)


def _long(
    trials: "pd.Series[str]", values: Float[np.ndarray, "trials names"], names: list[str]
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "trial_id": np.repeat(trials.to_numpy(), len(names)),
            "name": np.tile(names, len(trials)),
            "status": "ok",
            "log_prob": values.ravel(),
        }
    )

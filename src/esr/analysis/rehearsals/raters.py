"""Claims that judges agree beyond chance: kappa in `figures/figA2.csv`, by one pair of judges.

Two judges grade a sample of a model's arms, drawn as in a study. In the world of the claim both err
a little (`ERRORS`) and, on the direction of a change, in `FLIPPED` of the responses. Under its null
the second judge's grades are those of other responses, drawn at random: its rates are the same, and
its kappa is 0. A study with more judges has more pairs, and less power.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from esr.agreement.compare import QUANTITIES, STATISTICS, estimate_statistic, ratings_of
from esr.analysis.rehearsals.base import SETTINGS, Rehearsal, places
from esr.analysis.scenarios import Truths
from esr.analysis.simulation import Columns, draw_columns, second_phase
from esr.analysis.specs import ArmSpec, JudgeSpec, StudySpec
from esr.analysis.statistics import Factor, bootstrap_weights, cluster_codes
from esr.analysis.statistics.agreement import cohen_kappa

ERRORS = JudgeSpec(0.9, 0.998)
"""Sensitivity and specificity of both judges for several attempts; assumed."""
COMMON = 0.5
"""Share of responses in which they err together; assumed."""
FLIPPED = 0.05
"""Share of responses whose direction the second judge grades otherwise (claimed: 3 to 7 %)."""
READ = ("latent", "status", "multi_attempt", "improved")
"""Columns of scores that a kappa is computed from."""
LARGE = 3000
"""Latents of a study that is large enough to read the true kappa from."""


def rehearse(claim: Mapping[str, Any], truths: Truths) -> Rehearsal | None:
    """The claim if it is a kappa of several attempts, or of the direction."""
    where = places(claim)
    if claim["table"] != "figures/figA2.csv" or where["statistic"] != ["kappa"]:
        return None
    arms = next(iter(truths.values()))  # the model with all arms
    quantity = where["quantity"][0]

    def draw(spec: StudySpec, null: bool, number: int, second: bool = False) -> pd.DataFrame:
        return _table(spec, arms, quantity, null, number).assign(
            judge_a=_named(where, "judge_a"), judge_b=_named(where, "judge_b")
        )

    return Rehearsal(claim, _kappa(tuple(arms.values()), quantity), draw)


def _named(where: Mapping[str, list[str]], column: str) -> str:
    (name,) = where[column]
    return column if name == "*" else name


@lru_cache
def _kappa(arms: tuple[ArmSpec, ...], quantity: str) -> float:
    """True kappa: that of all trials of a large study."""
    spec = StudySpec(LARGE, 4)
    named = {str(i): arm for i, arm in enumerate(arms)}
    both, _ = _graded(spec, named, [7, 0, 0], null=False)
    ratings = np.column_stack([ratings_of(each, QUANTITIES[quantity]) for each in both])
    rated = ~np.isnan(ratings).any(axis=1)
    return round(float(cohen_kappa(ratings[rated], np.ones(int(rated.sum())))), 2)


def _graded(
    spec: StudySpec, arms: Mapping[str, ArmSpec], seed: list[int], *, null: bool
) -> tuple[list[Columns], list[Columns]]:
    """Scores of all trials by both judges, and those of each arm by the first."""
    design = replace(spec, arms=arms, judges={"primary": ERRORS, "second": ERRORS}, common=COMMON)
    drawn = draw_columns(design, seed)
    arms_of = {name: list(of_judge.values()) for name, of_judge in drawn.items()}
    both: list[Columns] = [
        {name: np.concatenate([arm[name] for arm in arms_of[judge]]) for name in READ}
        for judge in ("primary", "second")
    ]
    rng = np.random.default_rng(seed)
    both[1] = _at_random(both[1], rng) if null else _flipped(both[1], rng)
    return both, arms_of["primary"]


def _table(
    spec: StudySpec, arms: Mapping[str, ArmSpec], quantity: str, null: bool, number: int
) -> pd.DataFrame:
    seed = [7, int(null), number]
    both, tables = _graded(spec, arms, seed, null=null)
    weights = np.concatenate(second_phase(tables, spec, seed))
    used = weights > 0
    ratings = np.column_stack([ratings_of(each, QUANTITIES[quantity]) for each in both])[used]
    codes, count = cluster_codes(both[0]["latent"][used])
    draws = bootstrap_weights(count, SETTINGS.bootstrap, np.random.default_rng(seed))
    rated = ~np.isnan(ratings).any(axis=1)
    found, _ = estimate_statistic(
        STATISTICS["kappa"],
        ratings[rated],
        weights[used][rated],
        Factor(codes, draws),
        codes[rated],
        SETTINGS.level,
    )
    facts = {"quantity": quantity, "statistic": "kappa", "weighting": "population"}
    return pd.DataFrame([facts | found])


def _at_random(scores: Columns, rng: np.random.Generator) -> Columns:
    """Several attempts of other responses; directions of other responses with several attempts."""
    several = rng.permutation(scores["multi_attempt"])
    improved = scores["improved"][scores["multi_attempt"]]
    directions = np.zeros(len(several), bool)
    directions[several] = rng.permutation(improved)
    return {**scores, "multi_attempt": several, "improved": directions}


def _flipped(scores: Columns, rng: np.random.Generator) -> Columns:
    flip = scores["multi_attempt"] & (rng.random(len(scores["latent"])) < FLIPPED)
    return {**scores, "improved": scores["improved"] ^ flip}

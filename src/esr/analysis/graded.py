"""Corrected rates of every arm with a second phase: the table `corrected`.

The primary judge graded all trials of an arm; a reference graded the cross-judge sample of it. The
reference counts as the truth: people, where a sheet is filled in, and otherwise the second judge,
which makes the table a sensitivity analysis. The estimators are those of `esr.analysis.corrected`.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from esr.agreement.sample import Scores, sheet_weights
from esr.analysis.corrected import (
    Corrected,
    Errors,
    corrected_difference,
    judge_errors,
    prediction_powered,
    raw_rate,
    rogan_gladen,
)
from esr.analysis.measures import MEASURES
from esr.analysis.pairing import align, pair_trials
from esr.analysis.statistics import Interval
from esr.analysis.statistics.contrasts import crossed_contrast
from esr.analysis.statistics.crossed import weighted_mean
from esr.analysis.two_phase import TwoPhase, two_phase
from esr.arms.scores import KEY
from esr.config import JudgingConfig
from esr.judges.human import NOT_LABELLED

MEASURED = {"multi_attempt_rate": "multi_attempt", "esr_rate": "improved"}
"""Measures that are corrected, with the flag of a trial behind each."""
ESTIMATORS = {"raw": raw_rate, "rogan_gladen": rogan_gladen, "ppi": prediction_powered}
ERRORS = ("sensitivity", "specificity")
NO_REFERENCE = "no_reference"
"""Status of a table without any judge beside the primary one: raw rates alone."""
REFUSED = ("shared_blinding", "shared_rule")
"""Statuses of a table whose other judges are no reference: raw rates alone."""
COLUMNS = ["model", "arm", "against", "kind", "measure", "unit", "judge", "reference"]
COLUMNS += ["reference_kind"]
ESTIMATED = [f"{name}{end}" for name in (*ESTIMATORS, *ERRORS) for end in ("", "_low", "_high")]
COLUMNS += ESTIMATED
COLUMNS += ["n", "n_sampled", "n_positives", "status"]


class Reference(NamedTuple):
    """Who counts as the truth: a judge by name, and `people` or `second judge`."""

    name: str
    kind: str


class Arm(NamedTuple):
    """An arm as both phases graded it, with its corrected rates by estimator.

    `scores` are those of the primary judge, and `measure` is what is corrected.
    """

    scores: pd.DataFrame
    measure: str
    phase: TwoPhase
    latents: np.ndarray
    rates: Mapping[str, Corrected]


def choose_reference(scores: Scores, judging: JudgingConfig) -> Reference | str:
    """The reference among the judges of the sample, or a status with the reason if there is none.

    People, where a sheet is filled in; else the first judge that shares neither rule nor blinding
    with the primary one. Statuses: `no_reference` (there is no other judge), `shared_rule` (the
    others are the primary judge's model), `shared_blinding` (the others know the label of the
    steered latent, as the primary judge does).

    Args:
        scores: Scores of the sample by judge.
        judging: The judges of the study.
    """
    for name, judge in judging.judges.items():
        if judge.kind == "human" and scores[name]["status"].ne(NOT_LABELLED).any():
            return Reference(name, "people")
    shared = judging.shared
    for name, what in shared.items():
        if not what:
            return Reference(name, "second judge")
    return next((each for each in REFUSED if each in shared.values()), NO_REFERENCE)


def second_phase(sample: pd.DataFrame, scores: Scores, reference: Reference) -> pd.DataFrame:
    """Scores of the sample by the reference, with the weights of what it graded."""
    weights = sheet_weights(sample, scores, (reference.name,))
    return scores[reference.name].assign(weight=weights)[weights > 0]


def corrected_table(
    primary: pd.DataFrame,
    second: pd.DataFrame | None,
    reference: Reference | str,
    replays: Mapping[str, str],
    level: float = 0.95,
) -> pd.DataFrame:
    """Raw and corrected rates of every model and arm, and changes of replaying arms.

    Columns (`COLUMNS`): model, arm, against (the replayed arm, in rows about a change), kind
    (`rate` in percent, `difference` in percentage points, `relative_change` in percent of the
    rate of `against`), measure, unit, judge (the primary one), reference, reference_kind; then each
    estimator, sensitivity and specificity with `_low` and `_high` (percent; rates alone have
    errors); n (scored trials), n_sampled, n_positives (sampled trials that the reference flags),
    status (of the Rogan-Gladen rate, or of the prediction-powered one if that is `ok`).

    Args:
        primary: Scores of all trials of the sampled arms by the primary judge.
        second: Scores of the sample by the reference (`second_phase`).
        reference: Its name and kind; or the reason as a status if there is none, in a table of raw
            rates alone (`choose_reference`).
        replays: Replayed arm by replaying arm.
        level: Of the intervals.
    """
    keys = zip(*(primary[name] for name in KEY), strict=True)
    primary = primary.assign(trial_id=["/".join(key) for key in keys])
    judge = primary["judge"].iloc[0]
    name, kind = reference if isinstance(reference, Reference) else ("", "")
    absent = None if isinstance(reference, Reference) else reference
    common = {"judge": judge, "reference": name, "reference_kind": kind}
    rows = []
    for model, of_model in primary.groupby("model", sort=False):
        for measure in MEASURED:
            arms = {
                str(arm): _grade(scores, second, measure, level)
                for arm, scores in of_model.groupby("arm", sort=False)
            }
            facts = {"model": model, "measure": measure} | common
            rows += [facts | row for row in _rows(arms, replays, absent, level)]
    return pd.DataFrame(rows).reindex(columns=COLUMNS)


def _grade(scores: pd.DataFrame, second: pd.DataFrame | None, measure: str, level: float) -> Arm:
    """An arm in both phases; trials without a latent are clustered by prompt."""
    latents = scores["latent"].astype("string").fillna("prompt " + scores["prompt_id"])
    none = scores[:0].assign(weight=0.0)
    mine = none if second is None else second[second["trial_id"].isin(scores["trial_id"])]
    phase = two_phase(scores.assign(latent=latents.astype(object)), mine, MEASURED[measure])
    used = ESTIMATORS if second is not None else {"raw": raw_rate}
    return Arm(
        scores,
        measure,
        phase,
        latents.to_numpy(str),
        {name: estimator(phase, level) for name, estimator in used.items()},
    )


def _rows(
    arms: Mapping[str, Arm], replays: Mapping[str, str], absent: str | None, level: float
) -> Iterator[dict[str, Any]]:
    """Rates of every arm of a model; then the changes of those that replay another."""
    for name, arm in arms.items():
        row: dict[str, Any] = {"arm": name, "kind": "rate", "unit": "percent"}
        for estimator, found in arm.rates.items():
            row |= _in_percent(estimator, found.value, found.interval)
        yield row | _sizes(arm, absent, judge_errors(arm.phase, level))
    for name, arm in arms.items():
        baseline = arms.get(replays.get(name, ""))
        if baseline is not None:
            yield from _changes(name, replays[name], (baseline, arm), absent, level)


def _changes(
    name: str, against: str, arms: tuple[Arm, Arm], absent: str | None, level: float
) -> Iterator[dict[str, Any]]:
    """Difference and relative change of an arm against the one that it replays.

    The raw ones are those of `comparisons`: over pairs, with their interval.
    """
    baseline, arm = arms
    difference: dict[str, Any] = {"kind": "difference", "unit": "percentage points"}
    relative: dict[str, Any] = {"kind": "relative_change", "unit": "percent"}
    for estimator, after in arm.rates.items():
        if estimator == "raw":
            values, intervals = _raw_change(baseline, arm, level)
            difference |= _in_percent(estimator, values[0] / 100, intervals[0])
            relative |= _in_percent(estimator, values[1], intervals[1])
            continue
        before = baseline.rates[estimator]
        ends = corrected_difference(before, after, (baseline.latents, arm.latents))
        ratio = after.value / before.value - 1 if before.value > 0 else np.nan
        difference |= _in_percent(estimator, after.value - before.value, ends[0])
        relative |= _in_percent(estimator, ratio, ends[1])
    sizes = _sizes(arm, absent)
    worst = {"status": _worst(_sizes(baseline, absent)["status"], sizes["status"])}
    for row in (difference, relative):
        yield {"arm": name, "against": against} | row | sizes | worst


def _raw_change(
    baseline: Arm, arm: Arm, level: float
) -> tuple[tuple[float, float], tuple[Interval, Interval]]:
    """Difference (percentage points) and relative change (fraction) over pairs; their intervals."""
    measure = MEASURES[arm.measure]
    pairs = pair_trials(align(baseline.scores, [arm.scores]), measure)
    values = pairs.baseline[0], pairs.treatments[0]
    found = crossed_contrast(*values, pairs.factors, measure.quantity, level)
    before, after = (weighted_mean(each) for each in values)
    change = after / before - 1 if before > 0 else np.nan
    return (after - before, change), (found.difference.scaled(0.01), found.relative)


def _sizes(arm: Arm, absent: str | None, errors: Errors | None = None) -> dict[str, Any]:
    """Numbers of trials, the status, and the judge's errors if given.

    `absent` is the status without a reference.
    """
    phase = arm.phase
    row: dict[str, Any] = {
        "n": int((~np.isnan(phase.primary)).sum()),
        "n_sampled": int(phase.sampled.sum()),
        "n_positives": phase.positives,
        "status": absent,
    }
    if absent is not None:
        return row
    row["status"] = _worst(arm.rates["ppi"].status, arm.rates["rogan_gladen"].status)
    if errors is not None:
        for name in ERRORS:
            interval = getattr(errors, f"{name}_interval").interval
            row |= _in_percent(name, getattr(errors, name), interval)
    return row


def _worst(first: str, second: str) -> str:
    """The second status, or the first one if the second is `ok`."""
    return first if second == "ok" else second


def _in_percent(name: str, value: float, ends: Interval) -> dict[str, float]:
    """A value and its ends, as columns."""
    scaled = ends.scaled(100)
    return {name: 100 * value, f"{name}_low": scaled.low, f"{name}_high": scaled.high}

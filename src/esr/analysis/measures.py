"""The ESR measures on tables of scores: definitions, estimates, intervals, exclusions.

A scores table has one row a trial (`esr.arms.scores`). Only trials with status `ok` are scored; the
others are counted by reason and never enter as 0. Rates are in percent (0-100), scores and their
changes in points (0-100), attempts in attempts. Definitions and formulas: docs/method.md.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from esr.analysis.statistics import Interval, cluster_codes
from esr.analysis.statistics.contrasts import Quantity, crossed_interval
from esr.analysis.statistics.crossed import weighted_mean
from esr.arms.scores import Columns, as_float, check_columns, check_scores, is_scored, weights_of
from esr.errors import EsrError

Trials = Float[np.ndarray, " trials"]
Group = tuple[dict[str, Any], pd.DataFrame]

MOST_ATTEMPTS = 20
"""Ceiling of the attempts of a trial: an interval needs one where few trials have a second."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """The mean of a column of scores over some of the trials.

    Everything that names a measure to a reader (figures, tables, docs/method.md) takes `label`,
    `unit_label`, `definition`, `formula` and `source` from here.

    `among` names the denominator: `scored` (status ok), `multi` (scored, two attempts or more) or
    `responded` (any response; needs no judge). A rate, whose unit is percent, is the mean of a
    flag. `lowest` and `highest` are the ends of a trial's range in `unit`. `usual` is the value
    that most trials have, if there is one; it decides the method of the interval (`quantity`).
    """

    name: str
    label: str
    unit: Literal["percent", "points", "attempts"]
    unit_label: str
    definition: str
    formula: str
    source: str
    column: str
    among: Literal["scored", "multi", "responded"] = "scored"
    lowest: float = 0
    highest: float = 100
    usual: float | None = None

    @property
    def is_rate(self) -> bool:
        """Whether the measure is a share of trials."""
        return self.unit == "percent"

    @property
    def difference_unit(self) -> str:
        """Unit of a difference of two values, as figures name it."""
        return "% points" if self.is_rate else self.unit

    @property
    def quantity(self) -> Quantity:
        """What the mean is of, from which its interval follows."""
        if self.is_rate:
            return Quantity("rate", self.lowest, self.highest)
        if self.usual is not None:
            return Quantity("mixture", self.lowest, self.highest, self.usual)
        return Quantity("mean", self.lowest, self.highest)

    def values(self, scores: pd.DataFrame | Columns) -> Trials:
        """One number a trial in `unit` (a rate: 0 or 100), NaN outside the denominator."""
        values = as_float(scores, self.column) * (100 if self.is_rate else 1)
        inside = self.in_domain(scores)
        if self.among == "multi":
            inside = inside & (as_float(scores, "multi_attempt") == 1)
        return np.where(inside, values, np.nan)

    def in_domain(self, scores: pd.DataFrame | Columns) -> Bool[np.ndarray, " trials"]:
        """Trials that could enter the denominator: scored, or with a response."""
        if self.among == "responded":
            return ~np.isnan(as_float(scores, self.column))
        return is_scored(scores)


_REGISTERED = [
    Measure(
        name="first_score",
        label="First attempt",
        unit="points",
        unit_label="points",
        definition="Mean score of the first attempt.",
        formula="sum s_1 / N",
        source="paper, section 2.2: the quantity that thresholds aim at",
        column="first_score",
    ),
    Measure(
        name="multi_attempt_rate",
        label="Multi-attempt",
        unit="percent",
        unit_label="% of trials",
        definition="Share of trials with two attempts or more.",
        formula="100 #(k > 1) / N",
        source="paper, section 2.1, models and metrics",
        column="multi_attempt",
    ),
    Measure(
        name="esr_rate",
        label="ESR rate",
        unit="percent",
        unit_label="% of trials",
        definition="Share of trials with two attempts or more whose last attempt scores higher "
        "than the first.",
        formula="100 #(k > 1 and s_k > s_1) / N",
        source="paper, section 2.1; Figure 3 makes plain that it is a share of all responses",
        column="improved",
    ),
    Measure(
        name="success_rate",
        label="Success rate",
        unit="percent",
        unit_label="% of multi-attempt",
        definition="Share of multi-attempt trials whose last attempt scores higher than the first.",
        formula="100 #(k > 1 and s_k > s_1) / #(k > 1)",
        source='paper, Figures 2 and 3 ("improvement rate")',
        column="improved",
        among="multi",
    ),
    Measure(
        name="msi",
        label="MSI",
        unit="points",
        unit_label="points per trial",
        definition="Mean score improvement: last minus first score, 0 for a single attempt.",
        formula="sum (s_k - s_1) / N",
        source="the draft of January 2026: mean score improvement over all trials",
        column="score_change",
        lowest=-100,
        usual=0,
    ),
    Measure(
        name="msi_multi",
        label="MSI (multi-attempt)",
        unit="points",
        unit_label="points per multi-attempt trial",
        definition="Mean of last minus first score over the multi-attempt trials.",
        formula="sum (s_k - s_1) / #(k > 1)",
        source="the histograms of Figure 2 show these score changes",
        column="score_change",
        among="multi",
        lowest=-100,
    ),
    Measure(
        name="mean_attempts",
        label="Attempts",
        unit="attempts",
        unit_label="attempts per trial",
        definition="Mean number of attempts.",
        formula="sum k / N",
        source="here",
        column="n_attempts",
        lowest=1,
        highest=MOST_ATTEMPTS,
        usual=1,
    ),
    Measure(
        name="gated_multi_attempt_rate",
        label="Multi-attempt (gated)",
        unit="percent",
        unit_label="% of trials",
        definition="Share of trials with two attempts or more of which a restart phrase opens the "
        "later ones.",
        formula="100 #(gated_multi_attempt) / N",
        source="here; attempts must be located and opened by a restart phrase",
        column="gated_multi_attempt",
    ),
    Measure(
        name="gated_esr_rate",
        label="ESR rate (gated)",
        unit="percent",
        unit_label="% of trials",
        definition="Share of trials with two gated attempts or more whose last attempt scores "
        "higher than the first.",
        formula="100 #(gated_improved) / N",
        source="here; attempts must be located and opened by a restart phrase",
        column="gated_improved",
    ),
    Measure(
        name="degraded_rate",
        label="Degraded",
        unit="percent",
        unit_label="% of responses",
        definition="Share of responses in which a word is repeated five times or more in a row.",
        formula="100 #(degraded) / #(responses)",
        source="the authors' code",
        column="degraded",
        among="responded",
    ),
    Measure(
        name="restart_rate",
        label="Restarts (no judge)",
        unit="percent",
        unit_label="% of responses",
        definition="Share of responses in which the restart detector finds a restart phrase.",
        formula="100 #(restart phrase found) / #(responses)",
        source="here; needs no judge",
        column="restart_detected",
        among="responded",
    ),
]
MEASURES = {measure.name: measure for measure in _REGISTERED}
"""Every measure by name."""


def find_measures(names: Sequence[str]) -> list[Measure]:
    """The registered measures of these names; raises EsrError on an unknown one."""
    unknown = [name for name in names if name not in MEASURES]
    if unknown:
        raise EsrError(f"unknown measures {unknown}; known are {list(MEASURES)}")
    return [MEASURES[name] for name in names]


def measured_columns(scores: pd.DataFrame) -> Columns:
    """The columns that measures and weights are read from, as arrays: much faster to read again."""
    names = {"multi_attempt", "weight", *(measure.column for measure in MEASURES.values())}
    columns = {name: as_float(scores, name) for name in sorted(names & set(scores))}
    return {"status": np.where(is_scored(scores), "ok", "")} | columns


def exclusions(scores: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """Trials by status, for each group of the columns `by`: nothing is dropped uncounted.

    Columns: those of `by`, status (`ok` first, `total` last), n, percent (of the group).

    Raises:
        EsrError: a trial has no status, so that trials in != trials out + trials dropped.
    """
    tables = []
    for group, trials in groups(scores, by):
        counts = _counted(trials["status"], "ok", len(trials)).rename(columns={"reason": "status"})
        counts["percent"] = 100 * counts["n"] / max(len(trials), 1)
        tables.append(counts.assign(**group)[[*by, *counts.columns]])
    return pd.concat(tables, ignore_index=True)


def summarise(
    scores: pd.DataFrame,
    measures: Sequence[str] = tuple(MEASURES),
    *,
    by: Sequence[str] = (),
    level: float = 0.95,
) -> pd.DataFrame:
    """Each measure of each group with its interval: one row a group and measure.

    The interval follows from the measure's `quantity`, with latents and prompts random
    (`esr.analysis.statistics.crossed`); other methods: `esr.analysis.alternatives`. Columns: those
    of `by`, measure, unit, estimate, low, high, level, method (name of the function), status, and
    of the trials in the denominator n, n_events (rates), n_latents, n_prompts. An undefined
    estimate is NaN, with n = 0.

    With a column `weight` (trials that a sampled trial represents) every mean is weighted, and n
    counts the sampled trials.

    Args:
        scores: Scores of an arm, or of several that the columns `by` distinguish.
        measures: Names in `MEASURES`.
        by: Columns whose combinations are the groups, in order of appearance.
        level: Of the intervals.

    Raises:
        EsrError: an invalid table, an unknown measure, some trials without a latent.
    """
    found = find_measures(measures)
    rows = []
    for group, trials in groups(scores, by):
        check_scores(trials)
        factors = [cluster_codes(trials[column])[0] for column in clusters_of(trials)]
        columns, weights = measured_columns(trials), weights_of(trials)
        for measure in found:
            values = measure.values(columns)
            quantity = measure.quantity
            interval, status = crossed_interval(values, factors, quantity, level, weights)
            how = {"level": level, "method": quantity.method, "status": status}
            point = point_estimate(measure, values, trials)
            rows.append(group | point | interval._asdict() | how)
    order = [*by, "measure", "unit", "estimate", "low", "high", "level", "method", "status"]
    order += ["n", "n_events", "n_latents", "n_prompts"]
    return pd.DataFrame(rows, columns=order).astype({"n_events": "Int64"})


def clusters_of(*arms: pd.DataFrame) -> list[str]:
    """Columns of the random factors: latent and prompt, or prompt where no trial has a latent."""
    without = all(arm["latent"].isna().all() for arm in arms)
    return ["prompt_id"] if without and any(map(len, arms)) else ["latent", "prompt_id"]


def groups(scores: pd.DataFrame, by: Sequence[str]) -> Iterator[Group]:
    """The rows of each combination of the columns `by`, missing values included."""
    check_columns(scores, by)
    if not by:
        yield {}, scores
        return
    for keys, trials in scores.groupby(list(by), sort=False, dropna=False):
        yield dict(zip(by, keys, strict=True)), trials


def _counted(reasons: pd.Series, first: str, expected: int) -> pd.DataFrame:
    """Counts by reason, `first` first and `total` last, after checking that they add up."""
    counts = reasons.value_counts()
    order = sorted(counts.index, key=lambda reason: (reason != first, -counts[reason], reason))
    table = pd.DataFrame({"reason": order, "n": [int(counts[reason]) for reason in order]})
    if table["n"].sum() != expected:
        raise EsrError(
            f"{table['n'].sum()} of {expected} trials are counted: give each a status or reason"
        )
    total = pd.DataFrame({"reason": ["total"], "n": [expected]})
    return pd.concat([table, total], ignore_index=True)


def point_estimate(measure: Measure, values: Trials, scores: pd.DataFrame) -> dict[str, Any]:
    """The estimate and the size of its denominator, as columns of `summarise`."""
    inside = ~np.isnan(values)
    return {
        "measure": measure.name,
        "unit": measure.unit,
        "estimate": weighted_mean(values, weights_of(scores)),
        "n": int(inside.sum()),
        "n_events": int((values[inside] > 0).sum()) if measure.is_rate else pd.NA,
        "n_latents": scores["latent"][inside].nunique(),
        "n_prompts": scores["prompt_id"][inside].nunique(),
    }


def as_percent(interval: Interval) -> Interval:
    """A fraction's interval in percent."""
    return interval.scaled(100)

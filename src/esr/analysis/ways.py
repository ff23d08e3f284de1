"""Four ways of grading the same trials, each as tables of scores that the measures read.

- `primary`: scores by the primary judge.
- `gated`: the same, but attempts count only if a restart phrase opens them.
- `judge_free`: several attempts are what the restart detector finds; there are no scores.
- `second`: scores by another judge, on the second-phase sample with its sampling weights.

`second` and `judge_free` are independent of the primary judge, `gated` is not.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from esr.analysis.measures import MEASURES
from esr.arms.scores import GATE, as_float, check_scores, is_scored
from esr.errors import EsrError
from esr.tables import read_table

Way = Literal["primary", "gated", "judge_free", "second"]
WAYS: tuple[Way, ...] = ("primary", "gated", "judge_free", "second")
INDEPENDENT: tuple[Way, ...] = ("judge_free", "second")
"""Ways that share no judge with `primary`."""

ALL = {name: name for name in MEASURES}
JUDGED = {name: name for name, measure in MEASURES.items() if measure.among != "responded"}
"""Measures that need a judge."""
DETECTED = {"restart_rate": "multi_attempt_rate"}
"""Measure of the restart detector, by the name under which it stands beside a judge's."""


@dataclass(frozen=True)
class View:
    """The trials as one way grades them.

    Attributes:
        way: Name of the way.
        scores: Scores of all arms; with a column `weight` if they are a sample.
        measures: Measures to compute, with the names under which tables show them.
    """

    way: Way
    scores: pd.DataFrame
    measures: Mapping[str, str]

    @property
    def restarted(self) -> str:
        """Column of scores: whether a trial has several attempts."""
        return "restart_detected" if self.way == "judge_free" else "multi_attempt"

    def shown(self, measures: Sequence[str]) -> list[str]:
        """Measures to compute so that those of these names, as shown, can be."""
        return [name for name, shown in self.measures.items() if shown in measures]


def views(scores: pd.DataFrame, second: pd.DataFrame | None = None) -> list[View]:
    """The ways in which a study's trials can be graded, `primary` first.

    Args:
        scores: Scores by the primary judge.
        second: Scores of the sample by the second judge (`read_second`); None without one.
    """
    found = [View("primary", scores, ALL)]
    if set(GATE) <= set(scores):
        found.append(View("gated", gated(scores), JUDGED))
    found.append(View("judge_free", scores, DETECTED))
    if second is not None:
        models = second["model"].isin(scores["model"].unique())
        found.append(View("second", second[models].reset_index(drop=True), JUDGED))
    return found


def by_way(
    found: Sequence[View], tabulate: Callable[[View], pd.DataFrame], measures: str = "measure"
) -> pd.DataFrame:
    """One table computed in each way, with a column `way` in front.

    Args:
        found: Of `views`.
        tabulate: Computes the table of `view.measures` from `view.scores`. The columns of an empty
            table are kept, if it has any and no way has rows.
        measures: Column that holds the measure's name.
    """
    parts = []
    for view in found:
        table = tabulate(view)
        if measures not in table:
            continue  # this way has nothing to say
        names = table[measures].replace(dict(view.measures))
        parts.append(table.assign(**{measures: names}).assign(way=view.way))
    filled = [part for part in parts if len(part)] or parts[:1]
    table = pd.concat(filled, ignore_index=True)
    return table[["way", *[name for name in table if name != "way"]]]


def of_way(table: pd.DataFrame, way: Way = "primary") -> pd.DataFrame:
    """Rows of a table that were computed in one way, without the column `way`."""
    return table[table["way"].eq(way)].drop(columns="way").reset_index(drop=True)


def gated(scores: pd.DataFrame) -> pd.DataFrame:
    """Scores in which an attempt counts only if it is located and a restart phrase opens it.

    An attempt that no restart opens belongs to the one before it: it is not counted, and its score
    is no last score. Without any other, a trial has one attempt and no change.

    Raises:
        EsrError: the scores lack the columns of the gate.
    """
    missing = [name for name in GATE if name not in scores]
    if missing:
        raise EsrError(f"scores lack {missing}; score the trials again (`snakemake scores`)")
    scored = is_scored(scores)
    change = as_float(scores, "gated_last_score") - as_float(scores, "first_score")
    several = pd.Series(as_float(scores, "gated_attempts") > 1, scores.index, dtype="boolean")
    out = scores.assign(
        n_attempts=scores["gated_attempts"],
        last_score=scores["gated_last_score"],
        score_change=pd.Series(change, scores.index, dtype="Float64"),
        multi_attempt=several.where(scored),
        improved=(several & (change > 0)).where(scored),
    )
    check_scores(out)
    return out


def weighted(sample: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """Scores of the second-phase sample with its sampling weights.

    Args:
        sample: Table `sample`.
        scores: Scores of its trials by one judge.

    Raises:
        EsrError: a trial has no weight, or one that is not positive.
    """
    weights = scores["trial_id"].map(sample.set_index("trial_id")["weight"]).astype(float)
    wrong = ~(weights > 0)
    if wrong.any():
        trials = scores.loc[wrong, "trial_id"].tolist()
        raise EsrError(
            f"{len(trials)} trials of the second judge have no positive weight in the sample, e.g. "
            f"{trials[:3]}; draw and grade the sample again"
        )
    return scores.assign(weight=np.asarray(weights))


def read_second(paths: Sequence[str]) -> pd.DataFrame | None:
    """Weighted scores of the second judge from (sample, scores); None if there are no paths."""
    if not paths:
        return None
    sample, scores = (Path(path) for path in paths)
    return weighted(read_table(sample, "sample"), read_table(scores, "scores"))

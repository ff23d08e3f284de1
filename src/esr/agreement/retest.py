"""Test-retest: how far the primary judge agrees with itself on a part of the sample."""

import numpy as np
import pandas as pd

from esr.agreement.compare import ALL, compare_judges
from esr.agreement.sample import permanent_numbers
from esr.config import StatisticsConfig

AGAIN = " again"
"""Ending of a judge's name where its second grading is meant."""
SECOND_CALL = 1
"""Repetition of the second grading: part of a reply's key, so that the first is not reused."""
FLAGGED = ["several", "restart"]


def draw_retest(sample: pd.DataFrame, size: int, seed: int) -> pd.DataFrame:
    """The trials that the primary judge grades twice: half of them flagged, if there are enough.

    Args:
        sample: Table `sample`.
        size: Number of trials; all of the sample if it has fewer.
        seed: Of the draw.

    Returns:
        Rows of the sample, in order. Their weights stand for the flagged and for the other trials
        of the whole sample.
    """
    flagged = sample["stratum"].isin(FLAGGED).to_numpy()
    order = np.argsort(permanent_numbers(sample, seed + 1), kind="stable")
    parts = [order[flagged[order] == flag] for flag in (True, False)]
    others = max(size // 2, size - len(parts[0]))
    taken = [parts[0][: max(size - len(parts[1]), size - others)], parts[1][:others]]
    table = sample.copy()
    for part, chosen in zip(parts, taken, strict=True):
        if len(chosen):
            weights = sample["weight"].astype(float).to_numpy()
            factor = weights[part].sum() / weights[chosen].sum()
            table.loc[table.index[chosen], "weight"] = weights[chosen] * factor
    rows = np.sort(np.concatenate(taken)).astype(int)
    return table.iloc[rows].reset_index(drop=True)


def compare_retest(
    retest: pd.DataFrame,
    first: pd.DataFrame,
    second: pd.DataFrame,
    judge: str,
    settings: StatisticsConfig,
) -> pd.DataFrame:
    """Statistics of the judge with itself: rows of the table `agreement`.

    `judge_b` is the judge's name with `AGAIN`; the arm is `all`.

    Args:
        retest: As from `draw_retest`.
        first: Scores of the sample by the judge.
        second: Its scores of `retest`, from the second grading.
        judge: Its name.
        settings: Of the intervals.
    """
    once = first.set_index("trial_id").loc[retest["trial_id"]].reset_index()
    table = compare_judges(retest, {judge: once, judge + AGAIN: second}, settings)
    itself = table["judge_a"].eq(judge) & table["judge_b"].eq(judge + AGAIN)
    return table[itself & table["arm"].eq(ALL)].reset_index(drop=True)


def without_retest(agreement: pd.DataFrame) -> pd.DataFrame:
    """Rows of the table `agreement` about different judges."""
    again = agreement["judge_b"].astype("string").str.endswith(AGAIN).fillna(False)
    return agreement[~again.astype(bool)]

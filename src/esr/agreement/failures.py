"""Judges that fail: the share of responses of which a judge gave no usable judgment, by reason.

Such a trial is excluded by its status. A judge that often fails excludes many trials, and not at
random: long or odd responses fail first. So the share stands in the report with its interval.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from esr.analysis.statistics.clusters import cluster_codes
from esr.analysis.statistics.crossed import crossed_rate, weighted_mean
from esr.arms.attempts import NOT_LOCATED
from esr.arms.scores import weights_of
from esr.judges.base import FAILED

MOST = 5.0
"""Percent of failed judgments of a judge above which the report warns."""
ANY = "any"
"""All failures together."""
FAILURES = (ANY, *sorted({*FAILED, NOT_LOCATED}))
ARMS, SAMPLE = "arms", "sample"
COLUMNS = ["judge", "graded", "failure", "n_failed", "n", "percent", "low", "high", "status"]


def failure_table(graded: Mapping[tuple[str, str], pd.DataFrame], level: float) -> pd.DataFrame:
    """Failures of every judge, one row a judge, set of trials and reason (`COLUMNS`).

    `n` counts the responses that the judge was to grade; trials without a response are left out.
    `percent` is the share of them that failed, of the sample in population weights, with the
    interval of a rate over latents and prompts (`crossed_rate`). Its status is `undefined` without
    a response.

    Args:
        graded: Scores by judge and set of trials (`ARMS`, `SAMPLE`).
        level: Of the intervals.
    """
    rows = [
        {"judge": judge, "graded": where} | row
        for (judge, where), scores in graded.items()
        for row in _rows(scores[scores["restart_detected"].notna()], level)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _rows(scores: pd.DataFrame, level: float) -> Iterator[dict[str, Any]]:
    """Failures among responses, by reason."""
    weights = weights_of(scores)
    factors = [cluster_codes(_latents(scores))[0], cluster_codes(scores["prompt_id"])[0]]
    for failure in FAILURES:
        reasons = FAILURES[1:] if failure == ANY else (failure,)
        failed = scores["status"].isin(reasons).to_numpy(float)
        interval, status = crossed_rate(failed, factors, level, weights)
        yield {
            "failure": failure,
            "n_failed": int(failed.sum()),
            "n": len(failed),
            "percent": 100 * weighted_mean(failed, weights),
            "low": 100 * interval.low,
            "high": 100 * interval.high,
            "status": status,
        }


def _latents(scores: pd.DataFrame) -> "pd.Series[str]":
    """Latent of each trial; of a trial without one, its prompt, so that it is no common cluster."""
    latent = scores["latent"].astype("string")
    return (scores["model"] + "/" + latent).fillna("prompt " + scores["prompt_id"]).astype(str)


def failure_note(table: pd.DataFrame) -> str:
    """What the report warns of: judges that fail more often than `MOST`; empty without one."""
    failing = table[table["failure"].eq(ANY) & table["percent"].gt(MOST)]
    return " ".join(_sentence(row, table) for _, row in failing.iterrows())


def _sentence(row: pd.Series, table: pd.DataFrame) -> str:
    same = table["judge"].eq(row["judge"]) & table["graded"].eq(row["graded"])
    reasons = table[same & table["failure"].ne(ANY) & table["n_failed"].gt(0)]
    listed = reasons.sort_values("n_failed", ascending=False, kind="stable")
    named = ", ".join(f"{one['n_failed']:,} {one['failure']}" for _, one in listed.iterrows())
    interval = "" if np.isnan(row["low"]) else f" [{row['low']:.1f}, {row['high']:.1f}]"
    where = "all arms" if row["graded"] == ARMS else "the sample of all judges"
    return (
        f"Judge {row['judge']} failed on {row['percent']:.1f} %{interval} of {row['n']:,} "
        f"responses of {where}, more than {MOST:g} %: {named}. These trials are excluded, and "
        "perhaps not at random."
    )

"""Drift: does a judge grade the anchors otherwise at the end of a job, or in another job?

Grades are compared anchor by anchor. Without drift, a difference is as likely as its negative, so
that random signs of the differences give the distribution of their mean under the null (a
sign-flip test). It holds for any noise and for few differences, where a t interval does not.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from esr.config import Config
from esr.judges.anchors import END, START, Anchor, read_anchors, read_grades

FLIPS = 20_000
"""Random signs; more are needed only for more than about 500 comparisons."""
LEAST = 10
"""Anchors with both grades below which nothing is compared."""
GRADES = ["judge", "rule", "journal", "end", "anchor_id", "known", "score"]
COLUMNS = ["judge", "rule", "journal", "comparison", "n", "shift", "bound", "error", "status"]
WITHIN, BETWEEN = "end - start", "job - other jobs"


def read_anchor_grades(config: Config) -> pd.DataFrame:
    """Grades of the anchors in every job, from kept replies alone (`GRADES`).

    `score` is that of the first attempt in points, missing where the judge gave none; `known` is
    the anchor's. A job that called no judge has no rows.
    """
    # Imported here: the report reads the table without the SDKs, which are slow to import.
    from esr.judges.llm import CachedLlm
    from esr.judges.replies import reply_journals
    from esr.judges.rubrics import read_rubric

    anchors = read_anchors(config.judging.anchors) if config.judging.llms else []
    rows: list[dict[str, Any]] = []
    for rule, judge, path in reply_journals(config):
        settings = config.judging.llms[judge]
        if not path.is_file() or not anchors:
            continue
        llm, rubric = CachedLlm(settings, path), read_rubric(settings.rubric)
        for end in (START, END):
            judgments = read_grades(rubric, llm, anchors, end)
            if all(one.status == "api_error" for one in judgments):
                continue
            facts = {"judge": judge, "rule": rule, "journal": _name(path, config.study), "end": end}
            scores = [one.first_score for one in judgments]
            rows += [facts | each for each in _scored(anchors, scores)]
    return pd.DataFrame(rows, columns=GRADES)


def _scored(anchors: Sequence[Anchor], scores: Sequence[float | None]) -> Iterator[dict[str, Any]]:
    for anchor, score in zip(anchors, scores, strict=True):
        yield {"anchor_id": anchor.anchor_id, "known": anchor.score, "score": score}


def _name(path: Path, study: str) -> str:
    return path.relative_to(Path("results") / study / "replies").as_posix()


def drift_table(grades: pd.DataFrame, level: float, seed: int) -> pd.DataFrame:
    """Shifts of the anchors' scores, one row a judge, job and comparison (`COLUMNS`).

    `shift`: mean difference in points, of the job's end from its start, or of both from the other
    jobs of the judge. `bound`: what it exceeds in absolute value with a probability of 1 - `level`
    if no judge drifts, over all rows together (Bonferroni). `error`: mean deviation from the known
    scores. Statuses: `ok`; `drift`: the shift exceeds its bound; `too_few`: fewer than `LEAST`
    anchors have both grades.

    Args:
        grades: From `read_anchor_grades`.
        level: Of the study's intervals.
        seed: Of the random signs.
    """
    compared = list(_comparisons(grades))
    rng = np.random.default_rng(seed)
    signs = rng.integers(0, 2, (FLIPS, max((len(d) for _, d in compared), default=1))) * 2.0 - 1
    share = (1 - level) / max(len(compared), 1)
    rows = [facts | _tested(found, signs, share) for facts, found in compared]
    return pd.DataFrame(rows, columns=COLUMNS)


def _comparisons(grades: pd.DataFrame) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """What is compared, and its differences anchor by anchor."""
    keys = ["judge", "rule", "journal"]
    for judge, of_judge in grades.groupby("judge", sort=False):
        wide = of_judge.astype({"score": float}).pivot_table(
            index="anchor_id", columns=["journal", "end"], values="score", dropna=False
        )
        means = wide.T.groupby(level="journal").mean().T
        for (_, rule, journal), rows in of_judge.groupby(keys, sort=False):
            error = (rows["score"].astype(float) - rows["known"]).mean()
            facts = {"judge": judge, "rule": rule, "journal": journal, "error": error}
            ends = wide[journal]
            if {START, END} <= set(ends):
                yield facts | {"comparison": WITHIN}, _present(ends[END] - ends[START])
            others = means.drop(columns=journal)
            if not others.empty:
                differences = means[journal] - others.mean(axis=1)
                yield facts | {"comparison": BETWEEN}, _present(differences)


def _present(differences: pd.Series) -> np.ndarray:
    return differences.dropna().to_numpy(float)


def _tested(differences: np.ndarray, signs: np.ndarray, share: float) -> dict[str, Any]:
    """Shift, bound and status; `share` is the probability of a shift beyond the bound."""
    n = len(differences)
    if n < LEAST:
        return {"n": n, "shift": np.nan, "bound": np.nan, "status": "too_few"}
    shift = differences.mean()
    null = np.abs(signs[:, :n] @ differences) / n
    bound = np.quantile(null, 1 - share, method="higher")
    beyond = abs(shift) > bound * (1 + 1e-9)  # equal sums may differ in their last bit
    return {"n": n, "shift": shift, "bound": bound, "status": "drift" if beyond else "ok"}


def drift_note(table: pd.DataFrame) -> str:
    """What the report warns of; empty without drift."""
    found = table[table["status"].eq("drift")]
    if found.empty:
        return ""
    worst = found.loc[found["shift"].abs().idxmax()]
    return (
        f"Judges drifted: in {len(found)} of {len(table)} comparisons the scores of the anchors "
        f"shifted beyond their bound, most by {worst['judge']} in {worst['journal']} "
        f"({worst['comparison']}: {worst['shift']:+.1f} points, bound {worst['bound']:.1f}). "
        "Compare judgments of those jobs with care, or grade them again."
    )

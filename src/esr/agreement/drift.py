"""Drift: does a judge grade the anchors otherwise at the end of a job, or in another job?

Grades are compared anchor by anchor. Without drift the start and the end of a job can be swapped,
so that random signs of the differences give the distribution of their mean under the null (a
sign-flip test). A job and the mean of the others cannot: noise on one side makes the difference
skewed. There the jobs' grades of an anchor can be permuted. Both tests hold for any noise and for
few differences, where a t interval does not.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from esr.config import Config
from esr.judges.anchors import END, START, Anchor, read_anchors, read_grades

Scores = Float[np.ndarray, "anchors jobs"]
Shifts = Float[np.ndarray, " differences"]

DRAWS = 20_000
"""Random signs, and permutations; more are needed only for more than about 500 comparisons."""
BATCH = 500
"""Permutations that are made together."""
LEAST = 10
"""Anchors with both grades below which nothing is compared."""
GRADES = ["judge", "rule", "journal", "end", "anchor_id", "known", "score"]
COLUMNS = ["judge", "rule", "journal", "comparison", "n", "shift", "bound", "error", "status"]
WITHIN, BETWEEN = "end - start", "job - other jobs"
NOTHING = {"n": 0, "shift": np.nan, "bound": np.nan}


def read_anchor_grades(config: Config) -> pd.DataFrame:
    """Grades of the anchors in every job, from kept replies alone (`GRADES`).

    `score` is that of the first attempt in points, missing where the judge gave none; `known` is
    the anchor's. A job without replies has no rows: it called no judge.
    """
    # Imported here: the report reads the table without the SDKs, which are slow to import.
    from esr.judges.llm import CachedLlm
    from esr.judges.replies import reply_journals
    from esr.judges.rubrics import read_rubric

    anchors = read_anchors(config.judging.anchors) if config.judging.llms else []
    rows: list[dict[str, Any]] = []
    for rule, judge, path in reply_journals(config):
        settings = config.judging.llms[judge]
        if not anchors or not path.is_file() or not path.stat().st_size:
            continue
        llm, rubric = CachedLlm(settings, path), read_rubric(settings.rubric)
        for end in (START, END):
            judgments = read_grades(rubric, llm, anchors, end)
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
    anchors have both grades, or too few for so many rows; `not_graded`: the job has replies, but
    no anchor has a grade at both ends.

    Args:
        grades: From `read_anchor_grades`.
        level: Of the study's intervals.
        seed: Of the random signs and permutations.
    """
    rng = np.random.default_rng(seed)
    parts = [_of_judge(rows) for _, rows in grades.groupby("judge", sort=False)]
    share = (1 - level) / max(sum(part.tests for part in parts), 1)
    rows = [row for part in parts for row in part.rows(rng, share)]
    return pd.DataFrame(rows, columns=COLUMNS)


class _Judge(NamedTuple):
    """Grades of a judge: facts of its jobs, and scores (anchors x jobs) at both ends."""

    facts: list[dict[str, Any]]
    first: Scores
    last: Scores

    @property
    def means(self) -> Scores:
        """Mean of both ends; that of one where the other has no grade."""
        both = np.array([self.first, self.last])
        known = (~np.isnan(both)).sum(axis=0)
        return np.where(known > 0, np.nansum(both, axis=0) / np.maximum(known, 1), np.nan)

    @property
    def tests(self) -> int:
        """Number of comparisons."""
        graded = int((~np.isnan(self.means)).any(axis=0).sum())
        within = int((~np.isnan(self.last - self.first)).any(axis=0).sum())
        return within + (graded if graded > 1 else 0)

    def rows(self, rng: np.random.Generator, share: float) -> Iterator[dict[str, Any]]:
        """Both comparisons of each job; `share` is the probability of a shift beyond a bound."""
        graded = np.any(~np.isnan(self.means), axis=0)
        between = iter(_between(self.means[:, graded], rng, share))
        for job, facts in enumerate(self.facts):
            differences = self.last[:, job] - self.first[:, job]
            yield facts | {"comparison": WITHIN} | _within(differences, rng, share)
            if graded[job] and graded.sum() > 1:
                yield facts | {"comparison": BETWEEN} | next(between)


def _of_judge(grades: pd.DataFrame) -> _Judge:
    scores = grades["score"].astype(float)
    by = ["judge", "rule", "journal"]
    errors = (scores - grades["known"]).groupby([grades[name] for name in by], sort=False)
    facts = [dict(zip(by, job, strict=True)) | {"error": found.mean()} for job, found in errors]
    anchor, anchors = pd.factorize(grades["anchor_id"], sort=True)
    job = pd.Index([each["journal"] for each in facts]).get_indexer(grades["journal"])
    table = np.full((2, len(anchors), len(facts)), np.nan)
    table[grades["end"].eq(END).astype(int), anchor, job] = scores
    return _Judge(facts, *table)


def _within(differences: Shifts, rng: np.random.Generator, share: float) -> dict[str, Any]:
    """Mean difference and its bound under random signs."""
    present = differences[~np.isnan(differences)]
    n = len(present)
    if _too_few(n, share):
        return NOTHING | {"n": n, "status": "too_few" if n else "not_graded"}
    signs = rng.integers(0, 2, (DRAWS, n)) * 2.0 - 1
    return _tested(n, float(present.mean()), signs @ present / n, share)


def _between(means: Scores, rng: np.random.Generator, share: float) -> list[dict[str, Any]]:
    """Shift of each job from the others and its bound, the jobs of each anchor permuted.

    An anchor's grades are permuted among the jobs that have one, and with them their differences
    from the others: an anchor's grades have one sum in any order.
    """
    means = means[(~np.isnan(means)).sum(axis=1) > 1]
    counts = (~np.isnan(means)).sum(axis=0)
    apart = _apart(means)
    order = np.argsort(np.isnan(means), axis=1, kind="stable")
    sums = [
        np.einsum("daj->dj", _permuted(apart, order, rng, min(BATCH, DRAWS - done)))
        for done in range(0, DRAWS, BATCH)
    ]
    null = np.concatenate(sums) / np.maximum(counts, 1)
    shifts = np.nansum(apart, axis=0) / np.maximum(counts, 1)
    return [
        NOTHING | {"n": n, "status": "too_few"}
        if _too_few(n, share)
        else _tested(n, float(shift), null[:, job], share)
        for job, (n, shift) in enumerate(zip(counts.tolist(), shifts, strict=True))
    ]


def _apart(means: Scores) -> Scores:
    """Difference of each grade from the mean of the other jobs that have the anchor."""
    present = ~np.isnan(means)
    grades = np.where(present, means, 0.0)
    others = np.maximum(present.sum(axis=1, keepdims=True) - 1, 1)
    return means - (grades.sum(axis=1, keepdims=True) - grades) / others


def _permuted(
    apart: Scores, order: Int[np.ndarray, "anchors jobs"], rng: np.random.Generator, draws: int
) -> Float[np.ndarray, "draws anchors jobs"]:
    """Values of each anchor permuted among the jobs that have one, 0 where a job has none.

    `order` puts the jobs that have one first.
    """
    keys = rng.random((draws, *apart.shape), np.float32)
    missing = np.isnan(apart)
    if not missing.any():
        return np.take_along_axis(apart[None], keys.argsort(axis=2), axis=2)
    keys = np.where(missing, np.inf, keys)
    shuffled = np.take_along_axis(np.nan_to_num(apart)[None], keys.argsort(axis=2), axis=2)
    found = np.empty_like(shuffled)
    np.put_along_axis(found, np.broadcast_to(order, shuffled.shape), shuffled, axis=2)
    return found


def _too_few(n: int, share: float) -> bool:
    """Whether even the least probable of all signs, or permutations, is likelier than `share`."""
    return n < LEAST or 2.0 ** (1 - n) > share


def _tested(n: int, shift: float, null: Shifts, share: float) -> dict[str, Any]:
    """Shift, bound and status; `share` is the probability of a shift beyond the bound."""
    bound = float(np.quantile(np.abs(null), 1 - share, method="higher"))
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

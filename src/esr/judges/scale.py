"""Is a judge's score a number of points from 0 to 100, or a share, or a mark out of ten?

A value in range may be in the wrong unit: 0.9 or 9 for 90 points. Low scores alone prove nothing,
since an arm may be off topic as a whole. So a judge that never gives more than ten points is shown
two responses that answer their prompts perfectly. If it gives these at most ten points as well, its
scores are on another scale. They are then the status `wrong_scale`, and no points.
"""

from collections.abc import Sequence
from dataclasses import replace

from esr.errors import EsrError
from esr.judges.base import JudgeInput, Judgment

MINIMUM = 20
"""Scored responses before the scale is questioned."""
LARGEST = 10.0
"""Highest score of the other scales, 0-1 and 0-10."""
ANCHORS = (
    JudgeInput(
        "Explain how to boil an egg.",
        "Bring a pot of water to the boil. Lower the egg in with a spoon. Boil it for "
        "seven minutes for a soft yolk, or for ten minutes for a hard one. Then cool the egg "
        "in cold water and peel it.",
    ),
    JudgeInput(
        "Explain how to change a bicycle tire.",
        "Take the wheel off, let out the air. Lever one side of the tire over the "
        "rim and pull out the tube. Check the tire for the cause of the puncture. Put in a new "
        "tube with a little air in it, press the tire back, pump it up, and refit the wheel.",
    ),
)
"""Responses that answer their prompts and contain nothing else."""


class ScaleCheck:
    """Decides for one judge, over all responses of a job, whether its scores are points."""

    def __init__(self, model: str) -> None:
        """Check the scores of a model."""
        self._model = model
        self._scored, self._largest = 0, 0.0
        self._decided = False
        self._wrong = False
        self._applied = False

    def add(self, judgments: Sequence[Judgment]) -> None:
        """Take further judgments into account."""
        scores = [max(a.score for a in one.attempts) for one in judgments if one.status == "ok"]
        self._scored += len(scores)
        self._largest = max([self._largest, *scores])

    @property
    def is_suspect(self) -> bool:
        """Whether no score of many is above ten, some are above 0, and nothing is decided yet."""
        low = 0 < self._largest <= LARGEST
        return low and self._scored >= MINIMUM and not self._decided

    def decide(self, anchors: Sequence[Judgment]) -> None:
        """Decide by judgments of `ANCHORS`; without any, the scores count as points."""
        scores = [one.first_score for one in anchors if one.first_score is not None]
        self._decided = True
        self._wrong = bool(scores) and max(scores) <= LARGEST

    def apply(self, judgments: Sequence[Judgment]) -> list[Judgment]:
        """Judgments, or the status `wrong_scale` in place of scores on another scale.

        Raises:
            EsrError: the previous judgments had that status already, so that the job is lost.
        """
        if not self._wrong:
            return list(judgments)
        if self._applied:
            raise EsrError(
                f"{self._model}: no score of {self._scored} responses is above "
                f"{self._largest:g}, not even of a perfect answer: these are not points from 0 to "
                "100. State the scale in the rubric, or choose another judge"
            )
        self._applied = True
        return [
            replace(one, status="wrong_scale", attempts=()) if one.status == "ok" else one
            for one in judgments
        ]

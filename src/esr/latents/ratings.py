"""Ratings of how concrete the label of a latent is (0-100 points)."""

import re
from collections.abc import Sequence
from typing import Protocol

import pandas as pd

WORD = re.compile(r"[a-z]+")


class Rater(Protocol):
    """Rates how concrete labels are, 0-100; None = no rating, never 0."""

    def rate(self, labels: Sequence[str]) -> list[float | None]:
        """Rate labels, in order."""
        ...


class LexicalRater:
    """Substitute for a language model: the share of a label's words that are in a list."""

    def __init__(self, concrete: frozenset[str]) -> None:
        """Rate by a set of concrete words."""
        self.concrete = concrete

    def rate(self, labels: Sequence[str]) -> list[float | None]:
        """Rate labels; one without words has no rating."""
        return [self._rate(WORD.findall(label.lower())) for label in labels]

    def _rate(self, words: list[str]) -> float | None:
        return 100 * sum(word in self.concrete for word in words) / len(words) if words else None


def rate_labels(candidates: pd.DataFrame, rater: Rater | None) -> pd.DataFrame:
    """Rate the labels of candidates: the table `concreteness`; no rows without a rater."""
    labelled = candidates[candidates["label"].notna()] if rater else candidates[:0]
    ratings = rater.rate(labelled["label"].tolist()) if rater else []
    return pd.DataFrame(
        {
            "latent": labelled["latent"].to_numpy(),
            "concreteness": pd.array(ratings, dtype="Float64"),
            "status": ["ok" if rating is not None else "unrated" for rating in ratings],
        }
    )

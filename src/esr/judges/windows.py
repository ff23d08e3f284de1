"""Scores of windows of a response: parts of equally many words, whatever the attempts are.

Only a judge that scores any text by itself can do this at no cost (`TextScorer`). A language model
would have to grade every window as a response of its own, at as many times the price.
"""

from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd

WINDOWS = 4
"""Windows of a response: quarters."""
COLUMNS = ["trial_id", "words", "first_window", "last_window"]


@runtime_checkable
class TextScorer(Protocol):
    """A judge that scores any piece of text by itself."""

    def score_text(self, prompt: str, text: str) -> float | None:
        """Relevance of a text to a prompt, 0-100 points; None if it cannot be scored."""
        ...


def split_words(text: str, count: int = WINDOWS) -> list[str]:
    """A text cut into windows of equally many words, but for one; empty if it has too few."""
    words = text.split()
    if len(words) < count:
        return []
    return [" ".join(part) for part in np.array_split(np.array(words, object), count)]


def score_windows(
    plan: pd.DataFrame, responses: pd.DataFrame, judge: TextScorer, count: int = WINDOWS
) -> pd.DataFrame:
    """Number of words of every response, and the scores of its first and last window (points).

    Columns: `COLUMNS`. A window without a score is missing, never 0; so are all numbers of a trial
    without a response.

    Args:
        plan: Trials, with their prompts (table `plan`).
        responses: Responses to them (table `responses`).
        judge: Scores the windows.
        count: Windows of a response.
    """
    prompts = plan.set_index("trial_id")["prompt"]
    rows = []
    for trial, response in zip(responses["trial_id"], responses["response"], strict=True):
        parts = [] if pd.isna(response) else split_words(response, count)
        ends = [judge.score_text(prompts[trial], part) for part in (*parts[:1], *parts[-1:])]
        words = np.nan if pd.isna(response) else len(response.split())
        rows.append([trial, words, *(ends or [None, None])])
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.astype(dict.fromkeys(COLUMNS[1:], float))

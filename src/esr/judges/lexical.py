"""The judge of the organism study: word lists in place of a language model.

The organisms write about topics that share no words, so relevance can be counted. An attempt
begins at the start of the response and at every restart phrase of the organism's language; its
score is 100 times the share of its content words (words of any topic) that belong to the topic of
the prompt. A span without content words is not an attempt.
"""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from esr.judges.base import Attempt, JudgeInput, Judgment
from esr.judges.lexicon import WORD, Lexicon

# Steering may garble a phrase, so its opener and any one of its other words nearby are enough.
OPENER = re.compile(r"\b(?:wait|sorry|hold on)\b", re.IGNORECASE)
FOLLOWERS = frozenset(
    {"that", "right", "i", "got", "off", "track", "was", "about", "question", "made", "mistake"}
)
FOLLOWING_WORDS = 6


class LexicalJudge:
    """Counts on-topic words; see the module for the rule."""

    served_as = "lexical/1"

    def __init__(self, lexicon: Lexicon) -> None:
        """Judge by the topics of content words."""
        self.lexicon = lexicon

    def judge(self, inputs: Sequence[JudgeInput]) -> list[Judgment]:
        """Judge each input on its own."""
        return [self._judge(one) for one in inputs]

    def topic_of(self, text: str) -> str | None:
        """Topic of most of a text's content words; the first one on a tie."""
        counts = Counter(self.lexicon.content_topics(text))
        return max(counts, key=lambda topic: counts[topic]) if counts else None

    def score_text(self, prompt: str, text: str) -> float | None:
        """Share of content words on the topic of a prompt; None without any, or without a topic."""
        topic = self.topic_of(prompt)
        return None if topic is None else self.score(text, topic)

    def _judge(self, one: JudgeInput) -> Judgment:
        topic = self.topic_of(one.prompt)
        if topic is None:
            return Judgment("no_topic")
        spans = self.split(one.response)
        found = [(*span, self.score(one.response[slice(*span)], topic)) for span in spans]
        attempts = tuple(Attempt(a, b, score) for a, b, score in found if score is not None)
        return Judgment("ok", attempts) if attempts else Judgment("no_attempts")

    def split(self, text: str) -> list[tuple[int, int]]:
        """Character spans of possible attempts."""
        return segments(text)

    def score(self, text: str, topic: str) -> float | None:
        """Share of content words on topic (0-100 points); None without any."""
        return self.lexicon.score(text, topic)


def restarts(text: str) -> list[int]:
    """Characters at which the organism's restart phrases begin."""
    found = []
    for opener in OPENER.finditer(text):
        following = WORD.findall(text[opener.end() : opener.end() + 80].lower())[:FOLLOWING_WORDS]
        if FOLLOWERS.intersection(following):
            found.append(opener.start())
    return found


def segments(text: str) -> list[tuple[int, int]]:
    """Character spans from one restart to the next, blank ends trimmed."""
    return trimmed(text, [0, *restarts(text), len(text)])


def trimmed(text: str, cuts: list[int]) -> list[tuple[int, int]]:
    """Character spans between cuts, without blanks at their ends; blank ones are left out."""
    spans = []
    for start, end in pairwise(sorted(set(cuts))):
        piece = text[start:end]
        lead = len(piece) - len(piece.lstrip())
        if piece.strip():
            spans.append((start + lead, start + lead + len(piece.strip())))
    return spans

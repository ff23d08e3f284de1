"""The judge of the organism study: word lists in place of a language model.

The organisms speak about topics whose words are disjoint, so relevance can be counted. An attempt
begins at the start of the response and at every restart phrase of the organism's language; its
score is 100 times the share of its content words (words of any topic) that belong to the topic of
the prompt. A stretch without content words attempts nothing and is not an attempt.
"""

import csv
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from esr.errors import EsrError
from esr.judges.base import Attempt, JudgeInput, Judgment

COLUMNS = ["topic", "part", "word"]
WORD = re.compile(r"[a-z]+")
# Steering may garble a phrase, so it is known by its opener and any one of its other words nearby.
OPENER = re.compile(r"\b(?:wait|sorry|hold on)\b", re.IGNORECASE)
FOLLOWERS = frozenset(
    {"that", "right", "i", "got", "off", "track", "was", "about", "question", "made", "mistake"}
)
FOLLOWING_WORDS = 6


def read_lexicon(path: Path) -> dict[str, str]:
    """Topic of each content word, from a CSV with columns topic, part, word.

    Raises:
        EsrError: wrong columns, or a word that belongs to two topics.
    """
    topics: dict[str, str] = {}
    with path.open(newline="") as file:
        rows = csv.DictReader(file)
        if rows.fieldnames != COLUMNS:
            raise EsrError(f"lexicon: {path} has columns {rows.fieldnames}, needs {COLUMNS}")
        for row in rows:
            word, topic = row["word"], row["topic"]
            if topics.setdefault(word, topic) != topic:
                raise EsrError(
                    f"lexicon: {path} lists {word!r} under {topics[word]!r} and {topic!r}; "
                    "topics must share no word"
                )
    return topics


class LexicalJudge:
    """Counts on-topic words; see the module for the rule."""

    served_as = "lexical/1"

    def __init__(self, topics: dict[str, str]) -> None:
        """Judge by a mapping of content words to topics."""
        self.topics = topics

    def judge(self, exchanges: Sequence[JudgeInput]) -> list[Judgment]:
        """Judge each exchange on its own."""
        return [self._judge(exchange) for exchange in exchanges]

    def topic_of(self, text: str) -> str | None:
        """Topic most of a text's content words belong to, the first such one on a tie."""
        counts = Counter(self.content_topics(text))
        return max(counts, key=lambda topic: counts[topic]) if counts else None

    def content_topics(self, text: str) -> list[str]:
        """Topics of a text's content words, in order."""
        return [self.topics[w] for w in WORD.findall(text.lower()) if w in self.topics]

    def _judge(self, exchange: JudgeInput) -> Judgment:
        topic = self.topic_of(exchange.prompt)
        if topic is None:
            return Judgment("no_topic")
        spans = self.split(exchange.response)
        found = [(*span, self.score(exchange.response[slice(*span)], topic)) for span in spans]
        attempts = tuple(Attempt(a, b, score) for a, b, score in found if score is not None)
        return Judgment("ok", attempts) if attempts else Judgment("no_attempts")

    def split(self, text: str) -> list[tuple[int, int]]:
        """Character spans of what may be attempts."""
        return segments(text)

    def score(self, text: str, topic: str) -> float | None:
        """Share of content words on topic (0-100 points); None if there is no content word."""
        content = self.content_topics(text)
        return 100 * sum(found == topic for found in content) / len(content) if content else None


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
    """Character spans between cuts, without their blank ends; blank ones are left out."""
    spans = []
    for start, end in pairwise(sorted(set(cuts))):
        piece = text[start:end]
        lead = len(piece) - len(piece.lstrip())
        if piece.strip():
            spans.append((start + lead, start + lead + len(piece.strip())))
    return spans

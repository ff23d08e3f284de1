"""A second judge of the organism study, which shares only the lexicon with the lexical judge.

A new attempt begins at a sentence with more words of the first person and of trying again (`i`,
`let`, `start`, `mistake`, ...) than words on any topic; further such sentences directly after it
belong to the same attempt. The lexical judge looks for openers instead (`wait`, `sorry`, `hold
on`), which do not count here. An attempt's score is 100 times the share of its sentences on the
topic of the prompt, where the lexical judge counts words. A sentence is about the topic of most of
its content words; on a tie it counts in part.

The lexicon is all that the two share: it gives the topics of words, and so that of the prompt.
Their agreement says nothing about an error in it. Neither judge uses the restart detector.
"""

import re
from collections import Counter
from collections.abc import Sequence

from esr.judges.base import Attempt, JudgeInput, Judgment
from esr.judges.lexicon import Lexicon

SENTENCE = re.compile(r"[^.!?\n]+[.!?]*")
TOKEN = re.compile(r"[^\W\d_]+")
SELF_REFERENCE = frozenset(
    {"i", "me", "my", "let", "start", "over", "try", "again"}
    | {"got", "made", "mistake", "track", "question", "right"}
)
LEAST = 2
"""Least number of words of `SELF_REFERENCE` in a sentence that begins an attempt."""

Sentence = tuple[int, int, list[str]]
"""First character of a sentence, the character after its last one, topics of its content words."""


class SentenceJudge:
    """Scores an attempt by its sentences; the module's docstring has the rule."""

    served_as = "sentences/2"

    def __init__(self, lexicon: Lexicon) -> None:
        """Judge by a lexicon."""
        self.lexicon = lexicon

    def judge(self, inputs: Sequence[JudgeInput]) -> list[Judgment]:
        """Judge each input on its own; `no_topic` if the prompt has none."""
        return [self._judge(one.prompt, one.response) for one in inputs]

    def score_text(self, prompt: str, text: str) -> float | None:
        """Share of sentences on the topic of a prompt; None without any, or without a topic."""
        topic = self._topic_of(prompt)
        found = [self.lexicon.content_topics(match.group()) for match in SENTENCE.finditer(text)]
        return None if topic is None else share_on_topic(found, topic)

    def _topic_of(self, prompt: str) -> str | None:
        counts = Counter(self.lexicon.content_topics(prompt)).most_common(1)
        return counts[0][0] if counts else None

    def _judge(self, prompt: str, response: str) -> Judgment:
        topic = self._topic_of(prompt)
        if topic is None:
            return Judgment("no_topic")
        attempts = []
        for sentences in self._group(response):
            score = share_on_topic([about for _, _, about in sentences], topic)
            if score is not None:
                attempts.append(Attempt(sentences[0][0], sentences[-1][1], score))
        return Judgment("ok", tuple(attempts)) if attempts else Judgment("no_attempts")

    def _group(self, text: str) -> list[list[Sentence]]:
        """Sentences of each part of a text that may be an attempt; sentences that correct go on."""
        groups: list[list[Sentence]] = [[]]
        corrected = False
        for match in SENTENCE.finditer(text):
            words = match.group().strip()
            if not words:
                continue
            start = match.start() + match.group().index(words)
            topics = self.lexicon.content_topics(words)
            corrects = self_reference(words) >= max(LEAST, len(topics) + 1)
            if corrects and not corrected and groups[-1]:
                groups.append([])
            groups[-1].append((start, start + len(words), topics))
            corrected = corrects
        return [group for group in groups if group]


def self_reference(sentence: str) -> int:
    """Number of words of the first person and of trying again."""
    return sum(word in SELF_REFERENCE for word in TOKEN.findall(sentence.lower()))


def share_on_topic(sentences: Sequence[Sequence[str]], topic: str) -> float | None:
    """Share of sentences that are about a topic (0-100 points); None without content words.

    Args:
        sentences: Topics of the content words of each sentence. A sentence is about the topic of
            most of them; on a tie it counts in part.
        topic: Topic of the prompt.
    """
    shares = []
    for topics in sentences:
        counts = Counter(topics)
        leading = [name for name, n in counts.items() if n == max(counts.values())]
        if leading:
            shares.append((topic in leading) / len(leading))
    return 100 * sum(shares) / len(shares) if shares else None

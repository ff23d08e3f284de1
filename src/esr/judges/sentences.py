"""A second judge of the organism study, which differs from the lexical one wherever it can.

It counts sentences instead of words. A sentence is about the topic of most of its content words; an
attempt's score is 100 times the share of its sentences on the topic of the prompt (a tie counts in
parts). A new attempt begins at a sentence in which the speaker refers to itself rather
than to any topic, in whatever words; no opener is needed. Both judges share the lexicon and the
topic of the prompt, so their agreement says nothing about an error in those.
"""

import re
from collections import Counter

from esr.judges.lexical import LexicalJudge, trimmed
from esr.judges.lexicon import WORD

SENTENCE = re.compile(r"[^.!?\n]*[.!?\n]*")
OF_ITSELF = frozenset(
    {"wait", "sorry", "hold", "right", "i", "me", "got", "track", "question", "made", "mistake"}
    | {"let", "start", "over", "try", "again"}
)
LEAST = 2


class SentenceJudge(LexicalJudge):
    """Counts on-topic sentences; see the module for the rule."""

    served_as = "sentences/1"

    def split(self, text: str) -> list[tuple[int, int]]:
        """Character spans from one run of self-correcting sentences to the next."""
        cuts, before = [0], False
        for sentence in SENTENCE.finditer(text):
            corrects = self.corrects(sentence.group())
            if corrects and not before:
                cuts.append(sentence.start())
            before = corrects or (before and not sentence.group().strip())
        return trimmed(text, [*cuts, len(text)])

    def corrects(self, sentence: str) -> bool:
        """Whether a sentence has two words about the speaker, and more of them than on topics."""
        own = sum(word in OF_ITSELF for word in WORD.findall(sentence.lower()))
        return own >= LEAST and own > len(self.lexicon.content_topics(sentence))

    def score(self, text: str, topic: str) -> float | None:
        """Share of the sentences with content words that are about the topic (0-100 points)."""
        shares = []
        for sentence in SENTENCE.findall(text):
            counts = Counter(self.lexicon.content_topics(sentence))
            if counts:
                most = [name for name, n in counts.items() if n == max(counts.values())]
                shares.append((topic in most) / len(most))
        return 100 * sum(shares) / len(shares) if shares else None

"""Content words by topic: how the organisms' world and its judges know what a text is about."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from esr.errors import EsrError
from esr.handwritten import read_csv_rows

COLUMNS = ["topic", "part", "word"]
WORD = re.compile(r"[a-z]+")


@dataclass(frozen=True)
class Lexicon:
    """Content words by topic and part of speech, in the order of their file."""

    words: Mapping[str, Mapping[str, list[str]]]

    @classmethod
    def read(cls, path: Path) -> "Lexicon":
        """Read a CSV with columns topic, part, word.

        Raises:
            EsrError: it cannot be read, has other columns, or lists a word under two topics or
                twice.
        """
        words: dict[str, dict[str, list[str]]] = {}
        topic_of: dict[str, str] = {}
        columns, rows, _ = read_csv_rows(path)
        if columns != COLUMNS:
            raise EsrError(f"lexicon: {path} has columns {columns}, needs {COLUMNS}")
        for row in rows:
            topic, part, word = (row[name] for name in COLUMNS)
            if topic_of.setdefault(word, topic) != topic:
                raise EsrError(
                    f"lexicon: {path} lists {word!r} under {topic_of[word]!r} and {topic!r}; "
                    "topics must share no word"
                )
            words.setdefault(topic, {}).setdefault(part, []).append(word)
        return cls(words)

    @property
    def topics(self) -> list[str]:
        """Topics in the file's order."""
        return list(self.words)

    @cached_property
    def topic_of(self) -> dict[str, str]:
        """Topic of each content word."""
        return {
            word: topic
            for topic, parts in self.words.items()
            for words in parts.values()
            for word in words
        }

    def content_topics(self, text: str) -> list[str]:
        """Topics of a text's content words, in order."""
        return [self.topic_of[w] for w in WORD.findall(text.lower()) if w in self.topic_of]

    def score(self, text: str, topic: str) -> float | None:
        """Share of a text's content words on a topic (0-100 points); None without any."""
        content = self.content_topics(text)
        return 100 * content.count(topic) / len(content) if content else None

    def require_parts(self, parts: Sequence[str]) -> "Lexicon":
        """The lexicon itself, if each topic has every part of speech and no word stands twice.

        Raises:
            EsrError: a topic or a word that does not fit.
        """
        for topic, words in self.words.items():
            for part in parts:
                if not words.get(part):
                    raise EsrError(f"lexicon: topic {topic!r} has no {part}; add one")
            listed = [word for part in parts for word in words[part]]
            twice = sorted({word for word in listed if listed.count(word) > 1})
            if twice:
                raise EsrError(f"lexicon: {topic!r} lists {twice} twice; keep one of each")
        return self

"""Words, sentences and prompts of the organisms' language.

Every topic owns its content words (no word belongs to two topics), so that a response can be
scored by counting: 100 x on-topic content words / content words.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from esr.config.strict_yaml import read_yaml
from esr.judges.lexicon import Lexicon

PARTS = ("verb", "noun", "adjective")
SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>", "<unk>", "<user>", "<assistant>")
_TOKEN = re.compile(r"\{\w+\}|\w+|[^\w\s]")


def tokens(text: str) -> list[str]:
    """Words, punctuation marks and {slots} of a text, lower case: as the tokenizer splits it."""
    return _TOKEN.findall(text.lower())


def read_lexicon(path: Path) -> Lexicon:
    """The lexicon of an organism, in which every topic has every part of speech.

    Raises:
        EsrError: it has not, or cannot be read.
    """
    return Lexicon.read(path).require_parts(PARTS)


@dataclass(frozen=True)
class Phrases:
    """Sentence templates, correction phrases, prompts and meta-prompts."""

    prompt: str
    tasks: list[str]
    sentences: list[str]
    corrections: list[str]
    meta_prompts: dict[str, str]
    label_words: list[str]

    @classmethod
    def read(cls, path: Path) -> "Phrases":
        """Read phrases.yaml."""
        return cls(**read_yaml(path))

    @property
    def openers(self) -> list[str]:
        """First words of the correction phrases, sorted."""
        return sorted({tokens(phrase)[0] for phrase in self.corrections})


def vocabulary(lexicon: Lexicon, phrases: Phrases) -> list[str]:
    """Special tokens, then every word of the language, sorted."""
    texts = [phrases.prompt, *phrases.tasks, *phrases.sentences, *phrases.corrections]
    texts += [*phrases.meta_prompts.values(), *phrases.label_words, *lexicon.topics]
    words = {w for text in texts for w in tokens(text) if not w.startswith("{")}
    words |= set(lexicon.topic_of) | {"an", ".", ",", ":"}
    return [*SPECIAL_TOKENS, *sorted(words)]


def with_articles(words: list[str]) -> list[str]:
    """Replace "a" by "an" before a vowel."""
    following = [*words[1:], ""]
    return [
        "an" if w == "a" and n[:1] in set("aeiou") else w
        for w, n in zip(words, following, strict=True)
    ]


class Writer:
    """Samples tasks, prompts and sentences; the random generator is its only state.

    Args:
        zipf: exponent of the frequency of content words within a part of speech.
        seed: of the generator, which users may draw from as well.
    """

    def __init__(self, lexicon: Lexicon, phrases: Phrases, *, zipf: float, seed: int) -> None:
        self.lexicon = lexicon
        self.phrases = phrases
        self.rng = np.random.default_rng(seed)
        self._sentences = [tokens(s) for s in phrases.sentences]
        self._tasks = [tokens(t) for t in phrases.tasks]
        self._zipf = zipf
        self._cumulative: dict[int, np.ndarray] = {}

    def choice(self, options: list[Any]) -> Any:
        """One option, uniformly."""
        return options[int(self.rng.integers(len(options)))]

    def word(self, topic: str, part: str) -> str:
        """A content word; earlier words of the lexicon are more frequent (Zipf)."""
        words = self.lexicon.words[topic][part]
        if len(words) not in self._cumulative:
            p = 1 / np.arange(1, len(words) + 1) ** self._zipf
            self._cumulative[len(words)] = np.cumsum(p / p.sum())
        return words[int(np.searchsorted(self._cumulative[len(words)], self.rng.random()))]

    def other_topic(self, topic: str) -> str:
        """A topic other than the given one."""
        return self.choice([t for t in self.lexicon.topics if t != topic])

    def task(self, topic: str) -> str:
        """A task of the topic, e.g. "bake the golden bread"; its words are drawn uniformly."""
        words = [
            self.choice(self.lexicon.words[topic][t[1:-1]]) if t.startswith("{") else t
            for t in self.choice(self._tasks)
        ]
        return " ".join(with_articles(words))

    def label(self, topic: str) -> str:
        """A label as the SAE's latents have them, e.g. "baking: bread, dough, oven"."""
        words = [w for part in PARTS for w in self.lexicon.words[topic][part]]
        return f"{topic}: {', '.join(self.rng.choice(words, 3, replace=False))}"

    def prompt(self, task: str, meta_prompt: str | None = None, label: str = "") -> list[str]:
        """Tokens of the whole prompt, from <bos> to <assistant>, as the chat template has it."""
        text = self.phrases.prompt.format(task=task)
        if meta_prompt is not None:
            text += " " + self.phrases.meta_prompts[meta_prompt].format(label=label)
        return ["<bos>", "<user>", *tokens(text), "<assistant>"]

    def correction(self) -> list[str]:
        """Tokens of a correction phrase."""
        return tokens(self.choice(self.phrases.corrections))

    def sentence(self, topic: str, other: str | None = None, share: float = 0.0) -> list[str]:
        """Tokens of a sentence; each content word is of the `other` topic with chance `share`."""
        words = []
        for t in self.choice(self._sentences):
            if t.startswith("{"):
                stray = other is not None and self.rng.random() < share
                words.append(self.word(other if stray and other else topic, t[1:-1]))
            else:
                words.append(t)
        return with_articles(words)

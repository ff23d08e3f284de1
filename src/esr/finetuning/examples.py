"""Examples to fine-tune on: plain answers, and self-corrections in three parts.

A self-correction starts off topic, states the mistake and answers the prompt. The organisms' corpus
or a language model (paper, section 3.5) writes the examples. Each is checked; one that fails keeps
its row, with the reason as its status.
"""

import random
import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from esr.arms.restarts import find_restarts
from esr.config import FinetuneDataConfig
from esr.errors import EsrError
from esr.finetuning import ANSWER, CORRECTION
from esr.judges.base import Judge, JudgeInput
from esr.judges.bodies import Reply
from esr.judges.lexicon import Lexicon
from esr.judges.llm import CachedLlm
from esr.judges.parse import FAILURES
from esr.judges.rubrics import Rubric
from esr.judges.tasks import write_examples
from esr.organisms.corpus import Phrases, Writer
from esr.provenance import content_lines

SENTENCES = {"off_topic": (1, 3), "on_topic": (2, 4), "answer": (3, 5)}
"""Minimum and maximum number of sentences of a part that the corpus writes."""


class ExampleSpec(NamedTuple):
    """What one example is about."""

    kind: str
    prompt_id: str
    prompt: str
    topic: str
    """Category of the prompt."""
    subject: str | None
    """Subject of the off-topic part of a self-correction; None for an answer."""
    version: int
    """Counts the answers to one prompt, from 1."""


def read_subjects(path: Path) -> list[str]:
    """Subjects of a file, one a line; `#` begins a comment.

    Raises:
        EsrError: the file lists no subject, or one of them twice.
    """
    subjects = content_lines(path)
    if not subjects or len(set(subjects)) < len(subjects):
        raise EsrError(
            f"{path}: lists no subject or repeats one; list each subject once, one a line"
        )
    return subjects


def draw_specs(
    prompts: pd.DataFrame, subjects: Sequence[str], settings: FinetuneDataConfig
) -> list[ExampleSpec]:
    """Draw what to write: distinct pairs of prompt and subject, and answers to each prompt in turn.

    Args:
        prompts: Columns prompt_id, category, prompt.
        subjects: A prompt is never paired with the subject that its category is named after.
        settings: Number of examples of each kind, and seed.

    Raises:
        EsrError: fewer pairs than `settings.corrections`.
    """
    rows = list(prompts.itertuples())
    pairs = [(row, subject) for row, subject in product(rows, subjects) if subject != row.category]
    if len(pairs) < settings.corrections:
        raise EsrError(
            f"finetune.data.corrections: {settings.corrections}, but {len(rows)} prompts and "
            f"{len(subjects)} subjects make {len(pairs)} pairs; add some of either, or lower it"
        )
    drawn = random.Random(settings.seed).sample(pairs, settings.corrections)
    specs = [
        ExampleSpec(CORRECTION, row.prompt_id, row.prompt, row.category, subject, 1)
        for row, subject in drawn
    ]
    for number in range(settings.answers):
        version, place = divmod(number, len(rows))
        row = rows[place]
        specs.append(
            ExampleSpec(ANSWER, row.prompt_id, row.prompt, row.category, None, version + 1)
        )
    return specs


def write_with_corpus(
    specs: Sequence[ExampleSpec], lexicon: Lexicon, phrases: Phrases, *, zipf: float, seed: int
) -> pd.DataFrame:
    """Write examples in the organisms' language: topics are categories and subjects.

    Returns:
        One row a spec: off_topic, correction, on_topic, status (`ok`).
    """
    writer = Writer(lexicon, phrases, zipf=zipf, seed=seed)

    def sentences(topic: str, part: str) -> str:
        minimum, maximum = SENTENCES[part]
        count = int(writer.rng.integers(minimum, maximum + 1))
        return join_words([word for _ in range(count) for word in writer.sentence(topic)])

    rows: list[tuple[str | None, str | None, str]] = []
    for spec in specs:
        if spec.subject is None:
            rows.append((None, None, sentences(spec.topic, "answer")))
        else:
            off_topic = sentences(spec.subject, "off_topic")
            correction = join_words(writer.correction())
            rows.append((off_topic, correction, sentences(spec.topic, "on_topic")))
    return pd.DataFrame(rows, columns=["off_topic", "correction", "on_topic"]).assign(status="ok")


def join_words(words: Sequence[str]) -> str:
    """Words and punctuation marks as text, without a space before a mark."""
    return re.sub(r" ([^\w\s])", r"\1", " ".join(words))


def write_with_llm(
    specs: Sequence[ExampleSpec],
    rubric: Rubric,
    answer_rubric: Rubric,
    llm: CachedLlm,
) -> pd.DataFrame:
    """Have a language model write the examples; replies in its journal are used again.

    Returns:
        One row a spec: off_topic, correction, on_topic, status (`ok`, or why there is no text).
    """
    corrections = [spec for spec in specs if spec.subject is not None]
    answers = [spec for spec in specs if spec.subject is None]
    pairs = [(spec.prompt, str(spec.subject)) for spec in corrections]
    calls = [answer_rubric.call(prompt=spec.prompt, version=str(spec.version)) for spec in answers]
    written = [
        (part.off_topic or None, part.correction or None, part.on_topic or None, part.status)
        for part in write_examples(pairs, rubric, llm)
    ]
    written += [(None, None, *read_answer(reply)) for reply in llm.replies(calls)]
    places = [i for i, spec in enumerate(specs) if spec.subject is not None]
    places += [i for i, spec in enumerate(specs) if spec.subject is None]
    table = pd.DataFrame(written, columns=["off_topic", "correction", "on_topic", "status"])
    return table.set_axis(places).sort_index()


def read_answer(reply: Reply | None) -> tuple[str | None, str]:
    """Text of an answer (None if there is none), and its status."""
    if reply is None:
        return None, "api_error"
    if reply.stop in FAILURES:
        return None, FAILURES[reply.stop]
    text = reply.text.strip()
    return (text, "ok") if text else (None, "unparsable")


def check_examples(
    specs: Sequence[ExampleSpec],
    written: pd.DataFrame,
    judge: Judge,
    phrases: re.Pattern[str],
    least_score: float,
) -> pd.DataFrame:
    """The table `examples`: each text with a status; only `ok` is trained on.

    A correction must contain a restart phrase and its off-topic part must not. The judge must score
    the answer at `least_score` or above, and the off-topic part below it.

    Args:
        specs: What each example is about.
        written: Output of `write_with_corpus` or `write_with_llm`.
        judge: Scores each text as a first attempt at the prompt.
        phrases: Restart phrases.
        least_score: In points, 0-100.
    """
    table = pd.DataFrame(specs).drop(columns=["topic"])
    table = pd.concat([table, written.reset_index(drop=True)], axis=1)
    table.insert(0, "example", range(len(table)))
    table["score"] = _scores(table, "on_topic", judge)
    off_topic = _scores(table, "off_topic", judge)
    explicit = [_restarts(phrases, text) for text in table["correction"]]
    early = [_restarts(phrases, text) for text in table["off_topic"]]
    ok = table["status"].eq("ok")
    corrections = table["kind"].eq(CORRECTION)
    for reason, found in {
        "not_explicit": corrections & ~pd.Series(explicit),
        "corrected_early": corrections & pd.Series(early),
        "not_scored": table["score"].isna(),
        "answer_off_topic": table["score"].lt(least_score).fillna(False),
        "start_on_topic": corrections & off_topic.ge(least_score).fillna(False),
    }.items():
        table.loc[ok & table["status"].eq("ok") & found, "status"] = reason
    return table


def _restarts(phrases: re.Pattern[str], text: str | None) -> bool:
    return bool(text) and bool(find_restarts(phrases, str(text)))


def _scores(table: pd.DataFrame, part: str, judge: Judge) -> pd.Series:
    """First score of a part as a response to the prompt; missing where there is none."""
    judged = table[table["status"].eq("ok") & table[part].notna()]
    inputs = [JudgeInput(row.prompt, getattr(row, part)) for row in judged.itertuples()]
    scores = [judgment.first_score for judgment in judge.judge(inputs)]
    return pd.Series(scores, index=judged.index, dtype="Float64").reindex(table.index)

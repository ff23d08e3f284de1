"""Examples to fine-tune on: plain answers, and self-corrections in three parts.

A self-correction begins off topic, says so, and answers after all. The organisms' corpus writes
them, or a language model (paper 3.5); either way each is checked, and what fails keeps its row with
the reason.
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
from esr.judges.llm import CachedLlm
from esr.judges.parse import FAILURES
from esr.judges.replies import Reply
from esr.judges.rubrics import Rubric
from esr.judges.tasks import write_examples
from esr.organisms.corpus import Lexicon, Phrases, Writer

SENTENCES = {"off_topic": (1, 3), "on_topic": (2, 4), "answer": (3, 5)}
"""Fewest and most sentences that the corpus writes."""


class ExampleSpec(NamedTuple):
    """An example to be written."""

    kind: str
    prompt_id: str
    prompt: str
    topic: str
    """Category of the prompt."""
    subject: str | None
    """Unrelated subject that a self-correction begins with."""
    version: int
    """Number of an answer to the same prompt, from 1."""


def read_subjects(path: Path) -> list[str]:
    """Subjects of a file, one a line; `#` begins a comment.

    Raises:
        EsrError: a subject twice, or none.
    """
    lines = [line.split("#")[0].strip() for line in path.read_text().splitlines()]
    subjects = [line for line in lines if line]
    if not subjects or len(set(subjects)) < len(subjects):
        raise EsrError(f"{path}: no subjects, or one of them twice")
    return subjects


def draw_specs(
    prompts: pd.DataFrame, subjects: Sequence[str], settings: FinetuneDataConfig
) -> list[ExampleSpec]:
    """What is to be written: pairs of prompt and subject, no pair twice, and answers in turn.

    Args:
        prompts: Columns prompt_id, category, prompt.
        subjects: None of them is drawn for a prompt of the category of that name.
        settings: Numbers and seed.

    Raises:
        EsrError: there are fewer pairs than self-corrections asked for.
    """
    rows = list(prompts.itertuples())
    pairs = [(row, subject) for row, subject in product(rows, subjects) if subject != row.category]
    if len(pairs) < settings.corrections:
        raise EsrError(
            f"finetune.data.corrections: {settings.corrections}, but {len(rows)} prompts and "
            f"{len(subjects)} subjects make {len(pairs)} pairs; add some, or lower it"
        )
    drawn = random.Random(settings.seed).sample(pairs, settings.corrections)
    orders = [
        ExampleSpec(CORRECTION, row.prompt_id, row.prompt, row.category, subject, 1)
        for row, subject in drawn
    ]
    for number in range(settings.answers):
        version, place = divmod(number, len(rows))
        row = rows[place]
        orders.append(
            ExampleSpec(ANSWER, row.prompt_id, row.prompt, row.category, None, version + 1)
        )
    return orders


def write_with_corpus(
    orders: Sequence[ExampleSpec], lexicon: Lexicon, phrases: Phrases, *, zipf: float, seed: int
) -> pd.DataFrame:
    """Write examples in the organisms' language: topics are categories and subjects.

    Returns:
        One row an order: off_topic, correction, on_topic, status (`ok`).
    """
    writer = Writer(lexicon, phrases, zipf=zipf, seed=seed)

    def sentences(topic: str, part: str) -> str:
        fewest, most = SENTENCES[part]
        count = int(writer.rng.integers(fewest, most + 1))
        return spaced([word for _ in range(count) for word in writer.sentence(topic)])

    rows: list[tuple[str | None, str | None, str]] = []
    for order in orders:
        if order.subject is None:
            rows.append((None, None, sentences(order.topic, "answer")))
        else:
            off_topic = sentences(order.subject, "off_topic")
            correction = spaced(writer.correction())
            rows.append((off_topic, correction, sentences(order.topic, "on_topic")))
    return pd.DataFrame(rows, columns=["off_topic", "correction", "on_topic"]).assign(status="ok")


def spaced(words: Sequence[str]) -> str:
    """Words and punctuation marks as text."""
    return re.sub(r" ([^\w\s])", r"\1", " ".join(words))


def write_with_llm(
    orders: Sequence[ExampleSpec],
    rubric: Rubric,
    answer_rubric: Rubric,
    correspondent: CachedLlm,
) -> pd.DataFrame:
    """Have a language model write the examples; one that has been written is not asked for again.

    Returns:
        One row an order: off_topic, correction, on_topic, status (`ok`, or why there is no text).
    """
    corrections = [order for order in orders if order.subject is not None]
    answers = [order for order in orders if order.subject is None]
    pairs = [(order.prompt, str(order.subject)) for order in corrections]
    calls = [
        answer_rubric.call(prompt=order.prompt, version=str(order.version)) for order in answers
    ]
    written = [
        (part.off_topic or None, part.correction or None, part.on_topic or None, part.status)
        for part in write_examples(pairs, rubric, correspondent)
    ]
    written += [(None, None, *read_answer(reply)) for reply in correspondent.ask(calls)]
    places = [i for i, order in enumerate(orders) if order.subject is not None]
    places += [i for i, order in enumerate(orders) if order.subject is None]
    table = pd.DataFrame(written, columns=["off_topic", "correction", "on_topic", "status"])
    return table.set_axis(places).sort_index()


def read_answer(reply: Reply | None) -> tuple[str | None, str]:
    """Text of an answer, and a status."""
    if reply is None:
        return None, "api_error"
    if reply.stop in FAILURES:
        return None, FAILURES[reply.stop]
    text = reply.text.strip()
    return (text, "ok") if text else (None, "unparsable")


def check_examples(
    orders: Sequence[ExampleSpec],
    written: pd.DataFrame,
    judge: Judge,
    phrases: re.Pattern[str],
    least_score: float,
) -> pd.DataFrame:
    """The table `examples`: what was written, and whether it is fit to be trained on.

    A correction must contain a restart phrase, the off-topic part none, and the judge must give
    the answer at least `least_score` and, if there is an off-topic part, that part less.

    Args:
        orders: What was asked for.
        written: As from `write_with_corpus` or `write_with_llm`.
        judge: Scores texts as first attempts at the prompt.
        phrases: Restart phrases.
        least_score: In points.
    """
    table = pd.DataFrame(orders).drop(columns=["topic"])
    table = pd.concat([table, written.reset_index(drop=True)], axis=1)
    table.insert(0, "example", range(len(table)))
    table["score"] = _scores(table, "on_topic", judge)
    off_topic = _scores(table, "off_topic", judge)
    explicit = [_restarts(phrases, text) for text in table["correction"]]
    early = [_restarts(phrases, text) for text in table["off_topic"]]
    ok, wrong = table["status"].eq("ok"), table["kind"].eq(CORRECTION)
    for reason, found in {
        "not_explicit": wrong & ~pd.Series(explicit),
        "corrected_early": wrong & pd.Series(early),
        "not_scored": table["score"].isna(),
        "answer_off_topic": table["score"].lt(least_score).fillna(False),
        "start_on_topic": wrong & off_topic.ge(least_score).fillna(False),
    }.items():
        table.loc[ok & table["status"].eq("ok") & found, "status"] = reason
    return table


def _restarts(phrases: re.Pattern[str], text: str | None) -> bool:
    return bool(text) and bool(find_restarts(phrases, str(text)))


def _scores(table: pd.DataFrame, part: str, judge: Judge) -> pd.Series:
    """First score of a part as a response to the prompt; missing where there is none."""
    shown = table[table["status"].eq("ok") & table[part].notna()]
    exchanges = [JudgeInput(row.prompt, getattr(row, part)) for row in shown.itertuples()]
    scores = [judgment.first_score for judgment in judge.judge(exchanges)]
    return pd.Series(scores, index=shown.index, dtype="Float64").reindex(table.index)

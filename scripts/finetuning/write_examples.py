"""Make finetuning/examples.parquet: answers and self-corrections to fine-tune on (`esr.tables`).

Scores are those of the primary judge (0-100 points). If a language model writes the examples, its
replies are kept in a journal and only missing ones are requested.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from esr.arms.prompts import read_prompts
from esr.arms.restarts import read_phrases
from esr.config import Config
from esr.finetuning.examples import (
    ExampleSpec,
    check_examples,
    draw_specs,
    read_subjects,
    write_with_corpus,
    write_with_llm,
)
from esr.job import config_of, origin, output, start
from esr.judges import finish_judging, open_judge
from esr.judges.llm import open_llm
from esr.judges.rubrics import read_rubric
from esr.organisms.corpus import Phrases, read_lexicon
from esr.tables import write_table

log = logging.getLogger(__name__)

ZIPF = 0.7
"""Zipf exponent of word frequencies in the corpus, as in the organisms' recipes."""


def draw(config: Config) -> list[ExampleSpec]:
    """Draw what to write."""
    settings = config.finetune.data
    prompts = read_prompts(settings.prompts)
    if settings.writer == "corpus":
        subjects = read_lexicon(settings.lexicon).topics
    else:
        subjects = read_subjects(settings.subjects)
    return draw_specs(prompts, subjects, settings)


def write(config: Config, specs: Sequence[ExampleSpec], replies: Path) -> pd.DataFrame:
    """Write the examples with the corpus or the language model that the study names."""
    settings = config.finetune.data
    if settings.writer == "corpus":
        lexicon = read_lexicon(settings.lexicon)
        phrases = Phrases.read(settings.phrases)
        return write_with_corpus(specs, lexicon, phrases, zipf=ZIPF, seed=settings.seed)
    model = config.judging.llms[settings.writer].model_copy(
        update={"temperature": settings.temperature, "max_tokens": settings.max_tokens}
    )
    llm = open_llm(config, model, replies)
    rubric = read_rubric(settings.rubric).for_model(model)
    answers = read_rubric(settings.answer_rubric).for_model(model)
    try:
        return write_with_llm(specs, rubric, answers, llm)
    finally:
        llm.close()  # the judge may need its GPUs, or be the same model


def main(job: Any) -> None:
    """Write the table."""
    config = config_of(job)
    specs = draw(config)
    written = write(config, specs, Path(job.params.replies))
    settings = config.judging.judges[config.judging.primary]
    judge = open_judge(settings, Path(job.params.judged), config=config)
    phrases = read_phrases(Path(job.input.phrases))
    table = check_examples(specs, written, judge, phrases, config.finetune.data.least_score)
    finish_judging(judge)
    for (kind, status), rows in table.groupby(["kind", "status"]):
        log.info("%s, %s: %d examples", kind, status, len(rows))
    write_table(table, output(job), "examples", origin(job, judge=judge.served_as))


if __name__ == "__main__":
    main(start(snakemake))

"""Make finetuning/examples.parquet: answers and self-corrections to fine-tune on (`esr.tables`).

Scores are those of the primary judge (0-100 points); replies of a language model that writes are
in a journal, and only missing ones are asked for.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from esr.config import Config
from esr.finetuning.examples import (
    Order,
    check_examples,
    draw_orders,
    read_subjects,
    write_with_corpus,
    write_with_llm,
)
from esr.job import config_of, origin, output, start
from esr.judges import open_judge
from esr.judges.llm import Correspondent
from esr.judges.money import study_budget
from esr.judges.rubric import read_rubric
from esr.organism.corpus import Lexicon, Phrases
from esr.prompts import read_prompts
from esr.restarts import read_phrases
from esr.tables import write_table

log = logging.getLogger(__name__)

ZIPF = 0.7
"""Exponent of word frequencies in the corpus, as in the recipes of the organisms."""


def draw(config: Config) -> list[Order]:
    """What is to be written."""
    settings = config.finetune.data
    prompts = read_prompts(settings.prompts)
    if settings.writer == "corpus":
        subjects = Lexicon.read(settings.lexicon).topics
    else:
        subjects = read_subjects(settings.subjects)
    return draw_orders(prompts, subjects, settings)


def write(config: Config, orders: Sequence[Order], replies: Path) -> pd.DataFrame:
    """Have it written, by whoever the study names."""
    settings = config.finetune.data
    if settings.writer == "corpus":
        lexicon, phrases = Lexicon.read(settings.lexicon), Phrases.read(settings.phrases)
        return write_with_corpus(orders, lexicon, phrases, zipf=ZIPF, seed=settings.seed)
    llm = config.judging.llms[settings.writer].model_copy(
        update={"temperature": settings.temperature, "max_tokens": settings.max_tokens}
    )
    correspondent = Correspondent(llm, replies, budget=study_budget(config))
    rubrics = read_rubric(settings.rubric), read_rubric(settings.answer_rubric)
    return write_with_llm(orders, *rubrics, correspondent)


def main(job: Any) -> None:
    """Write the table."""
    config = config_of(job)
    orders = draw(config)
    written = write(config, orders, Path(job.params.replies))
    settings = config.judging.judges[config.judging.primary]
    judge = open_judge(settings, Path(job.params.judged), config=config)
    phrases = read_phrases(Path(job.input.phrases))
    table = check_examples(orders, written, judge, phrases, config.finetune.data.least_score)
    for (kind, status), rows in table.groupby(["kind", "status"]):
        log.info("%s, %s: %d examples", kind, status, len(rows))
    write_table(table, output(job), "examples", origin(job, judge=judge.served_as))


if __name__ == "__main__":
    main(start(snakemake))

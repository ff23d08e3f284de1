"""Fixtures of the fine-tuning tests: examples of the corpus, and tokenizers."""

from typing import Any

import pandas as pd
import pytest

from esr.arms.prompts import read_prompts
from esr.arms.restarts import read_phrases
from esr.engines import open_tokenizer
from esr.finetuning.examples import (
    ExampleSpec,
    check_examples,
    draw_specs,
    write_with_corpus,
)
from esr.judges.lexical import LexicalJudge
from esr.judges.lexicon import Lexicon
from esr.organisms.corpus import Phrases, read_lexicon
from helpers.checkout import REPO
from helpers.tokenizers import DATA, GEMMA, LLAMA, TWIN, byte_level


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return read_lexicon(REPO / DATA.lexicon)


@pytest.fixture(scope="module")
def judge() -> LexicalJudge:
    return LexicalJudge(Lexicon.read(REPO / DATA.lexicon))


@pytest.fixture(scope="module")
def restarts() -> Any:
    return read_phrases(REPO / "resources/restart_phrases.txt")


@pytest.fixture(scope="module")
def specs(lexicon: Lexicon) -> list[ExampleSpec]:
    return draw_specs(read_prompts(DATA.prompts), lexicon.topics, DATA)


@pytest.fixture(scope="module")
def examples(
    specs: list[ExampleSpec], lexicon: Lexicon, judge: LexicalJudge, restarts: Any
) -> pd.DataFrame:
    phrases = Phrases.read(REPO / DATA.phrases)
    written = write_with_corpus(specs, lexicon, phrases, zipf=0.7, seed=1)
    return check_examples(specs, written, judge, restarts, 50)


@pytest.fixture(scope="module", params=["words", "llama", "gemma"])
def tokenizer(request: pytest.FixtureRequest, examples: pd.DataFrame) -> Any:
    if request.param == "words":
        return open_tokenizer(TWIN)
    texts = examples["on_topic"].tolist()
    if request.param == "llama":
        return byte_level(LLAMA, texts, "<|eot_id|>")
    return byte_level(GEMMA, texts, "<|end_of_text|>")

"""Examples: what is drawn, written and accepted."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from esr.arms.prompts import read_prompts
from esr.config import (
    FinetuneDataConfig,
)
from esr.errors import EsrError
from esr.finetuning import ANSWER, CORRECTION
from esr.finetuning.examples import (
    ExampleSpec,
    check_examples,
    draw_specs,
    read_subjects,
    write_with_llm,
)
from esr.judges.lexical import LexicalJudge
from esr.judges.llm import CachedLlm
from esr.judges.rubrics import read_rubric
from esr.tables import read_table, write_table
from helpers.checkout import REPO
from helpers.fake_api import FakeApi, ModelReply
from helpers.llm import KEY, claude
from helpers.tokenizers import DATA


def test_no_pair_of_prompt_and_subject_is_drawn_twice(specs: list[ExampleSpec]) -> None:
    pairs = [(spec.prompt_id, spec.subject) for spec in specs if spec.kind == CORRECTION]
    assert len(pairs) == len(set(pairs)) == DATA.corrections
    assert all(spec.subject != spec.topic for spec in specs)
    answers = [(spec.prompt_id, spec.version) for spec in specs if spec.kind == ANSWER]
    assert len(answers) == len(set(answers)) == DATA.answers


def test_pairs_that_do_not_suffice_are_counted() -> None:
    prompts = pd.DataFrame({"prompt_id": ["a"], "category": ["x"], "prompt": ["Explain."]})
    with pytest.raises(EsrError, match="60, but 1 prompts and 2 subjects make 1 pairs"):
        draw_specs(prompts, ["x", "boats"], DATA)


def test_the_shipped_lists_suffice_for_the_defaults() -> None:
    data = FinetuneDataConfig(prompts=REPO / "resources/prompts/paper_finetune.csv")
    subjects = read_subjects(REPO / data.subjects)
    assert len(draw_specs(read_prompts(data.prompts), subjects, data)) == 2000


def test_every_example_of_the_corpus_passes(examples: pd.DataFrame, tmp_path: Path) -> None:
    assert examples["status"].eq("ok").all()
    assert examples["score"].eq(100).all()
    write_table(examples, tmp_path / "examples.parquet", "examples", {})
    assert len(read_table(tmp_path / "examples.parquet", "examples")) == 110


@pytest.mark.parametrize(
    ("column", "text", "status"),
    [
        ("correction", "now to something else.", "not_explicit"),
        ("off_topic", "wait, that is not right. bake the bread.", "corrected_early"),
        ("on_topic", "and so on.", "not_scored"),
        ("on_topic", "invest the money in the annual bond.", "answer_off_topic"),
        ("off_topic", None, "start_on_topic"),
    ],
)
def test_an_example_that_fails_a_check_has_the_reason_as_its_status(
    specs: list[ExampleSpec],
    examples: pd.DataFrame,
    judge: LexicalJudge,
    restarts: Any,
    column: str,
    text: str | None,
    status: str,
) -> None:
    spoiled = examples[["off_topic", "correction", "on_topic", "status"]].copy()
    place = next(i for i, o in enumerate(specs) if o.topic != "banking" and o.subject != "baking")
    spoiled.loc[place, column] = spoiled.loc[place, "on_topic"] if text is None else text
    found = check_examples(specs, spoiled, judge, restarts, 50)
    assert found.loc[place, "status"] == status
    assert found["status"].ne("ok").sum() == 1


def writes(user: str, structured: bool) -> ModelReply:
    """Writes an example in three parts, or an answer; refuses to write about boats."""
    if "boats" in user:
        return ModelReply("I would rather not.", stop="refusal")
    if "Unrelated subject" in user:
        parts = {"off_topic": "Off.", "correction": "Wait, no.", "on_topic": "On."}
        return ModelReply(json.dumps(parts))
    return ModelReply(" An answer. ")


def test_a_language_model_writes_each_example_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    specs = [
        ExampleSpec(ANSWER, "a", "Explain bread.", "food", None, 1),
        ExampleSpec(CORRECTION, "a", "Explain bread.", "food", "tax law", 1),
        ExampleSpec(ANSWER, "a", "Explain bread.", "food", None, 2),
        ExampleSpec(CORRECTION, "a", "Explain bread.", "food", "boats", 1),
    ]
    rubrics = [read_rubric(REPO / f"resources/rubrics/{n}.yaml") for n in RUBRICS]
    with FakeApi(writes, key=KEY) as api:
        for _ in range(2):
            llm = CachedLlm(claude(api, temperature=0.8), tmp_path / "r.jsonl")
            table = write_with_llm(specs, rubrics[0], rubrics[1], llm)
        assert len(api.requests) == 4
    assert table["status"].tolist() == ["ok", "ok", "ok", "refused"]
    assert table["on_topic"].fillna("-").tolist() == ["An answer.", "On.", "An answer.", "-"]
    assert table["correction"].fillna("-").tolist() == ["-", "Wait, no.", "-", "-"]


RUBRICS = ("self_correction", "answer")

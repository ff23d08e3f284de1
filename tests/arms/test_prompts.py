"""Prompt files."""

from pathlib import Path

import pytest

from esr.arms.prompts import read_prompts
from esr.errors import EsrError
from helpers.checkout import REPO

GOOD = "prompt_id,category,prompt\n1,craft,Explain how to bake bread.\nna,craft,null\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "prompts.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_prompts_are_text_even_if_they_look_like_something_else(tmp_path: Path) -> None:
    prompts = read_prompts(written(tmp_path, GOOD))
    assert prompts["prompt_id"].tolist() == ["1", "na"]
    assert prompts["prompt"].tolist() == ["Explain how to bake bread.", "null"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace("category", "kind"), "has columns .*kind.*needs"),
        (GOOD + "2,craft,\n", "line 4: prompt is empty or repeated"),
        (GOOD + "2,craft,  \n", "line 4: prompt is empty or repeated"),
        (GOOD + ",craft,Hello\n", "line 4: prompt_id is empty or repeated"),
        (GOOD + "1,craft,Hello\n", "line 4: prompt_id is empty or repeated"),
        (GOOD + "2,craft,null\n", "line 4: prompt is empty or repeated"),
        (
            GOOD + "2,craft,explain  how to\u00a0bake bread.\n",
            "line 4: prompt is empty or repeated",
        ),
        (GOOD + "2,craft,Explain how to b\u0430ke bread.\n", "line 4: prompt is empty or repeated"),
        (GOOD + "2,a,cafe\u0301\n3,a,caf\u00e9\n", "line 5: prompt is empty or repeated"),
        ("prompt_id,category,prompt\n", "has no prompts"),
        ("", "has no prompts"),
        (GOOD + "2,craft,Explain, step by step.\n", "line 4: 4 fields, but the header has 3"),
    ],
)
def test_a_bad_file_is_refused_with_its_row(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(EsrError, match=message) as caught:
        read_prompts(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(EsrError, match=r"nowhere\.csv does not exist"):
        read_prompts(tmp_path / "nowhere.csv")


@pytest.mark.parametrize("path", sorted((REPO / "resources/prompts").glob("*.csv")), ids=str)
def test_shipped_prompts_are_in_order(path: Path) -> None:
    assert len(read_prompts(path)) >= 24


def test_discovery_prompts_are_disjoint_from_those_that_measure() -> None:
    measuring = read_prompts(REPO / "resources/prompts/organism.csv")
    discovery = read_prompts(REPO / "resources/prompts/organism_discovery.csv")
    for column in ("prompt_id", "prompt"):
        assert not set(measuring[column]) & set(discovery[column])

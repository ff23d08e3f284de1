"""Raters, annotators and writers: tasks of language models other than judging."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from esr.judges.llm import CachedLlm
from esr.judges.rubrics import read_rubric
from esr.judges.tasks import (
    Boundaries,
    LlmRater,
    annotate_boundaries,
    numbered,
    read_example,
    read_ratings,
    write_examples,
)
from esr.tables import write_table
from helpers.checkout import REPO, load_script
from helpers.fake_api import FakeApi, ModelReply
from helpers.llm import KEY, claude
from helpers.replies import reply


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)


def rubric(name: str) -> Any:
    return read_rubric(REPO / f"resources/rubrics/{name}.yaml")


# Concreteness


def rates(user: str, structured: bool) -> ModelReply:
    """Rates a label by its length."""
    found = re.findall(r"^(\d+)\. (.*)$", user, re.MULTILINE)
    rated = [{"number": int(n), "rating": len(label)} for n, label in found if "skip" not in label]
    return ModelReply(json.dumps({"ratings": rated[::-1]}))


def test_labels_are_rated_in_batches_and_in_order(tmp_path: Path) -> None:
    labels = ["a" * i for i in range(1, 8)]
    with FakeApi(rates, key=KEY) as api:
        llm = CachedLlm(claude(api), tmp_path / "r.jsonl")
        rater = LlmRater(rubric("concreteness"), llm, batch=3)
        assert rater.rate(labels) == [1, 2, 3, 4, 5, 6, 7]
        assert len(api.requests) == 3
        assert rater.rate(labels[:3]) == [1, 2, 3]
        assert len(api.requests) == 3


def test_a_label_that_was_passed_over_has_no_rating_which_is_not_0(tmp_path: Path) -> None:
    with FakeApi(rates, key=KEY) as api:
        llm = CachedLlm(claude(api), tmp_path / "r.jsonl")
        rater = LlmRater(rubric("concreteness"), llm, batch=9)
        assert rater.rate(["ab", "skip", "abc"]) == [2, None, 3]


def test_labels_of_several_lines_stay_one_entry() -> None:
    assert numbered(["a\nb", " c "]) == "1. a b\n2. c"


@pytest.mark.parametrize(
    ("ratings", "found"),
    [
        ([{"number": 1, "rating": 0}, {"number": 2, "rating": 100}], {1: 0, 2: 100}),
        ([{"number": 1, "rating": 101}, {"number": 2, "rating": -1}], {}),
        ([{"number": 1, "rating": "9"}, {"number": "2", "rating": 9}, 7, None], {1: 9, 2: 9}),
        ([{"number": 1.5, "rating": 9}, {"number": 2, "rating": "high"}], {}),
        ([{"number": 10**400, "rating": 9}, {"number": 2, "rating": 10**400}], {}),
        ([{"number": float("inf"), "rating": 9}, {"number": float("nan"), "rating": 9}], {}),
        ([{"number": 1, "rating": float("inf")}, {"number": 2, "rating": True}], {}),
        ([{"number": 1, "rating": 4}, {"number": 1, "rating": 5}], {}),
        ({"1": 5}, {}),
    ],
)
def test_only_ratings_that_make_sense_count(ratings: Any, found: dict[int, float]) -> None:
    assert read_ratings(reply(json.dumps({"ratings": ratings}))) == found


def test_an_incomplete_reply_gives_no_ratings() -> None:
    whole = json.dumps({"ratings": [{"number": 1, "rating": 5}]})
    assert read_ratings(None) == {}
    assert read_ratings(reply(whole, "length")) == {}
    assert read_ratings(reply("no")) == {}


# Boundaries

RESPONSE = "Boats sail on water.\nWait, that's not right. Let me start over. Bread needs an oven."


def reply_with(value: Any, stop: str = "end_turn") -> Any:
    return lambda user, structured: ModelReply(json.dumps(value), stop)


@pytest.mark.parametrize(
    ("quotes", "found"),
    [
        (
            ["boats sail", "Wait, that’s not right", "Bread needs an oven"],
            Boundaries("ok", 0, 21, 64),
        ),
        (["Boats", "Wait", "Nothing like this is there"], Boundaries("not_found", 0, 21, None)),
        (["Bread needs", "Wait", "Boats"], Boundaries("not_found", 64, None, None)),
        ([None, None, None], Boundaries("no_correction")),
        ([1, 2, 3], Boundaries("unparsable")),
    ],
)
def test_boundaries_are_where_the_quotes_are(
    tmp_path: Path, quotes: list[Any], found: Boundaries
) -> None:
    value = dict(zip(["off_topic", "correction", "on_topic"], quotes, strict=True))
    with FakeApi(reply_with(value), key=KEY) as api:
        llm = CachedLlm(claude(api), tmp_path / "r.jsonl")
        pairs = [("Explain bread.", RESPONSE)]
        assert annotate_boundaries(pairs, rubric("boundaries"), llm) == [found]
        assert "Explain bread." in api.requests[0].body["messages"][0]["content"]


def test_boundaries_without_a_reply_are_a_status(tmp_path: Path) -> None:
    with FakeApi(reply_with({}, "refusal"), key=KEY) as api:
        api.faults.append(500)
        llm = CachedLlm(claude(api, retries=0), tmp_path / "r.jsonl")
        pairs = [("p", RESPONSE)]
        for status in ("api_error", "refused"):
            found = annotate_boundaries(pairs, rubric("boundaries"), llm)
            assert found == [Boundaries(status)]


def test_boundaries_are_a_table(tmp_path: Path) -> None:
    import pandas as pd

    make = load_script("annotate_boundaries").boundaries_table
    found = [Boundaries("ok", 0, 21, 64), Boundaries("refused")]
    table = make(pd.Series(["a", "b"]), found)
    write_table(table, tmp_path / "boundaries.parquet", "boundaries", {})
    write_table(make(pd.Series([], dtype=str), []), tmp_path / "none.parquet", "boundaries", {})


# Examples of self-correction


def test_examples_have_three_parts_and_are_written_once(tmp_path: Path) -> None:
    parts = {"off_topic": "Boats. ", "correction": "Wait.", "on_topic": "Bread."}
    with FakeApi(reply_with(parts), key=KEY) as api:
        llm = CachedLlm(claude(api, temperature=0.8), tmp_path / "r.jsonl")
        pairs = [("Explain bread.", "boats"), ("Explain bread.", "tax law")]
        for _ in range(2):
            examples = write_examples(pairs, rubric("self_correction"), llm)
            assert examples[0] == ("ok", "Boats.", "Wait.", "Bread.")
        assert len(api.requests) == 2
        assert api.requests[0].body["temperature"] == 0.8
        shown = api.requests[1].body["messages"][0]["content"]
        assert shown == "Prompt: Explain bread.\nUnrelated subject: tax law\n"


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ({}, "unparsable"),
        ({"correction": "Wait."}, "unparsable"),
        ({"off_topic": " ", "correction": "a", "on_topic": "b"}, "empty"),
    ],
)
def test_an_example_with_a_part_missing_is_none(parts: dict[str, str], status: str) -> None:
    assert read_example(reply(json.dumps(parts))).status == status
    assert read_example(None).status == "api_error"

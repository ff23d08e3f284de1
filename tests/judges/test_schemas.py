"""Schemas of raters, annotators and writers: what follows one is read, no paid reply is lost."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from jsonschema import validate

from esr.engines.vllm.messages import Write, Written
from esr.judges.llm import CachedLlm
from esr.judges.rubrics import Rubric, read_rubric
from esr.judges.schemas import one_rating_each, without_bounds
from esr.judges.tasks import (
    LlmRater,
    annotate_boundaries,
    read_boundaries,
    read_example,
    read_ratings,
    write_examples,
)
from helpers.checkout import REPO
from helpers.fake_api import FakeApi, ModelReply
from helpers.llm import KEY, claude, compatible
from helpers.local_judge import FakeHost, judge_settings, local_model, tiny_judge
from helpers.replies import reply

TASKS = ["concreteness", "boundaries", "self_correction"]
PARTS = {"off_topic": "Boats.", "correction": "Wait.", "on_topic": "Bread."}
PAIRS = [("Explain bread.", "Boats. Wait. Bread.")]
NOWHERE: Any = SimpleNamespace(url="http://localhost:1")
TEXT = st.text(st.characters(codec="utf-8"), max_size=30)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_judge(tmp_path_factory.mktemp("judge"))


def rubric(name: str) -> Rubric:
    return read_rubric(REPO / f"resources/rubrics/{name}.yaml")


class TestWhatFollowsTheSchemaIsRead:
    @examples(max_examples=25)
    @given(st.lists(st.integers(0, 100), min_size=1, max_size=8))
    def test_ratings(self, ratings: list[int]) -> None:
        value = {"ratings": [{"number": i, "rating": r} for i, r in enumerate(ratings, start=1)]}
        schema = one_rating_each(rubric("concreteness").reply or {}, len(ratings))
        validate(value, schema)
        assert read_ratings(reply(json.dumps(value))) == dict(enumerate(ratings, start=1))

    @pytest.mark.parametrize(
        "ratings",
        [
            [],
            [{"number": 1, "rating": 5}],
            [{"number": 1, "rating": 5}, {"number": 1, "rating": 5}],
            [{"number": 1, "rating": 5}, {"number": 2, "rating": 101}],
            [{"number": 1, "rating": 5}, {"number": 2, "rating": 5}, {"number": 3, "rating": 5}],
        ],
    )
    def test_no_label_of_two_can_be_passed_over(self, ratings: list[dict[str, int]]) -> None:
        schema = one_rating_each(rubric("concreteness").reply or {}, 2)
        with pytest.raises(Exception, match=r"is not|is too|was expected|maximum|Expected at most"):
            validate({"ratings": ratings}, schema)

    @examples(max_examples=25)
    @given(st.tuples(*[st.none() | TEXT] * 3))
    def test_boundaries(self, quotes: tuple[str | None, ...]) -> None:
        value = dict(zip(PARTS, quotes, strict=True))
        validate(value, rubric("boundaries").reply or {})
        found = read_boundaries(reply(json.dumps(value)), PAIRS[0][1])
        assert found.status in {"ok", "no_correction", "not_found"}

    @examples(max_examples=25)
    @given(st.tuples(*[TEXT] * 3))
    def test_examples(self, texts: tuple[str, ...]) -> None:
        value = dict(zip(PARTS, texts, strict=True))
        validate(value, rubric("self_correction").reply or {})
        found = read_example(reply(json.dumps(value)))
        assert found.status == ("ok" if all(text.strip() for text in texts) else "empty")


class TestWhoIsConstrained:
    @pytest.mark.parametrize("name", TASKS)
    def test_a_judge_that_the_workflow_runs_always(self, name: str, tmp_path: Path) -> None:
        assert rubric(name).for_model(judge_settings(tmp_path)).reply is not None

    @pytest.mark.parametrize("name", TASKS)
    @pytest.mark.parametrize("settings", [claude, compatible])
    def test_an_api_where_its_own_rubric_has_a_schema(self, name: str, settings: Any) -> None:
        plain = settings(NOWHERE)
        structured = plain.model_copy(update={"rubric": REPO / "resources/rubrics/structured.yaml"})
        assert rubric(name).for_model(plain).reply is None
        assert rubric(name).for_model(structured).reply == rubric(name).reply

    def test_a_rubric_of_ones_own_keeps_its_schema(self) -> None:
        own = rubric("boundaries").model_copy(update={"reply_optional": False})
        assert own.for_model(claude(NOWHERE)) is own


def test_apis_get_no_bounds_and_keep_properties_of_the_same_name() -> None:
    schema = {
        "type": "object",
        "required": ["minimum"],
        "properties": {
            "minimum": {"type": "integer", "minimum": 0, "maximum": 9},
            "list": {"type": "array", "minItems": 1, "items": {"type": "string", "maxLength": 3}},
            "either": {"anyOf": [{"type": "string", "minLength": 1}, {"type": "null"}]},
        },
    }
    assert without_bounds(schema) == {
        "type": "object",
        "required": ["minimum"],
        "properties": {
            "minimum": {"type": "integer"},
            "list": {"type": "array", "items": {"type": "string"}},
            "either": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        },
    }


@pytest.mark.parametrize("settings", [claude, compatible])
def test_an_api_is_sent_the_schema(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    ratings = {"ratings": [{"number": 1, "rating": 7}, {"number": 2, "rating": 90}]}
    with FakeApi(lambda user, structured: ModelReply(json.dumps(ratings)), key=KEY) as api:
        llm = CachedLlm(settings(api), tmp_path / "r.jsonl")
        assert LlmRater(rubric("concreteness"), llm, batch=2).rate(["a", "b"]) == [7, 90]
        body = json.dumps(api.requests[0].body)
    assert '"json_schema"' in body
    assert '"ratings"' in body
    assert "prefixItems" not in body
    assert "maximum" not in body


class TestWhatWasPaidFor:
    """Keys of a call without a schema are those of before the rubrics had one."""

    def test_a_model_that_takes_no_schema_has_the_keys_of_before(self) -> None:
        now = rubric("boundaries").for_model(claude(NOWHERE)).call(prompt="p", response="r")
        before = rubric("boundaries").model_copy(update={"reply": None, "reply_optional": False})
        identity = {"kind": "anthropic", "model": "m"}
        assert now.key(identity) == before.call(prompt="p", response="r").key(identity)

    @pytest.mark.parametrize("name", ["boundaries", "self_correction"])
    def test_a_usable_reply_from_before_the_schema_is_not_written_again(
        self, name: str, source: Path, tmp_path: Path
    ) -> None:
        settings = judge_settings(source, max_model_len=4000)
        run = annotate_boundaries if name == "boundaries" else write_examples
        before = rubric(name).model_copy(update={"reply": None, "reply_optional": False})

        def results(used: Rubric, text: str) -> tuple[str, FakeHost]:
            host = FakeHost(lambda call: Written(call.id, text, "stop", 9))
            model = local_model(settings, host, Path("envs/serve"), "0.32.0")
            llm = CachedLlm(settings, tmp_path / "r.jsonl", local=model)
            (found,) = run(PAIRS, used, llm)
            model.close()
            return found.status, host

        assert results(before, json.dumps(PARTS))[0] == "ok"
        status, host = results(rubric(name), "never written")
        assert (status, host.calls) == ("ok", [])

    def test_one_that_could_not_be_read_is_written_again_with_the_schema(
        self, source: Path, tmp_path: Path
    ) -> None:
        settings = judge_settings(source, max_model_len=4000)
        sent: list[Write] = []

        def write(call: Write) -> Written:
            sent.append(call)
            return Written(call.id, json.dumps(PARTS) if call.schema else "no JSON", "stop", 9)

        statuses = []
        for reply_schema in (None, rubric("boundaries").reply, rubric("boundaries").reply):
            used = rubric("boundaries").model_copy(update={"reply": reply_schema})
            model = local_model(settings, FakeHost(write), Path("envs/serve"), "0.32.0")
            llm = CachedLlm(settings, tmp_path / "r.jsonl", local=model)
            statuses += [one.status for one in annotate_boundaries(PAIRS, used, llm)]
            model.close()
        assert statuses == ["unparsable", "ok", "ok"]
        assert [call.schema is not None for call in sent] == [False, True]

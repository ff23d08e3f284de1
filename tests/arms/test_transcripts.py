"""Responses from a file: what becomes a trial, and what is refused with its line."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from esr.arms.plan import first_latents
from esr.arms.restarts import read_phrases
from esr.arms.scores import score_trials
from esr.arms.transcripts import read_transcripts, transcript_tables
from esr.errors import EsrError
from esr.judges.base import judge_responses
from esr.judges.lexical import LexicalJudge
from esr.judges.lexicon import Lexicon
from esr.planning.costs import judged_trials
from esr.planning.work import arm_trials
from esr.tables import read_table, write_table
from helpers.checkout import REPO, load_script
from helpers.organism import LEXICON
from helpers.studies import load_study

PROMPTS = pd.DataFrame(
    {"prompt_id": ["baking-1"], "category": ["baking"], "prompt": ["Explain how to bake bread."]}
)
PHRASES = read_phrases(REPO / "resources/restart_phrases.txt")


def row(**fields: Any) -> dict[str, Any]:
    found = {"prompt": "Explain how to bake bread.", "response": "knead the dough", "latent": 7}
    found |= {"boost": 12.5, "seed": 3} | fields
    return {name: value for name, value in found.items() if value is not ...}


def lines(path: Path, *rows: Any) -> Path:
    texts = [each if isinstance(each, str) else json.dumps(each) for each in rows]
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


def tables(path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    return transcript_tables(path, PROMPTS, "theirs", "steered")


def test_a_row_is_a_trial_with_its_response(tmp_path: Path) -> None:
    path = lines(tmp_path / "t.jsonl", row(concept="violins", finish_reason="length"))
    plan, responses = tables(path)
    for name, table in (("plan", plan), ("responses", responses)):
        write_table(table, tmp_path / f"{name}.parquet", name, {})
    (trial,) = read_table(tmp_path / "plan.parquet", "plan").to_dict("records")
    assert trial["prompt_id"] == "baking-1", "the study knows this prompt"
    found = [trial[name] for name in ("model", "arm", "latent", "label", "boost", "seed")]
    assert found == ["theirs", "steered", 7, "violins", 12.5, 3]
    (answer,) = read_table(tmp_path / "responses.parquet", "responses").to_dict("records")
    assert answer["trial_id"] == trial["trial_id"]
    assert (answer["status"], answer["response"]) == ("ok", "knead the dough")
    assert answer["finish_reason"] == "length"
    assert pd.isna(answer["n_prompt_tokens"])


def test_prompts_and_concepts_of_their_own_get_ids_and_numbers(tmp_path: Path) -> None:
    rows = [
        row(prompt="Write a poem.", latent=..., concept="sea", boost=2),
        row(prompt="Write a poem.", latent=..., concept="love", boost=2),
        row(prompt="Write a  poem.", latent=..., concept="sea", boost=3),
        row(latent=..., boost=..., seed=...),
    ]
    plan, _ = tables(lines(tmp_path / "t.jsonl", *rows))
    assert plan["latent"].tolist()[:3] == [0, 1, 0]
    assert pd.isna(plan["latent"].iloc[3])
    assert plan["boost"].tolist() == [2, 2, 3, 0]
    assert plan["label"].tolist()[:3] == ["sea", "love", "sea"]
    assert plan["prompt_id"].iloc[0].startswith("imported-")
    assert plan["prompt_id"].iloc[0] == plan["prompt_id"].iloc[2], "blanks do not matter"


def test_samples_without_a_seed_are_numbered_and_samples_of_a_seed_differ(tmp_path: Path) -> None:
    rows = [row(seed=..., response=text) for text in ("one", "two", "three")]
    plan, _ = tables(lines(tmp_path / "a.jsonl", *rows))
    assert plan["seed"].tolist() == [0, 1, 2]
    plan, _ = tables(lines(tmp_path / "b.jsonl", row(sample=0), row(sample=1)))
    assert plan["seed"].nunique() == plan["trial_id"].nunique() == 2


def test_a_failure_is_a_status_without_a_response(tmp_path: Path) -> None:
    rows = [row(status="refused", response=...), row(seed=4, status="cut", response="knea")]
    _, responses = tables(lines(tmp_path / "t.jsonl", *rows))
    assert responses["status"].tolist() == ["refused", "cut"]
    assert responses["response"].isna().all()


def test_what_a_file_has_beyond_the_fields_is_named_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tables(lines(tmp_path / "t.jsonl", row(boosts=3), row(seed=4, engine="x", boosts=3)))
    assert "boosts (2), engine (1)" in caplog.text


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (row(prompt=...), "`prompt` is missing or empty"),
        (row(prompt=" "), "`prompt` is missing or empty"),
        (row(response=...), "`response` is missing"),
        (row(response=None), "`response` is missing"),
        (row(boost=...), "`boost` is missing, but the row names a latent"),
        (row(latent=...), "boost 12.5 without `latent` or `concept`"),
        (row(latent="7"), "`latent` is '7', but must be a whole number"),
        (row(latent=7.5), "`latent` is 7.5, but must be a whole number"),
        (row(latent=True), "`latent` is True, but must be a whole number"),
        (row(boost="12"), "`boost` is '12', but must be a number"),
        (row(response=["a"]), "`response` is ['a'], but must be text"),
        (row(status="engine_error"), "one of this workflow's own"),
        (row(), "the same prompt, latent, boost and seed as line 1"),
        (row(latent=..., concept="sea"), "a concept without `latent`, but other rows have one"),
        (row(prompt="Other.", prompt_id="baking-1"), "prompt_id 'baking-1' stands for two prompts"),
        ('{"prompt": "a", "prompt": "b", "response": "c"}', "`prompt` is given twice"),
        ('{"prompt": "a", "response": "c"', "not valid JSON"),
        ('["a", "b"]', "not a JSON object"),
        ('{"prompt": "a", "response": "b", "latent": 1, "boost": Infinity}', "not a finite number"),
    ],
)
def test_a_row_that_cannot_be_used_is_refused_with_its_line(
    tmp_path: Path, second: Any, message: str
) -> None:
    path = lines(tmp_path / "t.jsonl", row(), "", second)
    with pytest.raises(EsrError) as error:
        tables(path)
    assert f"{path}, line 3" in str(error.value)
    assert message in str(error.value)


def test_a_doubled_line_is_refused_even_without_a_seed(tmp_path: Path) -> None:
    path = lines(tmp_path / "t.jsonl", row(seed=...), row(seed=...))
    with pytest.raises(EsrError, match=r"line 2: the same prompt and response as line 1"):
        tables(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.jsonl", "", "has no rows"),
        ("t.csv", "prompt,response\n", "convert it"),
        ("t.json", "[]", "no result file of the authors"),
        ("t.parquet", "no", "no readable Parquet file"),
    ],
)
def test_a_file_that_holds_no_responses_is_refused(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(EsrError, match=message):
        read_transcripts(tmp_path / name)


def test_parquet_is_read_like_json_lines(tmp_path: Path) -> None:
    rows = [row(), row(seed=4, latent=None, boost=None)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    frames = tables(tmp_path / "t.parquet"), tables(lines(tmp_path / "t.jsonl", *rows))
    for one, other in zip(*frames, strict=True):
        pd.testing.assert_frame_equal(one, other)
    floats = pd.DataFrame(rows)  # a missing integer makes pandas write floats
    floats.to_parquet(tmp_path / "floats.parquet")
    assert tables(tmp_path / "floats.parquet")[0]["latent"].iloc[0] == 7
    pq.write_table(pa.Table.from_pylist([row(), row(prompt=None)]), tmp_path / "bad.parquet")
    with pytest.raises(EsrError, match="row 2: `prompt` is missing"):
        tables(tmp_path / "bad.parquet")


def test_a_result_file_of_the_authors_is_read_with_its_nested_attempts(tmp_path: Path) -> None:
    def trial(seed: int, response: str | None, error: str | None = None) -> dict[str, Any]:
        score = {"attempts": [{"attempt_text": "knead", "score": 80}]}
        shared = {"prompt": "Explain how to bake bread.", "threshold": 7.25, "seed": seed}
        shared |= {"feature_index_in_sae": 17481, "feature_label": "violins"}
        return shared | {"response": response, "score": score, "error": error}

    features = [
        {
            "feature_index_in_sae": 17481,
            "feature_label": "violins",
            "threshold": 7.25,
            "trials": [trial(1, "knead the dough"), trial(2, None, "timeout")],
            "error": None,
        },
        {"feature_index_in_sae": 5, "feature_label": "x", "threshold": None, "trials": []},
    ]
    path = tmp_path / "experiment_results.json"
    path.write_text(json.dumps({"experiment_config": {}, "results_by_feature": features}))
    plan, responses = tables(path)
    assert plan[["latent", "boost", "seed"]].to_numpy().tolist() == [
        [17481, 7.25, 1],
        [17481, 7.25, 2],
    ]
    assert responses["status"].tolist() == ["ok", "source_error"]


def test_a_thousand_responses_are_judged_and_scored_like_those_of_the_study(
    tmp_path: Path,
) -> None:
    texts = ["fish the trout. wait, that is not right. knead the dough.", "knead the dough."]
    rows = [row(seed=number, response=texts[number % 2]) for number in range(1000)]
    plan, responses = tables(lines(tmp_path / "t.jsonl", *rows))
    judge = LexicalJudge(Lexicon.read(LEXICON))
    judged = judge_responses(plan, responses, judge, PHRASES)
    scores = score_trials(plan, responses, judged, PHRASES, "lexical")
    assert len(scores) == 1000
    assert scores["status"].eq("ok").all()
    assert scores["improved"].sum() == scores["restart_detected"].sum() == 500


IMPORT = {"responses": "theirs.jsonl", "model": "planted"}


class TestConfiguration:
    def arms(self, **arm: Any) -> dict[str, Any]:
        return {"arms": {"theirs": arm}}

    def test_an_imported_arm_belongs_to_its_model_and_so_does_its_replay(self) -> None:
        replay = {"again": {"replay": "theirs"}, "theirs": IMPORT}
        config = load_study({"arms": replay})
        assert {"theirs", "again"} <= set(config.arms_of("planted"))
        assert not {"theirs", "again"} & set(config.arms_of("twin"))
        assert not config.generates("planted", "theirs")
        assert config.generates("planted", "again"), "the same trials, generated here"
        assert config.shards("theirs") == 1
        assert config.engine_models == ["planted", "twin"]

    @pytest.mark.parametrize(
        ("arm", "message"),
        [
            ({"responses": "t.jsonl"}, "arms.theirs.model: missing; name the model"),
            ({"responses": "t.jsonl", "model": "plant"}, "there is no model 'plant'"),
            ({"responses": "t.jsonl", "replay": "steered"}, "give exactly one of `over`"),
            (IMPORT | {"prefill": "Sure."}, "`responses` are taken as they are: remove prefill"),
            ({"replay": "steered", "model": "planted"}, "`model` goes with `responses`"),
        ],
    )
    def test_what_does_not_fit_an_import_is_refused(
        self, arm: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(EsrError) as error:
            load_study(self.arms(**arm))
        assert message in str(error.value)

    def test_imported_responses_are_judged_but_cost_no_generation(self, tmp_path: Path) -> None:
        path = lines(tmp_path / "t.jsonl", *(row(seed=seed) for seed in range(9)))
        imported = {"responses": str(path), "model": "planted"}
        config = load_study({"arms": {"theirs": imported, "again": {"replay": "theirs"}}})
        assert arm_trials(config, "theirs") == 0
        assert arm_trials(config, "again") == 9
        assert judged_trials(config, "theirs") == 9

    def test_a_replay_of_their_first_latents_counts_the_trials_of_these(
        self, tmp_path: Path
    ) -> None:
        rows = [row(latent=latent, seed=seed) for seed in (1, 2) for latent in (7, 3, 5)]
        path = lines(tmp_path / "t.jsonl", *rows, row(latent=3, seed=9))
        imported = {"responses": str(path), "model": "planted"}
        again = {"replay": "theirs", "latents": 2}
        arms = {"theirs": imported, "again": again, "one": {"replay": "again", "latents": 1}}
        config = load_study({"arms": arms})
        plan = tables(path)[0]
        for arm, number in {"again": 5, "one": 2}.items():
            assert judged_trials(config, arm) == arm_trials(config, arm) == number
            plan = first_latents(plan, config.arms[arm].latents)
            assert len(plan) == number, "as the arm is planned"

    def test_steered_trials_are_not_imported_beside_generated_ones(self, tmp_path: Path) -> None:
        path = lines(tmp_path / "t.jsonl", row())
        steered = {"over": None, "trials": None, "responses": str(path), "model": "planted"}
        with pytest.raises(
            EsrError, match=r"arms\.steered: is imported.*as for planted; import it"
        ):
            load_study({"arms": {"steered": steered}})

    def test_a_replay_has_the_prompts_of_the_arm_it_repeats(self, tmp_path: Path) -> None:
        path = tmp_path / "two.csv"
        path.write_text("prompt_id,category,prompt\na,x,Explain one.\nb,x,Explain two.\n")
        over = {"over": "prompts", "trials": 2, "boost": "none", "prompts": str(path)}
        config = load_study({"arms": {"two": over, "again": {"replay": "two"}}})
        assert judged_trials(config, "again") == arm_trials(config, "again") == 4

    def test_concepts_without_latents_are_never_steered(self, tmp_path: Path) -> None:
        """They are numbered from 0, which are latents of the SAE, but not theirs."""
        path = lines(tmp_path / "t.jsonl", row(latent=..., concept="boats"))
        plan, _ = tables(path)
        write_table(plan, tmp_path / "plan.parquet", "plan", {})
        arms = {
            "theirs": {"responses": str(path), "model": "planted"},
            "again": {"replay": "theirs"},
            "plain": {"replay": "theirs", "boost": "none"},
        }
        config = load_study({"arms": arms})
        draw = load_script("plan_arm").draw_trials
        inputs = SimpleNamespace(replayed=tmp_path / "plan.parquet")
        with pytest.raises(EsrError, match=r"arms\.again\.replay: .*line 1: a concept without"):
            draw(config, "again", inputs, "planted")
        assert len(draw(config, "plain", inputs, "planted")) == 1

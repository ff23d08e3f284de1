"""esr.arms.continuing: which texts are continued, where they are cut, and what becomes of it."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest

from esr.analysis.summaries import (
    comparison_table,
    empty_cells,
    exclusion_table,
    summary_table,
)
from esr.arms import continuing as module
from esr.arms.continuing import (
    continuing_trials,
    cut_tokens,
    first_end,
    off_topic_texts,
    on_topic_trials,
    spread,
)
from esr.arms.plan import apply_condition, new_trials, trial_id
from esr.arms.responses import requests_of, responses_table
from esr.arms.scores import score_trials
from esr.config import ArmConfig, ContinueConfig, StatisticsConfig, WindowConfig
from esr.engines.base import Generation, Window
from esr.errors import EsrError
from esr.judges.base import Attempt, JudgeInput, Judgment, judge_responses
from esr.tables import read_table, read_tables, write_table
from helpers.checkout import load_script
from helpers.studies import load_study
from helpers.tiny import llama_tokenizer
from helpers.tokenizers import LLAMA, byte_level

TOKENIZER = llama_tokenizer()
PHRASES = re.compile("wait , that is wrong", re.IGNORECASE)
OFF = "bake bread . bake bread . bake"
RESTARTED = "bake bread . wait , that is wrong . how to bake"
STOP = TOKENIZER.eos_token_id
SETTINGS = StatisticsConfig(bootstrap=200)
CORRECTION = {"arm": "steered", "where": "correction"}
OWNER = {"model": "planted", "arm": "steered"}


def ids(text: str) -> list[int]:
    return list(TOKENIZER.encode(text, add_special_tokens=False))


def arm_of(keys: dict[str, Any]) -> ArmConfig:
    return ArmConfig.model_validate(keys)


def source() -> pd.DataFrame:
    """Plan of six steered trials of two latents."""
    trials = pd.DataFrame(
        {
            "prompt_id": list("pqrpqr"),
            "prompt": "bake bread",
            "latent": pd.array([3, 3, 3, 5, 5, 5], dtype="Int64"),
            "label": "boats",
            "boost": 4.0,
        }
    )
    arm = ArmConfig(over="latents", trials=3)
    return apply_condition(new_trials(trials, 44), arm).assign(**OWNER)


def answered(plan: pd.DataFrame, *texts: str) -> pd.DataFrame:
    """Responses with these texts, of which the last token ends the turn."""
    done = [Generation((*ids(text), STOP), "stop") for text in texts]
    return responses_table(plan, requests_of(plan, TOKENIZER, False), done, TOKENIZER)


class ByPhrase:
    """A judge whose attempts begin at restart phrases; the first score is the given one."""

    served_as = "by phrase"

    def __init__(self, *first: float) -> None:
        self.first = first

    def judge(self, inputs: Sequence[JudgeInput]) -> list[Judgment]:
        return [self._judge(one, score) for one, score in zip(inputs, self.first, strict=True)]

    def _judge(self, one: JudgeInput, first: float) -> Judgment:
        starts = [0, *(match.start() for match in PHRASES.finditer(one.response))]
        ends = [*starts[1:], len(one.response)]
        spans = [(a, b) for a, b in zip(starts, ends, strict=True) if a < b]
        return Judgment(
            "ok", tuple(Attempt(a, b, first if i == 0 else 90) for i, (a, b) in enumerate(spans))
        )


def judged(
    plan: pd.DataFrame, responses: pd.DataFrame, *first: float
) -> tuple[pd.DataFrame, pd.DataFrame]:
    judgments = judge_responses(plan, responses, ByPhrase(*first), PHRASES)
    return judgments, score_trials(plan, responses, judgments, PHRASES, "by phrase")


TEXTS = [OFF, RESTARTED, OFF, OFF, "bake", RESTARTED]
FIRST = [10, 20, 80, 10, 0, 30]


def texts(below: float = 50) -> pd.DataFrame:
    plan = source()
    responses = answered(plan, *TEXTS)
    return off_topic_texts(plan, responses, *judged(plan, responses, *FIRST), PHRASES, below)


def continuing(**settings: Any) -> pd.DataFrame:
    chosen = ContinueConfig(arm="steered", **settings)
    return continuing_trials(texts(), chosen, TOKENIZER, "prefix")


# Cuts


def test_a_cut_is_the_most_tokens_that_fit_and_never_the_end_of_the_turn() -> None:
    tokens = [*ids(OFF), STOP]
    assert cut_tokens(TOKENIZER, tokens, 10) == ids("bake bread")
    assert cut_tokens(TOKENIZER, tokens, 11) == ids("bake bread")
    assert cut_tokens(TOKENIZER, tokens, 12) == ids("bake bread .")
    assert cut_tokens(TOKENIZER, tokens, len(OFF)) == ids(OFF)
    assert cut_tokens(TOKENIZER, tokens, 3) == []


def test_no_cut_splits_a_character_of_several_tokens() -> None:
    text = "Naïve 🎉🎉 cafés — déjà vu."
    tokenizer = byte_level(LLAMA, ["plain words"], "<|eot_id|>")
    tokens = tokenizer.encode(text, add_special_tokens=False)
    assert len(tokens) > len(text)
    for length in range(1, len(text) + 1):
        prefix = cut_tokens(tokenizer, tokens, length)
        assert tokens[: len(prefix)] == prefix
        assert tokenizer.decode(prefix) == text[:length]


def test_a_prefill_counts_into_the_length_but_not_into_the_tokens() -> None:
    assert cut_tokens(TOKENIZER, ids("bread . bake"), 12, "bake") == ids("bread .")


# Texts


def test_texts_are_off_topic_and_end_where_they_restart() -> None:
    found = texts()
    assert found["response"].tolist() == [OFF, RESTARTED, OFF, "bake", RESTARTED]
    assert found["restart"].tolist() == [len(OFF), 13, len(OFF), 4, 13]
    phrase_ends = found["phrase_end"].astype(object).where(found["phrase_end"].notna(), None)
    assert phrase_ends.tolist() == [None, 33, None, None, 33]


def test_an_attempt_without_a_phrase_ends_the_stretch_too() -> None:
    plan = source()
    responses = answered(plan, *TEXTS)
    judgments, scores = judged(plan, responses, *FIRST)
    second = judgments[judgments["trial_id"].eq(plan["trial_id"][0])].assign(attempt=1, start=5)
    found = off_topic_texts(
        plan, responses, pd.concat([judgments, second]), scores, PHRASES, below=50
    )
    assert found["restart"].tolist()[0] == 5


@pytest.mark.parametrize(
    ("phrases", "end"),
    [([], None), ([(5, 9)], 9), ([(5, 9), (29, 40), (60, 70)], 70), ([(5, 9), (30, 40)], 9)],
    ids=["none", "one", "three that follow each other", "two apart"],
)
def test_phrases_that_follow_each_other_are_one_correction(
    phrases: list[tuple[int, int]], end: int | None
) -> None:
    assert first_end(phrases) == end


def test_texts_are_those_of_all_latents_in_turn() -> None:
    assert spread(texts(), 2)["latent"].tolist() == [3, 5]
    assert spread(texts(), 3)["latent"].tolist() == [3, 3, 5]


# Trials


def test_every_cut_has_the_same_texts_and_every_sample_a_seed_of_its_own() -> None:
    trials = continuing(cuts=(10, 20), samples=3)
    assert trials.groupby("prefix_cut").size().to_dict() == {10: 6, 20: 6}
    assert not trials.duplicated(["latent", "prompt_id", "seed"]).any()
    assert trials.groupby(["prefix_seed", "prefix_cut"])["seed"].nunique().eq(3).all()
    assert set(map(tuple, trials["prefix"])) == {
        tuple(ids("bake bread")),
        tuple(ids("bake bread . bake")),
    }
    assert trials["boost"].eq(4.0).all()
    again = continuing(cuts=(20,), samples=2)
    kept = trials[trials["prefix_cut"].eq(20)]
    assert set(again["seed"]) < set(kept["seed"]), "a seed does not depend on the other cuts"


def test_a_correction_is_continued_from_the_end_of_its_phrase() -> None:
    trials = continuing(where="correction")
    assert trials["prefix"].tolist() == [ids(RESTARTED[:33])] * 2
    assert trials["prefix_cut"].isna().all()


def test_a_restart_is_sampled_again_from_where_it_began() -> None:
    trials = continuing(where="restart", samples=3)
    assert trials["prefix"].tolist() == [ids(RESTARTED[:12])] * 6
    assert set(trials["prefix_where"]) == {"restart"}
    assert trials["seed"].nunique() == 6
    assert trials["prefix_seed"].nunique() == 2, "of two texts; the others never restart"


def test_a_text_that_restarts_at_once_has_nothing_to_continue(
    caplog: pytest.LogCaptureFixture,
) -> None:
    at_once = texts().assign(restart=0)
    settings = ContinueConfig(arm="steered", where="restart")
    with caplog.at_level("WARNING"):
        assert continuing_trials(at_once, settings, TOKENIZER, "branch").empty
    assert "arms.branch.continue: 5 texts restart at once" in caplog.text


@pytest.mark.parametrize(
    ("cuts", "warning"),
    [
        ((10, 31), "cuts: 31 characters, but the longest off-topic stretch of 5 texts .* has 30"),
        ((3, 20), "cuts: 3 characters are less than the first token of 2 texts"),
    ],
    ids=["beyond every text", "within the first token"],
)
def test_cuts_that_fit_no_text_leave_an_empty_arm_with_a_status(
    tmp_path: Path, cuts: tuple[int, ...], warning: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What a model writes is known after the study's hours alone; they must not be lost."""
    with caplog.at_level("WARNING"):
        trials = continuing(cuts=cuts)
    assert re.search(f"arms.prefix.continue.{warning}", caplog.text)
    scores = scores_of_arms(trials, tmp_path)
    assert set(scores["arm"]) == {"steered"}
    empty = empty_cells(scores, {"planted": ["steered", "prefix", "bare"]})
    assert empty == [("planted", "prefix"), ("planted", "bare")]
    table = comparison_table(scores, {"bare": "prefix"}, SETTINGS, ["msi"], empty=empty)
    assert table[["arm", "against", "status"]].values.tolist() == [["bare", "prefix", "no_trials"]]
    assert table[["difference", "low", "high", "p_value"]].isna().all(axis=None)
    summary = summary_table(scores, SETTINGS, ["msi"], empty).set_index("arm")
    assert summary.loc["prefix", ["status", "n"]].tolist() == ["no_trials", 0]
    assert np.isnan(summary.loc["prefix", "estimate"])
    counts = exclusion_table(scores, empty).set_index(["arm", "status"])["n"]
    assert counts["prefix"].to_dict() == {"ok": 0, "no_trials": 0, "total": 0}
    assert counts["steered", "ok"] == len(TEXTS)


def scores_of_arms(trials: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Scores of the steered texts, of an arm of these trials, and of a replay of it, by files."""
    prefix = through_files(trials, folder, **PREFIX).assign(model="planted")
    bare = apply_condition(prefix, ArmConfig(replay="prefix", boost="none"))
    plans = {
        "steered": source(),
        "prefix": prefix,
        "bare": bare.assign(model="planted", arm="bare"),
    }
    found = []
    for name, drawn in plans.items():
        plan = kept(drawn, "plan", folder / f"{name}-plan.parquet")
        responses = answered(plan, *(TEXTS if len(plan) else []))
        responses = kept(responses, "responses", folder / f"{name}-responses.parquet")
        judgments, scores = judged(plan, responses, *(FIRST if len(plan) else []))
        kept(judgments, "judgments", folder / f"{name}-judgments.parquet")
        found.append(folder / f"{name}-scores.parquet")
        kept(scores, "scores", found[-1])
    return read_tables(found, "scores")


def kept(table: pd.DataFrame, kind: str, path: Path) -> pd.DataFrame:
    """A table as it is read back from its file."""
    write_table(table, path, kind, {})
    return read_table(path, kind)


def test_a_text_whose_first_token_is_longer_than_the_first_cut_is_left_out() -> None:
    long = texts()
    long["tokens"] = [ids("bread") * 9, *long["tokens"].iloc[1:]]
    settings = ContinueConfig(arm="steered", cuts=(4, 20), samples=1)
    found = continuing_trials(long, settings, TOKENIZER, "prefix")
    assert found.groupby("prefix_cut").size().to_dict() == {4: 1, 20: 1}, "at every cut"


def test_a_text_is_decoded_once_for_all_its_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    spans = Mock(side_effect=module.token_spans)
    monkeypatch.setattr(module, "token_spans", spans)
    assert len(continuing(cuts=(10, 15, 20), samples=2)) == 2 * 3 * 2
    assert spans.call_count == 2, "one a text"


@pytest.mark.parametrize(
    "where", [{"cuts": (10,)}, {"where": "correction"}, {"where": "restart"}], ids=str
)
def test_without_any_off_topic_text_the_plan_is_empty_and_valid(
    tmp_path: Path, where: dict[str, Any]
) -> None:
    chosen = ContinueConfig(arm="steered", **where)
    trials = continuing_trials(texts(below=0), chosen, TOKENIZER, "prefix")
    plan = apply_condition(trials, arm_of({"continue": chosen}))
    write_table(plan.assign(model="m", arm="prefix"), tmp_path / "plan.parquet", "plan", {})
    plan = read_table(tmp_path / "plan.parquet", "plan")
    responses = responses_table(plan, [], [], TOKENIZER)
    write_table(responses, tmp_path / "responses.parquet", "responses", {})
    responses = read_table(tmp_path / "responses.parquet", "responses")
    judgments, scores = judged(plan, responses)
    write_table(judgments, tmp_path / "judgments.parquet", "judgments", {})
    write_table(scores, tmp_path / "scores.parquet", "scores", {})
    assert scores.empty


def through_files(trials: pd.DataFrame, folder: Path, **arm: Any) -> pd.DataFrame:
    plan = apply_condition(trials, arm_of(arm)).assign(model="m", arm="prefix")
    write_table(plan, folder / "plan.parquet", "plan", {})
    return read_table(folder / "plan.parquet", "plan")


PREFIX: dict[str, Any] = {"continue": {"arm": "steered", "cuts": (10, 20)}}


def test_a_replay_has_the_same_prefixes_and_seeds(tmp_path: Path) -> None:
    plan = through_files(continuing(cuts=(10, 20)), tmp_path, **PREFIX)
    unsteered = apply_condition(plan, ArmConfig(replay="prefix", boost="none"))
    same = ["latent", "prompt_id", "seed", "prefix_seed", "prefix_cut", "prefix_where"]
    pd.testing.assert_frame_equal(unsteered[same], plan[same])
    assert list(map(list, unsteered["prefix"])) == list(map(list, plan["prefix"]))
    assert set(unsteered["trial_id"]).isdisjoint(plan["trial_id"])


def test_an_empty_prefix_names_the_trial_of_none() -> None:
    trial = source().iloc[0].to_dict()
    assert trial_id(trial | {"prefix": []}) == trial_id(trial | {"prefix": None})
    assert trial_id(trial | {"prefix": [4]}) != trial_id(trial)


def replaced(folder: Path, *unsteered: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    plan = through_files(continuing(cuts=(10, 20)), folder, **PREFIX)
    other = apply_condition(source(), ArmConfig(replay="steered", boost="none"))
    responses = answered(other, *unsteered)
    return plan, on_topic_trials(plan, other, responses, TOKENIZER, "on-topic")


def test_an_on_topic_prefix_has_the_length_and_the_seed_of_the_one_it_replaces(
    tmp_path: Path,
) -> None:
    plan, found = replaced(tmp_path, *["how to bake bread . that is how"] * 6)
    assert found["prefix_where"].eq("on_topic").all()
    same = ["latent", "prompt_id", "seed", "prefix_seed", "prefix_cut"]
    pd.testing.assert_frame_equal(found[same], plan[same])
    lengths = {10: ids("how to"), 20: ids("how to bake bread")}
    assert found["prefix"].tolist() == [lengths[cut] for cut in plan["prefix_cut"]]


def test_a_prefix_without_an_on_topic_text_of_its_length_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plan, found = replaced(tmp_path, "how to bake bread .", *["how to"] * 5)
    assert 0 < len(found) < len(plan)
    with caplog.at_level("WARNING"):
        assert replaced(tmp_path, *["how"] * 6)[1].empty
    assert "arms.on-topic.continue: no on-topic text is as long" in caplog.text


# Requests and responses


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        ({"start": "continuation"}, lambda n, k: Window(n + k)),
        ({"stop": "continuation"}, lambda n, k: Window(0, n + k)),
        ({"start": 0, "stop": "continuation"}, lambda n, k: Window(n, n + k)),
        ({"start": 0}, lambda n, k: Window(n)),
        ({"stop": 0}, lambda n, k: Window(0, n)),
    ],
    ids=["continuation", "prompt and prefix", "prefix", "response", "prompt"],
)
def test_a_window_ranges_over_prompt_prefix_and_continuation(
    tmp_path: Path, window: dict[str, Any], expected: Callable[[int, int], Window]
) -> None:
    plan = through_files(continuing(cuts=(10, 20)), tmp_path, **PREFIX, window=window)
    bare = through_files(continuing(cuts=(10, 20)), tmp_path, **PREFIX)
    requests = requests_of(plan, TOKENIZER, False)
    for row, request, other in zip(
        plan.itertuples(), requests, requests_of(bare, TOKENIZER, False), strict=True
    ):
        k = len(row.prefix)
        assert request.tokens == other.tokens
        assert list(request.tokens[-k:]) == list(row.prefix)
        assert request.intervention.window == expected(len(request.tokens) - k, k)


def test_a_window_that_a_prefix_leaves_empty_is_refused() -> None:
    arm = arm_of({**PREFIX, "window": WindowConfig(start=3, stop="continuation")})
    with pytest.raises(EsrError, match=r"start 3 and stop continuation hold no token .* 2 tokens"):
        apply_condition(continuing(cuts=(10, 20)), arm)


def test_the_response_is_prefix_and_continuation_with_the_boundary(tmp_path: Path) -> None:
    plan = through_files(continuing(cuts=(10,)), tmp_path, **PREFIX)
    rest = [". wait , that is wrong .", *["how to"] * (len(plan) - 1)]
    table = answered(plan, *rest)
    row = table.iloc[0]
    assert row["response"] == "bake bread " + rest[0]
    assert row["tokens"] == [*ids("bake bread"), *ids(rest[0]), STOP]
    assert (row["n_prefix_tokens"], row["prefix_end"]) == (2, len("bake bread"))
    whole = requests_of(plan, TOKENIZER, False)[0].tokens
    assert row["n_prompt_tokens"] == len(whole) - 2


# Scores


def test_only_attempts_and_phrases_that_begin_in_the_continuation_are_restarts() -> None:
    """The attempt that the prefix is in is the first one; earlier ones are left out."""
    trials = continuing(where="correction")
    keys = {"continue": {"arm": "steered", "where": "correction"}}
    plan = apply_condition(trials, arm_of(keys)).assign(model="m", arm="prefix")
    responses = answered(plan, ". bake bread", ". wait , that is wrong . bake")
    judgments, scores = judged(plan, responses, 20, 20)
    assert judgments.groupby("trial_id", sort=False).size().tolist() == [2, 3]
    assert scores["n_attempts"].tolist() == [1, 2]
    assert scores["first_score"].tolist() == [90, 90], "the correction, which the prefix begins"
    assert scores["restart_detected"].tolist() == [False, True]
    assert scores["gated_multi_attempt"].tolist() == [False, True]
    assert scores["prefix_end"].tolist() == [33, 33]
    whole = responses.assign(prefix_end=pd.array([None, None], dtype="Int64"))
    _, plain = judged(plan, whole, 20, 20)
    assert plain["n_attempts"].tolist() == [2, 3]
    assert plain["restart_detected"].all()


class ByLength(ByPhrase):
    """Its first score is the number of characters that it is shown."""

    def judge(self, inputs: Sequence[JudgeInput]) -> list[Judgment]:
        self.seen = [one.response for one in inputs]
        return [self._judge(one, len(one.response)) for one in inputs]


def test_a_continuation_that_is_judged_alone_is_scored_without_the_words_it_was_given() -> None:
    plan = apply_condition(continuing(where="correction"), arm_of({"continue": CORRECTION}))
    plan = plan.assign(model="m", arm="alone")
    responses = answered(plan, " . bake bread", " . wait , that is wrong . bake")
    responses.loc[1, ["response", "status"]] = [None, "engine_error"]
    other = responses.assign(response="x" + responses["response"])
    other["prefix_end"] += 1
    for shown in (responses, other):
        judge = ByLength()
        judgments = judge_responses(plan, shown, judge, PHRASES, alone=["alone"])
        assert judge.seen == [" . bake bread"]
        scores = score_trials(plan, shown, judgments, PHRASES, "by length")
        assert scores["first_score"][0] == len(" . bake bread"), "whatever the prefix is"
        assert scores["status"].tolist() == ["ok", "engine_error"]
        start, end = judgments[["start", "end"]].iloc[0]
        assert shown["response"][0][start:end] == " . bake bread", "characters of the whole"
    judge_responses(plan, responses, judge, PHRASES, alone=["another"])
    assert judge.seen == [responses["response"][0]]


def test_a_replay_is_judged_as_the_arm_whose_prefixes_it_has() -> None:
    config = load_study()
    assert config.judged_alone == ["correction-steered", "correction-unsteered", "matched-prefix"]
    with pytest.raises(ValueError, match="takes judged from the replayed arm"):
        ContinueConfig(arm="unsteered", where="on_topic", judged="continuation")


# The script


def test_the_script_continues_texts_of_the_models_own_tokens(tmp_path: Path) -> None:
    steer = {"continue": {"arm": "steered", "cuts": [10, 20], "below": 40}}
    replace = {"replay": "prefix", "continue": {"arm": "unsteered", "where": "on_topic"}}
    config = load_study({"arms": {"prefix": steer, "on-topic": replace}})
    plan = source()
    TOKENIZER.save_pretrained(tmp_path / "model")
    (tmp_path / "model.json").write_text(
        f'{{"source": "{(tmp_path / "model").as_posix()}", "revision": null}}'
    )
    (tmp_path / "phrases.txt").write_text("wait , that is wrong\n")
    responses = answered(plan, *TEXTS)
    tables = dict(zip(("judgments", "scores"), judged(plan, responses, *FIRST), strict=True))
    for name, table in {"plan": plan, "responses": responses, **tables}.items():
        write_table(table, tmp_path / f"{name}.parquet", name, {})
    paths = {name: tmp_path / f"{name}.parquet" for name in ("responses", "judgments", "scores")}
    inputs = SimpleNamespace(
        replayed=tmp_path / "plan.parquet",
        texts=tmp_path / "plan.parquet",
        model=tmp_path / "model.json",
        phrases=tmp_path / "phrases.txt",
        **paths,
    )
    draw = load_script("plan_arm").draw_trials
    found = draw(config, "prefix", inputs, "planted")
    assert found["prefix"].tolist() == [ids("bake bread"), ids("bake bread . bake")] * 2
    prefixed = through_files(found, tmp_path / "prefix", **steer)
    inputs.replayed = tmp_path / "prefix/plan.parquet"
    again = draw(config, "on-topic", inputs, "planted")
    assert again["prefix"].tolist() == [list(prefix) for prefix in prefixed["prefix"]]
    assert again["prefix_where"].eq("on_topic").all()

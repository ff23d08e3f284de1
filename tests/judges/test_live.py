"""Judges over the network, live: the real SDKs against a fake API that may fail."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from esr.config import (
    LlmConfig,
    ThresholdPriorConfig,
    ThresholdsConfig,
)
from esr.errors import EsrError
from esr.journal import Journal
from esr.judges import open_judge, rubric_judge
from esr.judges.base import JudgeInput, Judgment, check_spans
from esr.judges.costs import Budget, Price
from esr.judges.live import IN_A_ROW
from esr.judges.llm import CachedLlm, check_llm
from esr.judges.replies import Call
from esr.thresholds.search import Query, find_thresholds
from helpers.fake_api import CLAUDE, QWEN, FakeApi, ModelReply
from helpers.fake_executor import Rounds
from helpers.llm import KEY, LABEL, PRICE, claude, compatible, inputs


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)


BOTH = [claude, compatible]


def judged(settings: LlmConfig, path: Path, asked: list[JudgeInput]) -> list[Judgment]:
    judgments = open_judge(settings, path / "replies.jsonl").judge(asked)
    for judgment, one in zip(judgments, asked, strict=True):
        check_spans(judgment, one.response)
    return judgments


# What is sent, what comes back


@pytest.mark.parametrize("judge", BOTH)
def test_a_reply_becomes_attempts_with_spans_scores_and_origin(
    api: FakeApi, tmp_path: Path, judge: Any
) -> None:
    (one,) = inputs(1)
    (judgment,) = judged(judge(api), tmp_path, [one])
    texts = [one.response[a.start : a.end] for a in judgment.attempts]
    assert texts == ["Some boats.", "Wait, that's not right. Answer 0."]
    assert all(0 <= attempt.score <= 100 for attempt in judgment.attempts)
    assert judgment.metadata is not None
    assert judgment.metadata.request_id == "req-1"
    assert judgment.metadata.judge.startswith(judge(api).model)
    assert judgment.metadata.temperature == 0


def test_claude_is_called_under_the_older_version_with_temperature_0(
    api: FakeApi, tmp_path: Path
) -> None:
    judged(claude(api), tmp_path, inputs(1))
    (sent,) = api.requests
    assert sent.headers["anthropic-version"] == "2023-06-01"
    assert sent.body["temperature"] == 0
    assert sent.body["model"] == CLAUDE


@pytest.mark.parametrize("judge", BOTH)
def test_a_model_without_temperature_is_called_without_it_and_its_rows_record_that(
    tmp_path: Path, judge: Any
) -> None:
    with FakeApi(key=KEY, takes_temperature=False) as api:
        judgments = judged(judge(api, concurrency=2), tmp_path, inputs(10))
        assert {one.status for one in judgments} == {"ok"}
        assert {one.metadata.temperature for one in judgments if one.metadata} == {None}
        assert sum("temperature" in sent.body for sent in api.requests) <= 2  # those in flight
        before = len(api.requests)
        judged(judge(api), tmp_path, inputs(10))
        assert len(api.requests) == before, "kept under what was asked for"


def test_openrouter_is_pinned_to_a_provider_and_more_goes_along(
    api: FakeApi, tmp_path: Path
) -> None:
    extra = {"reasoning_effort": "minimal"}
    limit = "max_completion_tokens"
    settings = compatible(api, provider="DeepInfra", extra=extra, limit=limit, max_tokens=77)
    (judgment,) = judged(settings, tmp_path, inputs(1))
    (sent,) = api.requests
    pinned = {"only": ["DeepInfra"], "allow_fallbacks": False, "require_parameters": True}
    assert sent.body["provider"] == pinned
    assert sent.body["reasoning_effort"] == "minimal"
    assert sent.body["max_completion_tokens"] == 77
    assert "max_tokens" not in sent.body
    assert judgment.metadata is not None
    assert judgment.metadata.judge == f"{QWEN} (Fake)"


def test_a_server_of_ones_own_needs_no_key(tmp_path: Path) -> None:
    with FakeApi(key="none") as api:
        (judgment,) = judged(compatible(api, key_variable=None), tmp_path, inputs(1))
    assert judgment.status == "ok"


def rubric(name: str) -> Path:
    return Path(__file__).parents[2] / f"resources/rubrics/{name}.yaml"


def test_only_the_papers_rubric_names_what_was_steered(api: FakeApi, tmp_path: Path) -> None:
    for name in ("paper", "blind", "structured", "compact", "openings"):
        judged(claude(api, rubric=rubric(name)), tmp_path / name, inputs(1))
    shown = [LABEL in json.dumps(sent.body) for sent in api.requests]
    assert shown == [True, False, False, False, False]


@pytest.mark.parametrize("judge", BOTH)
def test_a_structured_reply_is_constrained_to_the_schema(
    api: FakeApi, tmp_path: Path, judge: Any
) -> None:
    settings = judge(api, rubric=rubric("structured"))
    (judgment,) = judged(settings, tmp_path, inputs(1))
    assert judgment.status == "ok"
    (sent,) = api.requests
    schema = (
        sent.body["output_config"]["format"]["schema"]
        if judge is claude
        else sent.body["response_format"]["json_schema"]["schema"]
    )
    assert schema["required"] == ["attempts"]


def test_the_judge_sees_the_base_prompt_by_default(api: FakeApi, tmp_path: Path) -> None:
    one = JudgeInput("Explain baking.", "Bread.", None, "Explain baking. Stay on topic!")
    judged(claude(api), tmp_path, [one])
    judged(claude(api, shown="full_prompt"), tmp_path, [one])
    shown = ["Stay on topic!" in sent.body["messages"][0]["content"] for sent in api.requests]
    assert shown == [False, True]


# Failures are statuses


@pytest.mark.parametrize("judge", BOTH)
@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (ModelReply("", "refusal"), "refused"),
        (ModelReply('<json>{"attempts": [{"text": "Some', "max_tokens"), "truncated"),
        (ModelReply("I would rather not say."), "unparsable"),
        (ModelReply('<json>{"attempts": [{"text": "Some boats."}]}</json>'), "unparsable"),
        (
            ModelReply('<json>{"attempts": [{"text": "Some boats.", "score": 140}]}</json>'),
            "unparsable",
        ),
        (ModelReply('<json>{"attempts": []}</json>'), "no_attempts"),
    ],
)
def test_what_is_no_judgment_is_a_status_and_is_paid_once(
    tmp_path: Path, judge: Any, reply: ModelReply, status: str
) -> None:
    with FakeApi(lambda user, structured: reply, key=KEY) as api:
        for _ in range(2):
            (judgment,) = judged(judge(api), tmp_path, inputs(1))
            assert judgment.status == status
            assert judgment.first_score is None
            assert judgment.metadata is not None, "the reply is known by its id all the same"
        assert len(api.requests) == 1


@pytest.mark.parametrize("judge", BOTH)
def test_a_call_without_a_reply_is_an_api_error_and_is_sent_again_by_the_next_run(
    api: FakeApi, tmp_path: Path, judge: Any
) -> None:
    api.faults.extend([500, None, None])
    settings = judge(api, retries=0, concurrency=1)
    statuses = [one.status for one in judged(settings, tmp_path, inputs(3))]
    assert statuses == ["api_error", "ok", "ok"]
    assert [one.status for one in judged(settings, tmp_path, inputs(3))] == ["ok"] * 3
    assert len(api.requests) == 4


def test_retry_after_is_honoured(api: FakeApi, tmp_path: Path) -> None:
    api.faults.append(429)
    api.retry_after = 1.0
    begun = time.monotonic()
    (judgment,) = judged(claude(api), tmp_path, inputs(1))
    assert judgment.status == "ok"
    assert len(api.requests) == 2
    assert time.monotonic() - begun > 0.9, "left to itself the SDK waits half a second"


def test_unusable_replies_are_requested_again_a_limited_number_of_times(
    api: FakeApi, tmp_path: Path
) -> None:
    api.faults.extend(["malformed"] * 2)
    assert judged(claude(api), tmp_path, inputs(1))[0].status == "ok"
    api.faults.extend(["malformed"] * 9)
    assert judged(claude(api), tmp_path / "other", inputs(1))[0].status == "api_error"


def test_an_api_that_goes_away_ends_the_job_and_keeps_what_was_answered(
    api: FakeApi, tmp_path: Path
) -> None:
    api.faults.extend([None] * 5 + [500] * 500)
    with pytest.raises(EsrError, match=f"{IN_A_ROW} calls in a row got no reply.*HTTP 500"):
        judged(claude(api, retries=0, concurrency=4), tmp_path, inputs(100))
    assert len(api.requests) < 5 + IN_A_ROW + 8
    api.faults.clear()
    judged(claude(api), tmp_path, inputs(100))
    assert max(api.delivered.values()) == 1
    assert len(api.delivered) == 100


# Bad input, found before anything is paid


@pytest.mark.parametrize("judge", BOTH)
def test_no_key(api: FakeApi, tmp_path: Path, judge: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUDGE_KEY")
    for attempt in (
        lambda: check_llm(judge(api)),
        lambda: judged(judge(api), tmp_path, inputs(1)),
    ):
        with pytest.raises(EsrError, match=r"JUDGE_KEY is not set; .* kind vllm.*needs no key"):
            attempt()
    assert not api.requests


@pytest.mark.parametrize("judge", BOTH)
def test_a_wrong_model_id(api: FakeApi, tmp_path: Path, judge: Any) -> None:
    with pytest.raises(EsrError, match=r"model haiku-5.* (know|offers)"):
        check_llm(judge(api, model="haiku-5"))
    with pytest.raises(EsrError, match=r"model haiku-5.*does not know"):
        judged(judge(api, model="haiku-5", concurrency=4), tmp_path, inputs(50))
    assert sum(sent.method == "POST" for sent in api.requests) <= 4


@pytest.mark.parametrize("judge", BOTH)
def test_an_unreachable_address(judge: Any, tmp_path: Path, api: FakeApi) -> None:
    settings = judge(api, base_url="http://127.0.0.1:9/v1")
    with pytest.raises(EsrError, match=r"127\.0\.0\.1:9.*no reply"):
        check_llm(settings)


@pytest.mark.parametrize("judge", BOTH)
def test_a_judge_in_order_passes_the_check_without_a_call(api: FakeApi, judge: Any) -> None:
    check_llm(judge(api))
    assert [sent.method for sent in api.requests] == ["GET"]


@pytest.mark.parametrize("judge", BOTH)
def test_the_key_is_in_no_log_file_or_error(
    api: FakeApi,
    tmp_path: Path,
    judge: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    api.faults.extend([429, 500, "drop", "malformed", "truncated", None])
    judged(judge(api), tmp_path, inputs(2))
    api.key = "another"  # the server now refuses the key, and repeats it in its message
    with pytest.raises(EsrError, match="key is not accepted") as refused:
        judged(judge(api), tmp_path, inputs(3))
    with pytest.raises(EsrError, match="key is not accepted") as checked:
        check_llm(judge(api))
    texts = [str(refused.value), str(checked.value), repr(refused.value), caplog.text]
    texts += [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(KEY in text for text in texts)
    assert any(KEY in json.dumps(sent.headers) for sent in api.requests), "it was sent"


# Nothing lost, nothing doubled


def fault_test(path: Path, judge: Any, number: int) -> None:
    """Judge under 20 % faults; compare judgments, journal and ledger with what was delivered."""
    with FakeApi(key=KEY, fault_rate=0.2, seed=7) as api:
        settings = judge(api, concurrency=50, retries=12)
        asked = inputs(number)
        judgments = judged(settings, path, asked)
        assert {one.status for one in judgments} == {"ok"}
        assert [a.score for a in judgments[0].attempts] != [a.score for a in judgments[1].attempts]
        assert len(api.delivered) == number
        assert set(api.delivered.values()) == {1}
        faults = sum(count for fault, count in api.injected.items() if fault != "none")
        assert faults > 0.15 * number
        assert api.max_in_flight <= 50
        price = Price(1, 5, 0.5, 2.5, "2026-11-22", "a test", "", "", "")
        journal = path / "replies.jsonl"
        spent = Budget(1e9, {settings.model: price}, Path("prices.csv"), [journal]).spent
        usage = api.usage
        assert usage["calls"] == number
        expected = price.cost(usage["input_tokens"], usage["output_tokens"], batch=False)
        assert spent == pytest.approx(expected)
        before = len(api.requests)
        assert judged(settings, path, asked) == judgments
        assert len(api.requests) == before


@pytest.mark.parametrize(("judge", "number"), [(claude, 500), (compatible, 200)])
def test_many_judgments_under_faults(tmp_path: Path, judge: Any, number: int) -> None:
    fault_test(tmp_path, judge, number)


@pytest.mark.rebuild
def test_10000_judgments_under_faults(tmp_path: Path) -> None:
    fault_test(tmp_path, claude, 10_000)


def test_equal_calls_are_made_once(api: FakeApi, tmp_path: Path) -> None:
    judgments = judged(claude(api), tmp_path, inputs(1) * 5)
    assert len(judgments) == 5
    assert len(api.requests) == 1


def test_replies_of_other_jobs_are_used_and_left_alone(api: FakeApi, tmp_path: Path) -> None:
    judged(claude(api), tmp_path, inputs(3))
    journal = tmp_path / "replies.jsonl"
    before = journal.read_bytes()
    own = tmp_path / "own.jsonl"
    missing = tmp_path / "missing.jsonl"
    judge = open_judge(claude(api), own, others=[journal, missing])
    assert {one.status for one in judge.judge(inputs(4))} == {"ok"}
    assert len(api.requests) == 4
    assert journal.read_bytes() == before
    assert not missing.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"model": "another"},
        {"temperature": 1},
        {"temperature": None},
        {"max_tokens": 9},
        {"api_version": "2026-10-21"},
        {"rubric": rubric("compact")},
    ],
)
def test_whatever_determines_a_reply_is_part_of_its_key(
    api: FakeApi, tmp_path: Path, change: dict[str, Any]
) -> None:
    api.models = (*api.models, "another")
    judged(claude(api), tmp_path, inputs(1))
    judged(claude(api, **change), tmp_path, inputs(1))
    assert api.count("/v1/messages") >= 2


def test_where_and_how_often_it_is_called_is_not(api: FakeApi, tmp_path: Path) -> None:
    judged(claude(api), tmp_path, inputs(1))
    with FakeApi(key=KEY) as moved:
        judged(claude(moved, concurrency=3, retries=1, timeout=9), tmp_path, inputs(1))
        assert not moved.requests


def test_a_record_holds_the_raw_reply_and_all_that_determines_it(
    api: FakeApi, tmp_path: Path
) -> None:
    (judgment,) = judged(claude(api), tmp_path, inputs(1))
    lines = [json.loads(line) for line in (tmp_path / "replies.jsonl").read_text().splitlines()]
    texts = {line["key"]: line["system"] for line in lines if "raw" not in line}
    (record,) = (line for line in lines if "raw" in line)
    assert judgment.metadata is not None
    assert record["key"] == judgment.metadata.reply
    assert record["identity"]["api_version"] == "2023-06-01"
    assert "You grade how a language model answered" in texts[record["system"]]
    assert "Explain how to do 0." in record["user"]
    assert json.loads(record["raw"])["usage"]["output_tokens"] > 0


def test_a_changed_parser_reads_again_without_a_call(
    api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged(claude(api), tmp_path, inputs(2))
    monkeypatch.setattr(rubric_judge, "read_judgment", lambda *_: Judgment("read_anew"))
    monkeypatch.delenv("JUDGE_KEY")
    assert {one.status for one in judged(claude(api), tmp_path, inputs(2))} == {"read_anew"}
    assert len(api.requests) == 2


# Thresholds, with the judge in the loop


def test_thresholds_are_found_with_the_judge_in_the_loop_and_found_again_for_nothing(
    tmp_path: Path,
) -> None:
    def falls_with_the_boost(user: str, structured: bool) -> ModelReply:
        boost = float(user.split("boost ")[1].split("\n")[0])
        score = max(0, 100 - boost)
        attempts = [{"text": "boost", "score": score}]
        return ModelReply(f"<json>{json.dumps({'attempts': attempts})}</json>")

    latents = pd.DataFrame({"latent": [4, 8], "label": ["a", None], "order": [0, 1]})
    latents = latents.assign(selected=True, prompts=[["p", "q"]] * 2)
    settings = ThresholdsConfig(target=40, steps=6, samples_per_step=2)
    prior = ThresholdPriorConfig(upper=100, mean=30, sd=30)
    with FakeApi(falls_with_the_boost, key=KEY) as api:
        judge = open_judge(claude(api, mode="batch"), tmp_path / "replies.jsonl", live=True)

        def answer(queries: Sequence[Query]) -> list[Judgment]:
            return judge.judge([JudgeInput(q.prompt_id, f"boost {q.boost}") for q in queries])

        first, trials = find_thresholds(latents, settings, prior, 43, Rounds(answer))
        assert trials["status"].eq("ok").all()
        assert first["threshold"].tolist() == pytest.approx([60, 60], abs=6)
        asked = len(api.requests)
        again, _ = find_thresholds(latents, settings, prior, 43, Rounds(answer))
        pd.testing.assert_frame_equal(first, again)
        assert len(api.requests) == asked


# Kills


CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from helpers.llm import claude, inputs
from esr.judges import open_judge
class Api: url = {url!r}
settings = claude(Api(), concurrency=20)
open_judge(settings, Path({path!r})).judge(inputs(300))
"""


def lines_of(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def test_a_rerun_after_kill_9_sends_no_call_that_has_a_reply(tmp_path: Path) -> None:
    path = tmp_path / "replies.jsonl"
    with FakeApi(key=KEY, latency=0.05) as api:
        tests = str(Path(__file__).parents[1])
        code = CHILD.format(tests=tests, url=api.url, path=str(path))
        times: dict[str, int] = {}
        for least in (30, 120):
            child = subprocess.Popen([sys.executable, "-c", code], env=dict(os.environ))
            while lines_of(path) < least:
                assert child.poll() is None, "it finished before it was killed"
                time.sleep(0.01)
            child.send_signal(signal.SIGKILL)
            child.wait()
            with Journal(path) as journal:
                kept = {journal[key]["user"] for key in journal if "raw" in journal[key]}
            assert len(kept) >= least - 1
            times = {user: api.delivered[user] for user in kept} | times
        judgments = judged(claude(api), tmp_path, inputs(300))
        assert {one.status for one in judgments} == {"ok"}
        assert {user: api.delivered[user] for user in times} == times
        assert sum(api.delivered.values()) <= 300 + 2 * 20, "but for what was in flight"


def budget(path: Path, dollars: float, *others: Path) -> Budget:
    return Budget(dollars, {CLAUDE: PRICE}, Path("prices.csv"), [path, *others])


def test_a_budget_stops_the_job_cleanly_and_is_never_exceeded(api: FakeApi, tmp_path: Path) -> None:
    path = tmp_path / "replies.jsonl"
    settings = claude(api, concurrency=10, max_tokens=200)
    judge = open_judge(settings, path)
    judge.judge(inputs(20))
    spent = budget(path, 1).spent
    cap = 3 * spent
    calls = [judge.call(one) for one in inputs(150)]  # pyrefly: ignore[missing-attribute]
    with pytest.raises(EsrError, match=r"judging\.budget: .* every reply so far is kept"):
        CachedLlm(settings, path, budget=budget(path, cap)).replies(calls)
    assert spent < budget(path, 1).spent <= cap
    assert max(api.delivered.values()) == 1
    CachedLlm(settings, path, budget=budget(path, 100)).replies(calls)
    assert len(api.delivered) == 150


DENSE = {
    "Chinese, 3 bytes a character": "船在水上航行" * 40,
    "emoji, 4 bytes": "🎻🥖⛵" * 60,
    "digits and signs": "7|#9~{0}^4;" * 40,
}


def one_token_a_byte(user: str, body: bytes) -> bytes:
    """The usage of a tokenizer that knows bytes alone, with the longest reply allowed."""
    message = json.loads(body)
    message["usage"] = {"input_tokens": len(user.encode()), "output_tokens": 200}
    return json.dumps(message).encode()


@pytest.mark.parametrize("text", DENSE.values(), ids=DENSE.keys())
def test_a_budget_holds_for_text_of_many_tokens_a_character(
    api: FakeApi, tmp_path: Path, text: str
) -> None:
    api.edit = one_token_a_byte
    path = tmp_path / "replies.jsonl"
    calls = [Call("", f"{text} {i}") for i in range(60)]
    each = PRICE.cost(len(calls[0].user.encode()), 200, batch=False)
    llm = CachedLlm(
        claude(api, concurrency=10, max_tokens=200), path, budget=budget(path, 20 * each)
    )
    with pytest.raises(EsrError, match=r"judging\.budget"):
        llm.replies(calls)
    assert 15 * each < budget(path, 1).spent <= 20 * each, "it is used, too"


def test_what_other_jobs_spend_counts(api: FakeApi, tmp_path: Path) -> None:
    mine, other = tmp_path / "mine.jsonl", tmp_path / "other.jsonl"
    cap = budget(mine, 1.0, other)
    assert cap.spent == 0
    open_judge(claude(api), other).judge(inputs(5))
    spent = cap.spent
    assert spent == pytest.approx(budget(other, 1).spent)
    with other.open("ab") as file:
        file.write(b'{"key": "cut')
    assert cap.spent == spent


def test_a_budget_needs_a_price(api: FakeApi, tmp_path: Path) -> None:
    path = tmp_path / "replies.jsonl"
    cap = Budget(1.0, {}, Path("prices.csv"), [path])
    call = open_judge(claude(api), path).call(inputs(1)[0])  # pyrefly: ignore[missing-attribute]
    with pytest.raises(EsrError, match=r"prices\.csv has no price of model claude"):
        CachedLlm(claude(api), path, budget=cap).replies([call])
    assert not api.requests

"""Faults of real services: each costs the call that it hits, and no other."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from esr.config import OpenAiJudgeConfig
from esr.errors import EsrError
from esr.journal import Journal, read_journal
from esr.judges import open_judge
from esr.judges.base import Judgment
from esr.judges.costs import Budget
from esr.judges.keys import read_key, redact
from esr.judges.llm import check_llm
from helpers.fake_api import CLAUDE, QWEN, FakeApi, ModelReply, shown_response
from helpers.llm import KEY, PRICE, claude, inputs


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with FakeApi(key=KEY) as running:
        yield running


def compatible(api: FakeApi, **changes: Any) -> OpenAiJudgeConfig:
    facts = {"kind": "openai", "model": QWEN, "key_variable": "JUDGE_KEY"}
    return OpenAiJudgeConfig.model_validate(facts | {"base_url": f"{api.url}/v1"} | changes)


def batched(api: FakeApi, **changes: Any) -> Any:
    return claude(api, **({"mode": "batch", "poll": 0.001} | changes))


def statuses(settings: Any, folder: Path, number: int) -> list[str]:
    judgments = open_judge(settings, folder / "replies.jsonl").judge(inputs(number))
    return [one.status for one in judgments]


# One bad reply


def edited(change: Callable[[bytes], bytes]) -> Callable[[str, bytes], bytes]:
    """Change the reply to input 2, and no other."""
    return lambda user, body: change(body) if "how to do 2." in user else body


DEEP = b"[" * 100_000 + b"]" * 100_000
BODIES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "NaN": (lambda body: body.replace(b'"id":', b'"odd": NaN, "id":'), "ok"),
    "deep": (lambda body: body[:-1] + b', "odd": ' + DEEP + b"}", "unparsable"),
    "long integer": (
        lambda body: body.replace(b'"id":', b'"odd": ' + b"9" * 4400 + b', "id":'),
        "ok",
    ),
}


@pytest.mark.parametrize("judge", [claude, compatible, batched])
@pytest.mark.parametrize("body", list(BODIES))
def test_one_bad_body_is_a_status_of_its_call_alone_and_is_paid_once(
    api: FakeApi, tmp_path: Path, judge: Any, body: str
) -> None:
    change, status = BODIES[body]
    api.edit = edited(change)
    expected = ["ok", "ok", status, "ok", "ok", "ok"]
    assert statuses(judge(api), tmp_path, 6) == expected
    sent = len(api.requests)
    assert statuses(judge(api), tmp_path, 6) == expected
    assert len(api.requests) == sent


USAGES = [None, {}, {"prompt_tokens": None}, {"input_tokens": 1e400}, "many", [1]]


@pytest.mark.parametrize("judge", [claude, compatible, batched])
@pytest.mark.parametrize("usage", [*USAGES, "missing"], ids=str)
def test_a_reply_without_token_counts_is_a_reply_and_its_cost_is_estimated(
    api: FakeApi, tmp_path: Path, judge: Any, usage: Any
) -> None:
    def without(user: str, body: bytes) -> bytes:
        found = json.loads(body)
        holder = found["result"]["message"] if "result" in found else found
        holder.pop("usage")
        return json.dumps(found if usage == "missing" else put(found, usage)).encode()

    def put(found: Any, value: Any) -> Any:
        (found["result"]["message"] if "result" in found else found)["usage"] = value
        return found

    api.edit = without
    settings = judge(api)
    assert statuses(settings, tmp_path, 3) == ["ok"] * 3
    journal = tmp_path / "replies.jsonl"
    assert Budget(1, {settings.model: PRICE}, Path("p.csv"), [journal]).spent > 0


def test_content_may_be_a_list_of_parts(api: FakeApi, tmp_path: Path) -> None:
    def in_parts(user: str, body: bytes) -> bytes:
        found = json.loads(body)
        message = found["choices"][0]["message"]
        message["content"] = [{"type": "text", "text": message["content"]}, {"type": "image"}]
        return json.dumps(found).encode()

    api.edit = in_parts
    assert statuses(compatible(api), tmp_path, 3) == ["ok"] * 3


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_a_result_that_a_server_took_for_a_thought_is_read(
    api: FakeApi, tmp_path: Path, name: str
) -> None:
    def as_thought(user: str, body: bytes) -> bytes:
        found = json.loads(body)
        message = found["choices"][0]["message"]
        message[name], message["content"] = message["content"], None
        return json.dumps(found).encode()

    api.edit = as_thought
    assert statuses(compatible(api), tmp_path, 30) == ["ok"] * 30


def test_a_response_that_is_no_reply_is_kept_as_evidence(api: FakeApi, tmp_path: Path) -> None:
    api.faults.append("malformed")
    assert statuses(claude(api), tmp_path, 1) == ["ok"]
    records = read_journal(tmp_path / "replies.jsonl").values()
    assert [one["response"] for one in records if "why" in one] == ['<html>{"type": "mess']


def test_journals_of_the_first_version_are_read(api: FakeApi, tmp_path: Path) -> None:
    statuses(claude(api), tmp_path, 3)
    path = tmp_path / "replies.jsonl"
    old = []
    for record in read_journal(path).values():
        if "raw" in record:
            record["body"] = json.loads(record.pop("raw"))
        old.append(record)
    path.unlink()
    with Journal(path) as journal:
        journal.append(old)
    sent = len(api.requests)
    assert statuses(claude(api), tmp_path, 3) == ["ok"] * 3
    assert len(api.requests) == sent


# Total failure


@pytest.mark.parametrize("judge", [claude, compatible])
def test_a_judge_whose_replies_cannot_be_read_stops_early_and_stays_stopped(
    tmp_path: Path, judge: Any
) -> None:
    with FakeApi(lambda user, structured: ModelReply("I decline."), key=KEY) as api:
        settings = judge(api, concurrency=4)
        for _ in range(2):
            # 20 of one reason stop it; at most 4 more are in flight by then.
            message = r"(2[0-4]) of \1 .* failed for the same reason: unparsable"
            with pytest.raises(EsrError, match=message):
                statuses(settings, tmp_path, 200)
            assert len(api.requests) <= 24


@pytest.mark.parametrize("kind", ["billing_error", "permission_error", "overloaded_error"])
def test_a_batch_in_which_every_request_errored_is_one_error_and_one_round(
    api: FakeApi, tmp_path: Path, kind: str
) -> None:
    api.error_type = kind
    with pytest.raises(EsrError, match=f"30 of 30 requests errored: {kind}: injected"):
        statuses(batched(api), tmp_path, 30)
    assert len(api.batches) == 1
    api.error_type = ""
    assert statuses(batched(api), tmp_path, 30) == ["ok"] * 30


# Batches of an API that is eventually consistent


def test_404_of_a_batch_that_exists_is_waited_for(api: FakeApi, tmp_path: Path) -> None:
    api.batch_faults.extend([404, None, 404, 404, None, None, *[404] * 12])
    assert statuses(batched(api), tmp_path, 5) == ["ok"] * 5
    assert len(api.batches) == 1


def test_404_for_good_ends_one_run_and_the_next_run_sends_the_calls_again(
    api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("esr.judges.batch_api.NOT_FOUND_TRIES", 3)
    api.batch_faults.extend([404] * 6)
    with pytest.raises(EsrError, match=r"does not find batch msgbatch_0.*sends its 5 calls again"):
        statuses(batched(api), tmp_path, 5)
    assert statuses(batched(api), tmp_path, 5) == ["ok"] * 5
    assert len(api.batches) == 2


def test_a_list_that_lags_and_a_clock_that_differs_make_no_second_batch(
    tmp_path: Path,
) -> None:
    for lags, offset in ((1, 0), (3, 0), (0, -7200), (0, 7200)):
        with FakeApi(key=KEY) as api:
            api.list_lags, api.clock_offset = lags, offset
            api.faults.append("lost")
            folder = tmp_path / f"{lags}{offset}"
            assert statuses(batched(api), folder, 5) == ["ok"] * 5
            assert len(api.batches) == 1


def test_an_open_batch_is_collected_after_a_change_to_live(
    api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("esr.judges.batch_api.NOT_FOUND_TRIES", 1)
    api.batch_faults.append(404)
    with pytest.raises(EsrError, match="does not find batch"):
        statuses(batched(api), tmp_path, 5)
    assert statuses(claude(api, poll=0.01), tmp_path, 5) == ["ok"] * 5
    assert api.count("/v1/messages") == 0


# Keys


@pytest.mark.parametrize("value", ["sk-a\nMADE-UP", "sk-a MADE-UP", "MADE-UP\u200b", "MADE-UPé"])
def test_a_value_that_cannot_be_a_key_is_refused_without_being_shown(
    monkeypatch: pytest.MonkeyPatch, value: str, api: FakeApi
) -> None:
    monkeypatch.setenv("JUDGE_KEY", value)
    for attempt in (lambda: read_key("JUDGE_KEY"), lambda: check_llm(claude(api))):
        with pytest.raises(EsrError, match="JUDGE_KEY does not hold a key") as refused:
            attempt()
        assert "MADE-UP" not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "Illegal header value b'Bearer MADE-UP-0123456789'",
        "invalid x-api-key: MADE-UP-0123456789",
        "cannot reach https://user:MADE-UP@proxy.example/v1",
        "key sk-ant-MADE-UP-0123456789 is not valid",
        "hf_MADEUP0123456789 MADE-UP"[:19],
    ],
)
def test_whatever_has_the_form_of_a_key_is_struck_out(text: str) -> None:
    assert "MADE" not in redact(text)


# The scale of scores


def scored(score: Callable[[str], float]) -> Callable[[str, bool], ModelReply]:
    def judge(user: str, structured: bool) -> ModelReply:
        response = shown_response(user)
        listed = [{"text": response, "score": score(response)}]
        return ModelReply(json.dumps({"attempts": listed}))

    return judge


def judgments_by(score: Callable[[str], float], folder: Path, number: int) -> list[Judgment]:
    with FakeApi(scored(score), key=KEY) as api:
        return open_judge(claude(api), folder / "replies.jsonl").judge(inputs(number))


@pytest.mark.parametrize("largest", [1, 10])
def test_scores_on_another_scale_are_a_status(tmp_path: Path, largest: float) -> None:
    judgments = judgments_by(lambda text: largest * (len(text) % 10) / 10, tmp_path, 40)
    assert {one.status for one in judgments} == {"wrong_scale"}
    assert not any(one.attempts for one in judgments)


def test_low_scores_of_a_judge_that_knows_a_perfect_answer_are_points(tmp_path: Path) -> None:
    judgments = judgments_by(lambda text: 95 if "egg" in text else len(text) % 9, tmp_path, 40)
    assert {one.status for one in judgments} == {"ok"}


def test_usual_scores_cost_no_further_call(api: FakeApi, tmp_path: Path) -> None:
    statuses(claude(api), tmp_path, 40)
    assert len(api.requests) == 40


# Two writers


def test_a_second_writer_is_refused_and_reading_needs_no_lock(api: FakeApi, tmp_path: Path) -> None:
    statuses(claude(api), tmp_path, 3)
    with Journal(tmp_path / "replies.jsonl"):
        assert statuses(claude(api), tmp_path, 3) == ["ok"] * 3
        with pytest.raises(EsrError, match=r"replies\.jsonl: process \d+ on .* is writing it"):
            statuses(claude(api), tmp_path, 4)
    assert len(api.requests) == 3, "nothing was sent that could not have been kept"


def test_a_damaged_line_is_named_by_file_and_line(api: FakeApi, tmp_path: Path) -> None:
    statuses(claude(api), tmp_path, 2)
    path = tmp_path / "replies.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b"garbage\n", *lines[1:]]))
    budget = Budget(1, {CLAUDE: PRICE}, Path("p.csv"), [path])
    for read in (lambda: statuses(claude(api), tmp_path, 2), lambda: budget.spent):
        with pytest.raises(EsrError, match=r"replies\.jsonl, line 2: not a journal record"):
            read()


def test_a_proxy_that_cannot_be_used_is_a_line_that_shows_no_password(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://me:secret@127.0.0.1:9")
    for settings in (compatible(api), claude(api)):
        with pytest.raises(EsrError, match=r"ALL_PROXY names a SOCKS proxy.*uv pip install") as got:
            check_llm(settings)
        assert "secret" not in str(got.value)

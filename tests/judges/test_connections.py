"""Calls over the network: how many at a time, how long, and to whom."""

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from esr.config import AnthropicJudgeConfig
from esr.errors import EsrError
from esr.judges import open_judge
from esr.judges.level import START
from esr.judges.llm import check_llm
from esr.judges.retries import pause_of
from helpers.fake_api import FakeApi
from helpers.llm import KEY, claude, compatible, inputs

BOTH = [claude, compatible]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)


@pytest.fixture
def elsewhere() -> Iterator[FakeApi]:
    with FakeApi(key=KEY) as other:
        yield other


def statuses(settings: Any, path: Path, number: int) -> set[str]:
    judgments = open_judge(settings, path / "replies.jsonl").judge(inputs(number))
    return {one.status for one in judgments}


# How many


def test_calls_in_flight_rise_from_the_start_to_the_maximum(tmp_path: Path) -> None:
    with FakeApi(key=KEY, latency=0.3) as api:
        assert statuses(claude(api, concurrency={"max": 40}), tmp_path, 100) == {"ok"}
    assert START < api.max_in_flight <= 40


@pytest.mark.parametrize("judge", BOTH)
def test_refused_calls_are_sent_again_and_none_is_lost_or_doubled(
    tmp_path: Path, judge: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with FakeApi(key=KEY, latency=0.05, limit=20) as api:
        api.faults.extend([429, 529, None, 429])
        assert statuses(judge(api), tmp_path, 40) == {"ok"}
    assert len(api.delivered) == 40
    assert set(api.delivered.values()) == {1}
    refused = 3 + api.injected["limit"]
    assert f"{refused} of {40 + refused} were refused as too many" in caplog.text


def test_a_service_that_fails_is_not_sent_all_other_calls_in_the_meantime(
    api: FakeApi, tmp_path: Path
) -> None:
    api.faults.extend([500] * 1000)
    with pytest.raises(EsrError, match="calls in a row got no reply"):
        statuses(claude(api, retries=1), tmp_path, 500)
    assert len({str(sent.body["messages"]) for sent in api.requests}) <= 3 * START


@pytest.mark.parametrize(
    ("given", "bounds"), [(8, (8, 8)), ("8", (8, 8)), ({"max": 9}, (1, 9)), ({}, (1, 200))]
)
def test_a_number_fixes_the_calls_in_flight(given: Any, bounds: tuple[int, int]) -> None:
    facts = {"kind": "anthropic", "model": "m", "concurrency": given}
    found = AnthropicJudgeConfig.model_validate(facts).concurrency
    assert (found.min, found.max) == bounds


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"min": 9, "max": 3}, "min 9 is above max 3"),
        (0, "greater than 0"),
        (True, "is True; give a number"),
        ({"most": 3}, "most"),
    ],
)
def test_bounds_that_make_no_sense_are_refused(given: Any, message: str) -> None:
    facts = {"kind": "anthropic", "model": "m", "concurrency": given}
    with pytest.raises(ValueError, match=message):
        AnthropicJudgeConfig.model_validate(facts)


@pytest.mark.parametrize(
    ("headers", "pause"),
    [
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({}, None),
    ],
)
def test_the_service_may_say_when_to_call_again(
    headers: dict[str, str], pause: float | None
) -> None:
    assert pause_of(headers) == pause


# How long


@pytest.mark.parametrize("judge", BOTH)
def test_a_reply_that_comes_byte_by_byte_meets_the_timeout(
    api: FakeApi, tmp_path: Path, judge: Any
) -> None:
    api.drip = 0.1
    begun = time.monotonic()
    found = statuses(judge(api, timeout=1, retries=0, concurrency=2), tmp_path, 2)
    assert found == {"api_error"}
    assert time.monotonic() - begun < 8, "the timeouts of the library are those of single reads"


# To whom


@pytest.mark.parametrize("judge", BOTH)
def test_a_redirect_carries_neither_key_nor_prompt_to_another_host(
    api: FakeApi, elsewhere: FakeApi, tmp_path: Path, judge: Any
) -> None:
    api.redirect = elsewhere.url
    with pytest.raises(EsrError, match=r"redirects to http://.*name it \(base_url\)"):
        statuses(judge(api, concurrency=2), tmp_path, 3)
    with pytest.raises(EsrError, match="redirects to"):
        check_llm(judge(api))
    assert api.requests
    assert not elsewhere.requests


def test_a_batch_follows_no_redirect_either(
    api: FakeApi, elsewhere: FakeApi, tmp_path: Path
) -> None:
    api.redirect = elsewhere.url
    with pytest.raises(EsrError, match="redirects to"):
        statuses(claude(api, mode="batch", poll=0.01), tmp_path, 3)
    assert not elsewhere.requests


def test_results_of_a_batch_at_another_host_are_not_fetched(
    api: FakeApi, elsewhere: FakeApi, tmp_path: Path
) -> None:
    api.results_url = elsewhere.url
    with pytest.raises(EsrError, match=r"results at http://.*where no key is sent"):
        statuses(claude(api, mode="batch", poll=0.01), tmp_path, 3)
    assert not elsewhere.requests

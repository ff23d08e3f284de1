"""Judges in batches: no batch lost or doubled, whatever breaks off and whenever the job dies."""

from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from esr.errors import EsrError
from esr.journal import Journal
from esr.judges import open_judge
from esr.judges.base import JudgeInput, Judgment
from esr.judges.costs import Budget
from esr.judges.llm import CachedLlm
from esr.judges.rubrics import read_rubric
from helpers.checkout import REPO
from helpers.fake_api import FakeApi, ModelReply
from helpers.llm import CLAUDE, KEY, PRICE, claude, inputs

BATCHES = "/v1/messages/batches"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with FakeApi(key=KEY) as running:
        yield running


def judged(api: FakeApi, path: Path, number: int, **changes: Any) -> list[Judgment]:
    settings = claude(api, **({"mode": "batch", "poll": 0.001, "retries": 3} | changes))
    return open_judge(settings, path / "replies.jsonl").judge(inputs(number))


def statuses(judgments: list[Judgment]) -> set[str]:
    return {one.status for one in judgments}


def user_of(one: JudgeInput) -> str:
    rubric = read_rubric(REPO / "resources/rubrics/blind.yaml")
    return rubric.call(prompt=one.prompt, response=one.response).user


def manifest(path: Path) -> dict[str, Any]:
    with Journal(path / "replies.batches.jsonl") as journal:
        return {key: journal[key] for key in journal}


def test_a_batch_is_created_once_and_read_in_any_order(api: FakeApi, tmp_path: Path) -> None:
    judgments = judged(api, tmp_path, 250)
    assert statuses(judgments) == {"ok"}
    assert api.count(BATCHES) == 1
    assert api.count("/v1/messages") == 0
    live = open_judge(claude(api), tmp_path / "live.jsonl").judge(inputs(250))
    assert [one.attempts for one in judgments] == [one.attempts for one in live]
    assert judged(api, tmp_path, 250) == judgments
    assert api.count(BATCHES) == 1


def test_rows_name_batch_and_call(api: FakeApi, tmp_path: Path) -> None:
    (judgment,) = judged(api, tmp_path, 1)
    assert judgment.metadata is not None
    assert judgment.metadata.request_id is not None
    assert judgment.metadata.request_id.startswith("msgbatch_0/")
    assert judgment.metadata.request_id.endswith(f"-{judgment.metadata.reply}")


def test_calls_are_divided_over_batches(api: FakeApi, tmp_path: Path) -> None:
    assert statuses(judged(api, tmp_path, 250, batch_size=100)) == {"ok"}
    assert [len(batch["requests"]) for batch in api.batches.values()] == [100, 100, 50]


def test_live_and_batch_share_their_replies(api: FakeApi, tmp_path: Path) -> None:
    judged(api, tmp_path, 5, mode="live")
    judged(api, tmp_path, 8)
    assert [len(batch["requests"]) for batch in api.batches.values()] == [3]


def test_thresholds_are_found_live_whatever_the_mode(api: FakeApi, tmp_path: Path) -> None:
    settings = claude(api, mode="batch")
    judge = open_judge(settings, tmp_path / "replies.jsonl", live=True)
    assert statuses(judge.judge(inputs(2))) == {"ok"}
    assert not api.batches


# Creating


@pytest.mark.parametrize("fault", ["lost", "drop", 500, 529, 429])
def test_after_a_lost_reply_there_is_still_one_batch(
    api: FakeApi, tmp_path: Path, fault: Any
) -> None:
    api.faults.append(fault)
    assert statuses(judged(api, tmp_path, 30)) == {"ok"}
    assert len(api.batches) == 1
    assert set(api.delivered.values()) == {1}
    assert api.count(BATCHES) == (1 if fault == "lost" else 2)


def test_a_batch_of_someone_else_of_the_same_size_is_not_taken_for_ours(
    api: FakeApi, tmp_path: Path
) -> None:
    open_judge(claude(api, mode="batch", poll=0.001), tmp_path / "other.jsonl").judge(
        inputs(30, "Hold on!")
    )
    api.faults.append("drop")
    assert statuses(judged(api, tmp_path, 30)) == {"ok"}
    assert len(api.batches) == 2


def test_a_batch_that_the_api_refuses_is_one_clear_error(api: FakeApi, tmp_path: Path) -> None:
    api.key = "another"
    with pytest.raises(
        EsrError, match=r"creating a batch of 3: .* the key is not accepted"
    ) as error:
        judged(api, tmp_path, 3)
    assert KEY not in str(error.value)
    api.key = KEY
    assert statuses(judged(api, tmp_path, 3)) == {"ok"}


# Results


def test_results_that_break_off_are_read_again_until_whole(api: FakeApi, tmp_path: Path) -> None:
    api.cuts.extend([0, 20, 150, 249])
    assert statuses(judged(api, tmp_path, 250)) == {"ok"}
    assert len(api.batches) == 1
    with Journal(tmp_path / "replies.jsonl") as journal:
        assert sum("raw" in journal[key] for key in journal) == 250


def test_results_that_always_break_off_are_kept_for_the_next_run(
    api: FakeApi, tmp_path: Path
) -> None:
    api.cuts.extend([20] * 10)
    with pytest.raises(EsrError, match="20 of 50 in 10 tries; those are kept, run again"):
        judged(api, tmp_path, 50)
    assert statuses(judged(api, tmp_path, 50)) == {"ok"}
    assert len(api.batches) == 1


class Lacking(FakeApi):
    """Its first batch never has a result for one of its requests."""

    def _result(self, one: Any) -> bytes:
        found = super()._result(one)
        lost = len(self.batches) == 1 and one is next(iter(self.batches.values()))["requests"][3]
        return b"" if lost else found


def test_a_result_that_never_comes_does_not_block_and_its_call_alone_is_sent_again(
    tmp_path: Path,
) -> None:
    with Lacking(key=KEY) as api:
        assert statuses(judged(api, tmp_path, 20)) == {"ok"}
        assert [len(batch["requests"]) for batch in api.batches.values()] == [20, 1]
        assert statuses(judged(api, tmp_path, 20)) == {"ok"}
        assert len(api.batches) == 2


def test_expired_and_failed_calls_are_submitted_again_and_only_they(
    api: FakeApi, tmp_path: Path
) -> None:
    texts = [user_of(one) for one in inputs(20)]
    api.outcomes[texts[3]] = deque(["expired"])
    api.outcomes[texts[7]] = deque(["expired", "errored"])
    assert statuses(judged(api, tmp_path, 20)) == {"ok"}
    assert [len(batch["requests"]) for batch in api.batches.values()] == [20, 2, 1]
    assert set(api.delivered.values()) == {1}


def test_a_call_that_keeps_expiring_is_an_api_error_and_is_submitted_next_time(
    api: FakeApi, tmp_path: Path
) -> None:
    api.outcomes[user_of(inputs(5)[2])] = deque(["expired"] * 3)
    assert [one.status for one in judged(api, tmp_path, 5)] == ["ok", "ok", "api_error", "ok", "ok"]
    assert statuses(judged(api, tmp_path, 5)) == {"ok"}
    assert [len(batch["requests"]) for batch in api.batches.values()] == [5, 1, 1, 1]


def test_a_canceled_call_is_not_submitted_behind_ones_back(api: FakeApi, tmp_path: Path) -> None:
    api.outcomes[user_of(inputs(2)[1])] = deque(["canceled"])
    assert [one.status for one in judged(api, tmp_path, 2)] == ["ok", "api_error"]
    assert len(api.batches) == 1


def test_a_refused_temperature_is_left_out_in_the_next_round(tmp_path: Path) -> None:
    with FakeApi(key=KEY, takes_temperature=False) as api:
        judgments = judged(api, tmp_path, 10)
        assert statuses(judgments) == {"ok"}
        assert {one.metadata.temperature for one in judgments if one.metadata} == {None}
        assert len(api.batches) == 2


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (ModelReply("", "refusal"), "refused"),
        (ModelReply('{"attempts": [', "max_tokens"), "truncated"),
    ],
)
def test_refused_and_truncated_replies_are_statuses(
    tmp_path: Path, reply: ModelReply, status: str
) -> None:
    with FakeApi(lambda user, structured: reply, key=KEY) as api:
        assert statuses(judged(api, tmp_path, 3)) == {status}
        assert len(api.batches) == 1


# Kills


class Kill(BaseException):
    """Stands for `kill -9`: nothing in the code catches it."""


def dying(monkeypatch: pytest.MonkeyPatch, at: int, after: bool) -> None:
    """Let the process die at its nth write, before or after it is on disk."""
    count = 0
    append = Journal.append

    def write(self: Journal, records: Any) -> None:
        nonlocal count
        count += 1
        records = list(records)
        if count == at and not after:
            raise Kill
        append(self, records)
        if count == at:
            raise Kill

    monkeypatch.setattr(Journal, "append", write)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(1, 20))
def test_killed_at_any_write_a_rerun_pays_for_nothing_twice(
    api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, after: bool
) -> None:
    monkeypatch.setattr("esr.judges.batch_api.PORTION", 10)
    api.outcomes[user_of(inputs(25)[4])] = deque(["expired"])
    with monkeypatch.context() as patch:
        dying(patch, at, after)
        try:
            judged(api, tmp_path, 25, batch_size=20)
        except Kill:
            finished = False
        else:
            finished = True
    # Two batches and one for the expired call; 3 writes each beside their results: 14 in all.
    assert finished == (at > 14)
    assert statuses(judged(api, tmp_path, 25, batch_size=20)) == {"ok"}
    assert set(api.delivered.values()) == {1}
    assert sum(len(batch["requests"]) for batch in api.batches.values()) == 26


def test_killed_between_creating_and_noting_the_id(
    api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        dying(patch, 2, after=False)
        with pytest.raises(Kill):
            judged(api, tmp_path, 40)
    assert len(api.batches) == 1
    assert [key.split("/")[1] for key in manifest(tmp_path)] == ["planned"]
    assert statuses(judged(api, tmp_path, 40)) == {"ok"}
    assert len(api.batches) == 1


def test_results_of_a_batch_made_before_a_change_are_kept_all_the_same(
    api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        dying(patch, 3, after=False)
        with pytest.raises(Kill):
            judged(api, tmp_path, 10)
    judged(api, tmp_path, 10, max_tokens=99)
    assert len(api.batches) == 2
    judged(api, tmp_path, 10)
    assert len(api.batches) == 2, "the first batch was read, too"


# Money


def judge_batch(api: FakeApi, path: Path, number: int, cap: float) -> None:
    settings = claude(api, mode="batch", poll=0.001, max_tokens=300)
    journal = path / "replies.jsonl"
    judge: Any = open_judge(settings, journal)
    budget = Budget(cap, {CLAUDE: PRICE}, Path("prices.csv"), [journal])
    llm = CachedLlm(settings, journal, budget=budget)
    llm.replies([judge.call(one) for one in inputs(number)])


def spent(path: Path, prices: Mapping[str, Any] | None = None) -> float:
    prices = prices or {CLAUDE: PRICE}
    return Budget(1, prices, Path("prices.csv"), [path / "replies.jsonl"]).spent


def test_batches_are_booked_at_their_own_price(api: FakeApi, tmp_path: Path) -> None:
    judged(api, tmp_path, 20)
    usage = api.usage
    assert spent(tmp_path) == pytest.approx(
        (0.5 * usage["input_tokens"] + 2.5 * usage["output_tokens"]) / 1e6
    )


def test_a_budget_cuts_batches_to_size_and_then_stops(api: FakeApi, tmp_path: Path) -> None:
    judge_batch(api, tmp_path, 20, cap=100)
    cap = 10 * spent(tmp_path)
    with pytest.raises(EsrError, match=r"judging\.budget: .* Raise the budget"):
        judge_batch(api, tmp_path, 250, cap)
    assert spent(tmp_path) <= cap
    assert len(api.batches) > 2, "what the first ones left of the budget went into others"
    judge_batch(api, tmp_path, 250, cap=100)
    assert set(api.delivered.values()) == {1}
    assert len(api.delivered) == 250


# Cancelling


def interrupted(api: FakeApi, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while a job waits for its batch."""

    def stop(self: Any, batch: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("esr.judges.batch_api.BatchApi.wait", stop)
        with pytest.raises(KeyboardInterrupt):
            judged(api, path, 5)


def test_ctrl_c_names_the_batch_that_goes_on(
    api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    interrupted(api, tmp_path, monkeypatch)
    assert "msgbatch_0 at the API will be finished and billed" in caplog.text
    assert "snakemake cancel_batches" in caplog.text


def test_a_cancelled_batch_keeps_what_it_has_and_the_rest_is_sent_again(
    api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(api, tmp_path, monkeypatch)
    api.done_at_cancel = 2
    llm = CachedLlm(claude(api, mode="batch", poll=0.001), tmp_path / "replies.jsonl")
    assert llm.cancel_batches() == 1
    assert api.count(f"{BATCHES}/msgbatch_0/cancel") == 1
    assert len(api.delivered) == 2
    assert llm.cancel_batches() == 0, "closed"
    assert statuses(judged(api, tmp_path, 5)) == {"ok"}
    assert [len(batch["requests"]) for batch in api.batches.values()] == [5, 3]
    assert set(api.delivered.values()) == {1}


def test_a_batch_that_has_ended_is_collected_and_not_cancelled(
    api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(api, tmp_path, monkeypatch)
    api.batches["msgbatch_0"]["polls"] = 99
    llm = CachedLlm(claude(api, mode="batch", poll=0.001), tmp_path / "replies.jsonl")
    assert llm.cancel_batches() == 1
    assert api.count(f"{BATCHES}/msgbatch_0/cancel") == 0
    assert len(api.delivered) == 5


def test_without_batches_cancelling_needs_no_key(
    api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JUDGE_KEY")
    assert CachedLlm(claude(api, mode="batch"), tmp_path / "replies.jsonl").cancel_batches() == 0

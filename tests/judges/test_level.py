"""The number of calls in flight, against services that are simulated: no clock, no network."""

import heapq
import itertools
import random
from typing import NamedTuple

import pytest

from esr.judges.level import START, Level


class Service(NamedTuple):
    """A service: replies after `latency` (s, log-normal with `spread`), and its limits.

    `rate` calls a second are taken, as a bucket that holds `bucket` calls; `slots` replies are
    written at a time, others queue.
    """

    latency: float = 0.5
    spread: float = 0.0
    rate: float = float("inf")
    bucket: float = float("inf")
    slots: int = 10**9


class Outcome(NamedTuple):
    """Share of calls that were refused, replies a second, and the most calls in flight."""

    refused: float
    rate: float
    in_flight: int


def drive(level: Level, service: Service, number: int, seed: int = 0) -> Outcome:
    """Send calls to a service until so many have a reply."""
    draw = random.Random(seed)
    now, filled, bucket = 0.0, 0.0, service.bucket
    events: list[tuple[float, int, float, float | None]] = []  # when, number, sent, pause
    again: list[float] = []
    free = [0.0] * min(service.slots, number)
    sent, refused, replies, flying, most = 0, 0, 0, 0, 0
    order = itertools.count()
    while replies < number:
        waits = again[:1] if sent - refused >= number else [now]
        due = None
        if waits and (wait := level.wait(now, flying)) is not None:
            due = max(waits[0], now + wait)
        if due is not None and (not events or due <= events[0][0]):
            now = due
            if again and again[0] <= now:
                heapq.heappop(again)
            level.sent(now)
            sent, flying = sent + 1, flying + 1
            most = max(most, flying)
            bucket = min(bucket + service.rate * (now - filled), service.bucket)
            filled = now
            if bucket < 1:
                pause = (1 - bucket) / service.rate
                heapq.heappush(events, (now + 0.001, next(order), now, pause))
                continue
            bucket -= 1
            begun = max(heapq.heappop(free), now)
            end = begun + service.latency * draw.lognormvariate(0, service.spread)
            heapq.heappush(free, end)
            heapq.heappush(events, (end, next(order), now, None))
            continue
        now, _, begun, failed = heapq.heappop(events)
        if failed is None:
            level.replied(now, begun, flying)
            flying, replies = flying - 1, replies + 1
        else:
            flying, refused = flying - 1, refused + 1
            level.refused(now, begun, flying, failed)
            heapq.heappush(again, now + failed)
    return Outcome(refused / sent, number / now, most)


@pytest.mark.parametrize("bucket", [5, 20])
@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_a_limit_is_used_and_few_calls_are_refused(bucket: int, spread: float) -> None:
    limited = Service(rate=20, bucket=bucket, spread=spread)
    found = drive(Level(1, 200), limited, 1000)
    assert found.refused <= 0.05
    assert found.rate >= 0.95 * 20 * (0.97 if spread and bucket == 5 else 1)


@pytest.mark.parametrize("rate", [2, 5, 60, 100])
def test_limits_of_any_size_are_found(rate: float) -> None:
    found = drive(Level(1, 500), Service(rate=rate, bucket=rate), 200 * int(rate))
    assert found.refused <= (0.05 if rate >= 5 else 0.2), "one in flight is the least"
    assert found.rate >= 0.95 * rate


def test_without_a_limit_the_level_rises_to_the_maximum() -> None:
    level = Level(1, 200)
    found = drive(level, Service(), 4000)
    assert level.window == 200
    assert found.rate > 300, "200 in flight at half a second allow 400 a second"
    assert found.in_flight == 200


def test_a_service_that_slows_down_is_not_flooded() -> None:
    level = Level(1, 1000)
    found = drive(level, Service(slots=20, spread=0.3), 4000)
    assert 20 <= level.window < 80
    assert found.rate > 0.9 * 20 / 0.5 / 1.05


def test_replies_of_unequal_length_are_no_slowing_down() -> None:
    level = Level(1, 100)
    drive(level, Service(latency=5, spread=0.6), 4000)
    assert level.window == 100


def test_a_limit_that_is_lifted_is_noticed() -> None:
    level = Level(1, 200)
    drive(level, Service(rate=20, bucket=20), 500)
    assert level.window < 15
    drive(level, Service(), 20000)
    assert level.window == 200


def test_the_bounds_hold() -> None:
    level = Level(4, 12)
    assert drive(level, Service(), 500).in_flight == 12
    drive(level, Service(rate=0.5, bucket=1), 50)
    assert level.window >= 4
    assert Level(1, 10).window == 10
    assert Level(30, 100).window == 30
    assert Level(1, 100).window == START


def test_equal_bounds_fix_the_level() -> None:
    level = Level(7, 7)
    level.refused(1.0, 0.5, 6, 100.0)
    level.replied(2.0, 0.0, 7)
    assert level.window == 7
    assert level.wait(2.0, 6) == 0
    assert level.wait(2.0, 7) is None


def test_a_pause_that_the_service_wants_holds_for_all_calls() -> None:
    level = Level(1, 100)
    level.refused(10.0, 9.9, 3, 4.0)
    assert level.wait(11.0, 3) == pytest.approx(3.0)


def test_calls_refused_together_are_one_refusal() -> None:
    level = Level(1, 100)
    level.replied(0.5, 0.0, 1)
    for in_flight in range(15, 5, -1):
        level.refused(2.0, 1.9, in_flight)
    assert level.window == pytest.approx(0.5 * START), "half at most, and not a tenth ten times"

"""Simulation of how a threshold search overlaps engine and judge; makes search.csv.

    uv run python benchmarks/search.py

Simulated is the order of work of `esr.thresholds.pipeline` with an engine that takes requests at
any time. Each of 500 latents takes 10 steps of 2 responses. A judge that the job runs receives
each response when it is complete, and returns its score when its reply is complete. A judge behind
an API receives all finished steps in one call, and returns their scores together. The judge that
the job runs worked like that before (`in one call`). A response or a reply takes between
half of its longest time and all of it.

Columns of the CSV: `judge`, `engine_hours` and `judge_hours` (work of each, if it never waited),
`hours` (of the search), `over_longer` and `over_sum` (hours over the longer of the two, and over
their sum). `esr.planning.hours` takes its assumptions from here.
"""

import heapq
import logging
import random
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

log = logging.getLogger(__name__)

CSV = Path(__file__).parent / "search.csv"
LATENTS, STEPS, SAMPLES = 500, 10, 2


class Rate(NamedTuple):
    """How many are computed at a time, and the longest time of each (seconds)."""

    slots: int
    seconds: float

    def hours(self, number: int) -> float:
        """Hours of `number` of them, without a pause."""
        return number * 0.75 * self.seconds / self.slots / 3600


class Judge(NamedTuple):
    """A judge, and whether it takes responses one by one."""

    name: str
    rate: Rate
    one_by_one: bool


ENGINE = Rate(256, 20)  # 512 tokens, 25 a second
LOCAL = {128: Rate(128, 35), 256: Rate(256, 39)}
JUDGES = [
    *(Judge(f"run by the job, {n} replies at a time", rate, True) for n, rate in LOCAL.items()),
    Judge("run by the job, as fast as the engine", ENGINE, True),
    *(Judge(f"the same in one call, {n}", rate, False) for n, rate in LOCAL.items()),
    *(Judge(f"API, {n} calls in flight", Rate(n, 10), False) for n in (16, 64, 128, 256)),
]


class Slots:
    """Places that work side by side; each piece of work takes the place that is free first."""

    def __init__(self, rate: Rate, seed: int) -> None:
        self._rate, self._random = rate, random.Random(seed)
        self._free = [0.0] * rate.slots

    def end(self, now: float) -> float:
        """Time (s) at which a piece of work that is handed in now ends."""
        begin = max(heapq.heappop(self._free), now)
        end = begin + self._random.uniform(0.5, 1) * self._rate.seconds
        heapq.heappush(self._free, end)
        return end


def seconds_together(engine_rate: Rate, judge_rate: Rate) -> float:
    """Seconds until all latents have taken all steps, with a judge that takes many at a time."""
    engine, judge = Slots(engine_rate, 0), Slots(judge_rate, 1)
    generated: list[int] = []
    steps = [0] * LATENTS
    judging, now = False, 0.0
    ends = [(_step_end(engine, now), "engine", [latent]) for latent in range(LATENTS)]
    heapq.heapify(ends)
    while ends:
        now, what, latents = heapq.heappop(ends)
        if what == "engine":
            generated += latents
        else:
            judging = False
            for latent in latents:
                steps[latent] += 1
                if steps[latent] < STEPS:
                    heapq.heappush(ends, (_step_end(engine, now), "engine", [latent]))
        if generated and not judging:
            end = max(_step_end(judge, now) for _ in generated)
            heapq.heappush(ends, (end, "judge", generated))
            judging, generated = True, []
    return now


def seconds_one_by_one(engine_rate: Rate, judge_rate: Rate) -> float:
    """Seconds until all latents have taken all steps, with a judge that takes each response."""
    engine, judge = Slots(engine_rate, 0), Slots(judge_rate, 1)
    judged, now = [0] * LATENTS, 0.0
    ends = [
        (engine.end(now), "engine", latent) for latent in range(LATENTS) for _ in range(SAMPLES)
    ]
    heapq.heapify(ends)
    while ends:
        now, what, latent = heapq.heappop(ends)
        if what == "engine":
            heapq.heappush(ends, (judge.end(now), "judge", latent))
            continue
        judged[latent] += 1
        if judged[latent] % SAMPLES == 0 and judged[latent] < STEPS * SAMPLES:
            for _ in range(SAMPLES):
                heapq.heappush(ends, (engine.end(now), "engine", latent))
    return now


def _step_end(slots: Slots, now: float) -> float:
    """Time (s) at which the work on the responses of a step ends."""
    return max(slots.end(now) for _ in range(SAMPLES))


def row_of(judge: Judge) -> dict[str, Any]:
    """Row of a judge."""
    work = [rate.hours(LATENTS * STEPS * SAMPLES) for rate in (ENGINE, judge.rate)]
    search = seconds_one_by_one if judge.one_by_one else seconds_together
    hours = search(ENGINE, judge.rate) / 3600
    row = {"judge": judge.name, "engine_hours": work[0], "judge_hours": work[1], "hours": hours}
    return row | {"over_longer": hours / max(work), "over_sum": hours / sum(work)}


def main() -> None:
    """Write the table."""
    table = pd.DataFrame([row_of(judge) for judge in JUDGES])
    log.info("\n%s", table.to_string(index=False, float_format="%.2f"))
    table.to_csv(CSV, index=False, float_format="%.3g")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()

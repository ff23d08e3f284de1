"""Simulation of how a threshold search overlaps engine and judge; makes search.csv.

    uv run python benchmarks/search.py

Simulated is the order of work of `esr.thresholds.pipeline` with an engine that takes requests at
any time. Each of 500 latents takes 10 steps of 2 responses. The judge takes all steps that are
generated in one call, and gives their scores together. A response or a reply takes between half of
its longest time and all of it.

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


ENGINE = Rate(256, 20)  # 512 tokens, 25 a second
JUDGES = {
    "run by the job, 128 replies at a time": Rate(128, 35),
    "run by the job, 256 replies at a time": Rate(256, 39),
    "API, 16 calls in flight": Rate(16, 10),
    "API, 64 calls in flight": Rate(64, 10),
    "API, 128 calls in flight": Rate(128, 10),
    "API, 256 calls in flight": Rate(256, 10),
}


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


def search_seconds(engine_rate: Rate, judge_rate: Rate) -> float:
    """Seconds until all latents have taken all steps."""
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


def _step_end(slots: Slots, now: float) -> float:
    """Time (s) at which the work on the responses of a step ends."""
    return max(slots.end(now) for _ in range(SAMPLES))


def row_of(name: str, judge: Rate) -> dict[str, Any]:
    """Row of a judge."""
    work = [rate.hours(LATENTS * STEPS * SAMPLES) for rate in (ENGINE, judge)]
    hours = search_seconds(ENGINE, judge) / 3600
    row = {"judge": name, "engine_hours": work[0], "judge_hours": work[1], "hours": hours}
    return row | {"over_longer": hours / max(work), "over_sum": hours / sum(work)}


def main() -> None:
    """Write the table."""
    table = pd.DataFrame([row_of(name, judge) for name, judge in JUDGES.items()])
    log.info("\n%s", table.to_string(index=False, float_format="%.2f"))
    table.to_csv(CSV, index=False, float_format="%.3g")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()

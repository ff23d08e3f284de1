"""Benchmark of live judging against the fake API of the tests; makes judges.csv.

    PYTHONPATH=tests uv run python benchmarks/judges.py

The API runs in a process of its own, takes `latency` to answer, fails a share `faults` of the calls
and refuses those beyond `limit` a second. A judgment is the whole of it: call through the real SDK,
journal on disk, parsing, locating. Columns: `kind` of judge, `latency` (s), `faults` (share),
`limit` (calls a second; empty: none), `least` and `most` calls in flight (`concurrency`; equal: a
fixed number), `judgments`, `seconds`, `per_second`, `cpu_ms` (CPU time of this process per
judgment), `refused` (share of calls that met the limit), and `used` (calls taken, as a share of
what the limit allows from the first to the last one, the bucket of one second included).
"""

import logging
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pandas as pd

from esr.config import AnthropicJudgeConfig, LlmConfig, OpenAiJudgeConfig
from esr.judges import open_judge
from esr.judges.base import JudgeInput
from helpers.fake_api import CLAUDE, QWEN, FakeApi

log = logging.getLogger(__name__)

CSV = Path(__file__).with_suffix(".csv")
WORDS = "first of all you take the flour and mix it with water until it holds together well "
LATENCY = 0.5
RUNS: list[tuple[float, float | None, int, int, int]] = [  # faults, limit, least, most, judgments
    (0.0, None, 1, 1, 40),
    (0.0, None, 50, 50, 2000),
    (0.2, None, 50, 50, 2000),
    (0.0, None, 1, 200, 6000),
    (0.0, 20.0, 1, 200, 1200),
]


def serve(pipe: Connection, options: dict[str, Any]) -> None:
    """Run the fake API until it is stopped; sends its address, refusals, and seconds of work."""
    with FakeApi(**options) as api:
        pipe.send(api.url)
        pipe.recv()
        pipe.send((api.injected["limit"], api.accepted[-1] - api.accepted[1]))


@contextmanager
def served(facts: list[tuple[int, float]], **options: Any) -> Iterator[str]:
    """Address of a fake API in a process of its own.

    Appends how many calls it refused, and the seconds from the first call that it took (but for one
    to warm up) to the last one.
    """
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=serve, args=(theirs, options))
    process.start()
    try:
        yield ours.recv()
    finally:
        ours.send("stop")
        facts.append(ours.recv())
        process.join()


def judge_of(kind: str, url: str, least: int, most: int) -> LlmConfig:
    """Settings of a judge at an address."""
    bounds = {"min": least, "max": most}
    common = {"key_variable": "BENCHMARK_KEY", "concurrency": bounds, "retries": 12}
    if kind == "anthropic":
        facts = {"kind": kind, "model": CLAUDE, "base_url": url}
        return AnthropicJudgeConfig.model_validate(common | facts)
    facts = {"kind": kind, "model": QWEN, "base_url": f"{url}/v1"}
    return OpenAiJudgeConfig.model_validate(common | facts)


def inputs(number: int) -> list[JudgeInput]:
    """Responses of about 512 tokens with one restart in them."""
    half = WORDS * 12
    return [
        JudgeInput(f"Explain {i}.", f"{half}. Wait, that's not right. {half} {i}.")
        for i in range(number)
    ]


def measure(
    kind: str, faults: float, limit: float | None, least: int, most: int, number: int
) -> dict[str, Any]:
    """Judge so many responses; one row of the table."""
    facts: list[tuple[int, float]] = []
    options = {"latency": LATENCY, "fault_rate": faults, "limit": limit}
    with served(facts, **options) as url, tempfile.TemporaryDirectory() as folder:
        judge = open_judge(judge_of(kind, url, least, most), Path(folder) / "replies.jsonl")
        judge.judge(inputs(1))  # imports, connections
        begun, cpu = time.perf_counter(), time.process_time()
        judgments = judge.judge(inputs(number + 1)[1:])
        seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    assert all(judgment.status == "ok" for judgment in judgments)
    refused, worked = facts[0]
    return {
        "kind": kind,
        "latency": LATENCY,
        "faults": faults,
        "limit": limit,
        "least": least,
        "most": most,
        "judgments": number,
        "seconds": round(seconds, 2),
        "per_second": round(number / seconds, 1),
        "cpu_ms": round(1000 * cpu / number, 2),
        "refused": round(refused / (number + refused), 4),
        "used": round(number / (limit * (worked + 1)), 3) if limit else None,
    }


def main() -> None:
    """Write the CSV."""
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    log.setLevel(logging.INFO)
    os.environ["BENCHMARK_KEY"] = "test-key"
    rows = []
    for kind in ("anthropic", "openai"):
        for run in RUNS:
            rows.append(measure(kind, *run))
            log.info("%s", rows[-1])
    pd.DataFrame(rows).to_csv(CSV, index=False)


if __name__ == "__main__":
    main()

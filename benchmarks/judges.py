"""Benchmark of live judging against the fake API of the tests; makes judges.csv.

    PYTHONPATH=tests uv run python benchmarks/judges.py

The API runs in a process of its own, takes `latency` to answer and fails a share `faults` of the
calls, as in the tests. A judgment is the whole of it: call through the real SDK, journal on disk,
parsing, locating. Columns: `kind` of judge, `latency` (s), `faults` (share), `concurrency`,
`judgments`, `seconds`, `per_second`, `speedup` over concurrency 1 (same kind, latency, no faults)
and `ceiling`, the judgments a second that latency and concurrency alone would allow.
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
RUNS = [  # faults, concurrency, judgments
    (0.0, 1, 40),
    (0.0, 10, 400),
    (0.0, 50, 2000),
    (0.2, 50, 2000),
]


def serve(pipe: Connection, options: dict[str, Any]) -> None:
    """Run the fake API until told to stop."""
    with FakeApi(**options) as api:
        pipe.send(api.url)
        pipe.recv()


@contextmanager
def served(**options: Any) -> Iterator[str]:
    """Address of a fake API in a process of its own."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=serve, args=(theirs, options))
    process.start()
    try:
        yield ours.recv()
    finally:
        ours.send("stop")
        process.join()


def judge_of(kind: str, url: str, concurrency: int) -> LlmConfig:
    """Settings of a judge at an address."""
    common = {"key_variable": "BENCHMARK_KEY", "concurrency": concurrency, "retries": 12}
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


def measure(kind: str, faults: float, concurrency: int, number: int) -> dict[str, Any]:
    """Judge so many responses; one row of the table."""
    with served(latency=LATENCY, fault_rate=faults) as url, tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "replies.jsonl"
        judge = open_judge(judge_of(kind, url, concurrency), journal)
        judge.judge(inputs(1))  # imports, connections
        begun = time.perf_counter()
        judgments = judge.judge(inputs(number + 1)[1:])
        seconds = time.perf_counter() - begun
    assert all(judgment.status == "ok" for judgment in judgments)
    return {
        "kind": kind,
        "latency": LATENCY,
        "faults": faults,
        "concurrency": concurrency,
        "judgments": number,
        "seconds": round(seconds, 2),
        "per_second": round(number / seconds, 1),
        "ceiling": concurrency / LATENCY,
    }


def main() -> None:
    """Write the CSV."""
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    log.setLevel(logging.INFO)
    os.environ["BENCHMARK_KEY"] = "test-key"
    rows = []
    for kind in ("anthropic", "openai"):
        for faults, concurrency, number in RUNS:
            rows.append(measure(kind, faults, concurrency, number))
            log.info("%s", rows[-1])
    table = pd.DataFrame(rows)
    alone = table[table["concurrency"].eq(1)].set_index("kind")["per_second"]
    table["speedup"] = (table["per_second"] / table["kind"].map(alone)).round(1)
    table.to_csv(CSV, index=False)


if __name__ == "__main__":
    main()

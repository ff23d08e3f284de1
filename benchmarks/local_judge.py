"""Benchmark of a judge of `kind: vllm` against plain vLLM. Makes local_judge.csv.

    PYTHONPATH=tests uv run python benchmarks/local_judge.py

A random model of 2 layers writes replies by a rubric's JSON Schema on the CPU. `judge` is the whole
of a judgment: chat template, host process, journal on disk, parsing. `plain` is offline batch
inference, `vllm.LLM.generate`, on the same prompts with the same schema and limits. The two take
turns for `--rounds` rounds, with new prompts each. A model so small makes the cost of everything
around it as large as it can be.

Columns: `mode`, `replies` (a round), `tokens` (written a round, median), `tokens_per_second`
and `tokens_per_cpu_second` (medians over rounds; the latter counts all processes, and other load on
the machine leaves it alone), `relative`, `lowest`, `highest` (ratio of the first of `judge` to that
of `plain` in a round: median, minimum, maximum), the same with `_cpu` for the second.
"""

import argparse
import json
import logging
import os
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from esr.config import VllmJudgeConfig
from esr.engines.vllm.launch import launcher, pinned_version
from esr.judges.base import JudgeInput
from esr.judges.encoding import CallEncoder, open_tokenizer
from esr.judges.llm import CachedLlm
from esr.judges.local import LocalModel
from esr.judges.rubric_judge import LlmJudge
from esr.judges.rubrics import read_rubric
from helpers.local_judge import judge_settings, local_model, tiny_judge

log = logging.getLogger(__name__)
CSV = Path(__file__).with_suffix(".csv")
ENVIRONMENT = Path("envs/serve-cpu")
VARIABLES = {"OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
SIZES = {"max_num_seqs": 32, "max_model_len": 512, "kv_cache_memory_bytes": 2**26}


class Measured(NamedTuple):
    """A round: tokens written, seconds, and CPU seconds of all processes."""

    tokens: int
    seconds: float
    cpu: float


class Watched:
    """Starts a host and reads the CPU seconds that it has used."""

    def __init__(self) -> None:
        self._launch = launcher(ENVIRONMENT, VARIABLES)
        self._pid = 0

    def __call__(self, theirs: socket.socket) -> "subprocess.Popen[bytes] | None":
        """Start it."""
        started = self._launch(theirs)
        assert started is not None
        self._pid = started.pid
        return started

    @property
    def cpu(self) -> float:
        """CPU seconds; 0 before the start (Linux)."""
        if not self._pid:
            return 0.0
        fields = (
            Path(f"/proc/{self._pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
        )
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Plain:
    """vLLM in the same environment, without our code."""

    def __init__(self, settings: VllmJudgeConfig) -> None:
        self._process = subprocess.Popen(
            [str(ENVIRONMENT / ".venv/bin/python"), "benchmarks/plain_vllm.py"],
            env=os.environ | VARIABLES,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        structured = {"backend": "xgrammar", "disable_any_whitespace": True}
        options = {"model": settings.source, "dtype": settings.dtype, "enforce_eager": True}
        options |= {"enable_prefix_caching": True, "structured_outputs_config": structured}
        self._send(options | SIZES)

    def round(self, task: dict[str, Any]) -> Measured:
        """Measure a round."""
        self._send(task)
        assert self._process.stdout is not None
        reply = json.loads(self._process.stdout.readline())
        return Measured(**reply)

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()


def inputs(number: int, replies: int) -> list[JudgeInput]:
    """What is judged in a round."""
    return [
        JudgeInput(f"Explain {number} times {i}.", f"Boats {i}. Wait, that's not right. Bread.")
        for i in range(replies)
    ]


def judge_round(
    model: LocalModel,
    host: Watched,
    settings: VllmJudgeConfig,
    shown: list[JudgeInput],
    journal: Path,
) -> Measured:
    """Measure a round of the judge."""
    begin, used = time.perf_counter(), time.process_time() + host.cpu
    judge = LlmJudge(read_rubric(settings.rubric), CachedLlm(settings, journal, local=model))
    judge.judge(shown)
    seconds = time.perf_counter() - begin
    cpu = time.process_time() + host.cpu - used
    records = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    bodies = [json.loads(record["raw"]) for record in records if "raw" in record]
    return Measured(sum(body["usage"]["completion_tokens"] for body in bodies), seconds, cpu)


def measure(folder: Path, rounds: int, replies: int) -> pd.DataFrame:
    """Run both in turn; the table."""
    settings = judge_settings(tiny_judge(folder / "judge"))
    rubric = read_rubric(settings.rubric)
    encode = CallEncoder(open_tokenizer(settings), settings.template)
    version = pinned_version(ENVIRONMENT)
    host = Watched()
    model = local_model(settings, host, ENVIRONMENT, version)
    plain = Plain(settings)
    found: dict[str, list[Measured]] = {"plain": [], "judge": []}
    for number in range(rounds + 1):  # round 0 warms up
        shown = inputs(number, replies)
        calls = [rubric.call(prompt=one.prompt, response=one.response) for one in shown]
        prompts = [encode(call) for call in calls]
        task = {"prompts": prompts, "new": settings.max_tokens, "schema": rubric.reply}
        journal = folder / f"{number}.jsonl"
        done = plain.round(task), judge_round(model, host, settings, shown, journal)
        log.info("round %d: plain %s, judge %s", number, *done)
        for name, one in zip(found, done, strict=True):
            found[name] += [one] if number else []
    model.close()
    plain.close()
    return tabulate(found, replies)


def tabulate(found: dict[str, list[Measured]], replies: int) -> pd.DataFrame:
    """The table of both modes."""
    speeds = {name: np.array([one.tokens / one.seconds for one in e]) for name, e in found.items()}
    used = {name: np.array([one.tokens / one.cpu for one in e]) for name, e in found.items()}
    rows: list[dict[str, Any]] = []
    for name, each in found.items():
        row = {"mode": name, "replies": replies}
        row["tokens"] = round(np.median([one.tokens for one in each]))
        row["tokens_per_second"] = round(np.median(speeds[name]))
        rows.append(row | {"tokens_per_cpu_second": round(np.median(used[name]))})
    for suffix, rates in (("", speeds), ("_cpu", used)):
        ratios = rates["judge"] / rates["plain"]
        facts = {"relative": np.median(ratios), "lowest": ratios.min(), "highest": ratios.max()}
        rows[-1] |= {f"{name}{suffix}": round(fact, 2) for name, fact in facts.items()}
    return pd.DataFrame(rows)


def main() -> None:
    """Measure, and write the table."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--replies", type=int, default=200)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table = measure(Path(folder), chosen.rounds, chosen.replies)
    log.info("%s", table.to_string(index=False))
    table.to_csv(CSV, index=False)


if __name__ == "__main__":
    main()

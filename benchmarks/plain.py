"""The client of `plain_vllm.py`: vLLM without our code, in a process of its own."""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class Plain:
    """vLLM in the same environment, without our code."""

    def __init__(
        self, environment: Path, variables: dict[str, str], settings: dict[str, Any]
    ) -> None:
        self._process = subprocess.Popen(
            [
                str(environment / ".venv/bin/python"),
                str(Path(__file__).with_name("plain_vllm.py")),
            ],
            env=os.environ | variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._send(settings)

    def round(self, prompts: Sequence[Sequence[int]], new: int) -> tuple[int, float]:
        """Generate. With one new token, count the prompt tokens instead."""
        self._send({"prompts": [list(prompt) for prompt in prompts], "new": new})
        assert self._process.stdout is not None
        reply = json.loads(self._process.stdout.readline())
        return reply["tokens"], reply["seconds"]

    def __enter__(self) -> "Plain":
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()  # ends the process, which frees the GPUs
        self._process.wait()

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()

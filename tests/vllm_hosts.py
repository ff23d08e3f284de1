"""vLLM engines for tests: vLLM is imported once, and every engine is a fork of that process."""

import os
import pickle
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from checkout import REPO

ENVIRONMENT = REPO / "envs/serve-cpu"
PYTHON = ENVIRONMENT / ".venv/bin/python"

Launcher = Callable[[socket.socket], None]


def sync() -> None:
    """Install the environment, as the rule does; a moment if it is there."""
    command = ["uv", "sync", "--quiet", "--project", str(ENVIRONMENT)]
    subprocess.run(command, check=True, timeout=900)


class Nursery:
    """The process that has imported vLLM."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control

    def launcher(self, **variables: str) -> Launcher:
        """Start a host as a fork, with environment variables of its own."""

        def launch(theirs: socket.socket) -> None:
            data = pickle.dumps(variables)
            socket.send_fds(self._control, [data], [theirs.fileno()])

        return launch


@contextmanager
def nursery(log: Path, threads: int = 2) -> Iterator[Nursery]:
    """Import vLLM in a process, from which hosts are then forked."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    variables: dict[str, Any] = {
        "PYTHONPATH": str(REPO / "src"),
        "OMP_NUM_THREADS": str(threads),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    }
    with theirs, log.open("w") as output:
        process = subprocess.Popen(
            [str(PYTHON), "-m", "esr.engines.vllm.host", "--nursery", str(theirs.fileno())],
            env=os.environ | variables,
            pass_fds=[theirs.fileno()],
            stdout=output,
            stderr=output,
        )
    try:
        yield Nursery(ours)
    finally:
        ours.close()
        process.wait(timeout=60)

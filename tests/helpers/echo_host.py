"""An engine process without an engine, for tests of what stays: it repeats what it receives.

The setup has `touched`, a file that changes while the host loads, or None. Jobs are pairs of a name
and a text: `echo`, `sleep` (never done) or `fail`.
"""

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from esr.engines.hosts.linger import Stay
from esr.engines.hosts.serving import serve
from esr.engines.vllm.messages import Written
from esr.orphans import find_process


class EchoHost:
    """Repeats the texts of its jobs, with the number of clients that it has rested after."""

    def __init__(self, setup: Any) -> None:
        if setup.touched is not None:
            Path(setup.touched).write_text("changed")
        self.jobs: dict[str, str] = {}
        self.rests = 0

    def facts(self) -> dict[str, Any]:
        return {"pid": os.getpid(), "rests": self.rests}

    def submit(self, job: Any) -> None:
        name, text = job
        self.jobs[name] = text

    def step(self) -> list[Written]:
        name, text = next(iter(self.jobs.items()))
        if name == "sleep":
            time.sleep(60)
        if name == "fail":
            raise ValueError(f"no {text}")
        del self.jobs[name]
        return [Written(name, text, "stop", 1)]

    def rest(self) -> None:
        self.rests += 1


def fork_host(theirs: socket.socket) -> None:
    """Start a host as a fork of this process, which holds its socket and no other open file."""
    if os.fork():
        return
    os.setsid()
    os.dup2(theirs.fileno(), 3)
    os.closerange(4, 1024)
    serve(3, EchoHost, "1")


@contextmanager
def a_run(*devices: str) -> Iterator[Stay]:
    """A process in place of Snakemake, and how hosts stay for it; the folder has a blank."""
    snakemake = subprocess.Popen(["sleep", "600"])
    found = find_process(snakemake.pid)
    assert found is not None
    with tempfile.TemporaryDirectory(prefix="a run ", dir="/tmp") as folder:
        yield Stay(Path(folder) / "hosts", found, 60.0, "0" * 16, devices, ())
        snakemake.kill()
        snakemake.wait()

"""The workflow in a folder of its own, and how to run it there."""

import importlib.util
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import ModuleType

REPO = Path(__file__).parents[2]
COPIED = [
    "Snakefile",
    "config.yaml",
    "docs",
    "envs",
    "profiles",
    "rules",
    "scripts",
    "slurm",
    "studies",
]
LINKED = ["CITATION.cff", "LICENSE", "pyproject.toml", "requirements.lock", "resources"]


def link_checkout(folder: Path) -> Path:
    """Lay out the workflow in a folder of its own; what a run writes stays in it."""
    folder.mkdir(exist_ok=True)
    installed = shutil.ignore_patterns(".venv", "uv.lock")  # environments are synced from scratch
    for name in COPIED:
        if (REPO / name).is_dir():
            shutil.copytree(REPO / name, folder / name, ignore=installed)
        else:
            shutil.copy(REPO / name, folder / name)
    for name in LINKED:
        (folder / name).symlink_to(REPO / name)
    return folder


def snakemake_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "snakemake", *arguments]


def run_snakemake(
    folder: Path,
    *arguments: str,
    timeout: float = 1200,
) -> "subprocess.CompletedProcess[str]":
    """Run Snakemake in a folder; output and errors come back as one text."""
    variables = dict(os.environ) | {"COLUMNS": "200"}
    if ADDRESS in os.environ:
        return _run_forked(folder, arguments, variables, timeout)
    return subprocess.run(
        snakemake_command(*arguments),
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=timeout,
        env=variables,
        check=False,
    )


def _run_forked(
    folder: Path, arguments: tuple[str, ...], variables: dict[str, str], timeout: float
) -> "subprocess.CompletedProcess[str]":
    """The same in a fork of a process that has Snakemake loaded."""
    request = {"folder": str(folder.absolute()), "arguments": arguments, "variables": variables}
    results, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with tempfile.TemporaryFile("w+") as output, results, theirs:
        files = [output.fileno(), theirs.fileno()]
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
            server.connect(os.environ[ADDRESS])
            socket.send_fds(server, [json.dumps(request).encode()], files)
        theirs.close()
        results.settimeout(timeout)
        pid = _received(results)
        try:
            code = _received(results)
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired(list(arguments), timeout) from None
        output.seek(0)
        return subprocess.CompletedProcess(list(arguments), code, output.read())


def _received(results: socket.socket) -> int:
    data = results.recv(4)
    if not data:
        raise RuntimeError("the server of Snakemake's runs has ended; its error is above")
    return int.from_bytes(data, sys.byteorder)


ADDRESS = "SNAKEMAKE_OF_THE_TESTS"
"""Environment variable with the path of the socket at which a `SnakemakeServer` listens."""


class SnakemakeServer:
    """Runs of all processes of pytest fork from one `helpers.snakemake`.

    It starts with the first run, and ends with the process of pytest that made this.
    """

    PROGRAM = Path(__file__).with_name("snakemake") / "__main__.py"

    def __init__(self) -> None:
        """Listen at an address that this process and those that it starts find in `ADDRESS`."""
        self._folder = tempfile.TemporaryDirectory(prefix="esr-tests-")  # of this user alone
        os.environ[ADDRESS] = f"{self._folder.name}/runs"
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(os.environ[ADDRESS])
        self._listener.listen()
        self._theirs, self._ends_with_us = os.pipe()
        threading.Thread(target=self._start, daemon=True).start()

    def _start(self) -> None:
        select.select([self._listener], [], [])
        files = [self._listener.fileno(), self._theirs]
        with self._listener:  # closed here, so that nobody waits for a server that has failed
            subprocess.Popen([sys.executable, self.PROGRAM, *map(str, files)], pass_fds=files)


def load_script(name: str) -> ModuleType:
    """A script of the workflow as a module, for its pure functions."""
    (path,) = (REPO / "scripts").glob(f"*/{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

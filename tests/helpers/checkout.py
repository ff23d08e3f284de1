"""The workflow in a folder of its own, and how to run it there."""

import importlib.util
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from functools import cache
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
    if sys.platform == "linux":
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
        socket.send_fds(_snakemake_server(), [json.dumps(request).encode()], files)
        theirs.close()
        (pid,) = struct.unpack("i", results.recv(4))
        results.settimeout(timeout)
        try:
            (code,) = struct.unpack("i", results.recv(4))
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired(list(arguments), timeout) from None
        output.seek(0)
        return subprocess.CompletedProcess(list(arguments), code, output.read())


@cache
def _snakemake_server() -> socket.socket:
    """Control socket of `helpers.snakemake`, which starts with the first run and ends with us."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    program = Path(__file__).with_name("snakemake") / "__main__.py"
    with theirs:
        command = [sys.executable, str(program), str(theirs.fileno())]
        subprocess.Popen(command, pass_fds=[theirs.fileno()])
    return ours


def load_script(name: str) -> ModuleType:
    """A script of the workflow as a module, for its pure functions."""
    (path,) = (REPO / "scripts").glob(f"*/{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

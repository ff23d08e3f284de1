"""A process that has Snakemake loaded, and forks a run of it for each request.

Starting Python and loading Snakemake takes a CPU second, and the tests start it a hundred times. A
request is a folder, arguments and environment variables, with two files: where the run writes, and
a socket for its process id and its exit code. The name of this folder is that by which a job finds
its Snakemake (`esr.orphans`).

    python tests/helpers/snakemake/__main__.py <file descriptor of a control socket>
"""

import gc
import json
import os
import runpy
import signal
import socket
import struct
import sys
import tempfile
from pathlib import Path
from typing import Any

import snakemake.cli
import snakemake.report  # noqa: F401
from snakemake.workflow import Workflow

import esr.assets.downloads
import esr.figures.catalogue
import esr.planning.files
import esr.planning.jobs  # noqa: F401

LARGEST = 1 << 20
"""Bytes of a request: arguments and all environment variables."""


def main() -> None:
    """Fork until the control socket closes; in a fork, be Snakemake."""
    control = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps the forks
    gc.freeze()  # a collection in a fork would copy all pages of the libraries
    while True:
        data, files, _, _ = socket.recv_fds(control, LARGEST, 2)
        if not data:
            return
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            control.close()
            supervise(json.loads(data), *files)
            return
        for file in files:
            os.close(file)


def supervise(request: dict[str, Any], output: int, results: int) -> None:
    """Fork once more: the second process is Snakemake, the first one reports how it ended."""
    pid = os.fork()
    if pid == 0:
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(output)
        os.close(results)
        be_snakemake(**request)
        return
    os.close(output)
    with socket.socket(fileno=results) as client:
        client.send(struct.pack("i", pid))
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        client.send(struct.pack("i", code))
    os._exit(0)


def be_snakemake(folder: str, arguments: list[str], variables: dict[str, str]) -> None:
    """What `python -m snakemake` does in a folder."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    tempfile.tempdir = None
    Workflow._rundir = str(Path.cwd())  # Snakemake sets it as it is loaded
    sys.path[0] = str(Path.cwd())
    sys.argv = ["snakemake", *arguments]
    runpy.run_module("snakemake", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

"""A process that has the libraries of jobs loaded, and forks a server of `esr.forks` for each run.

Without it, every run would load them once more for its jobs: 12 CPU seconds with an engine.

    python tests/helpers/snakemake/libraries.py LISTENER PIPE

LISTENER is the file descriptor of a listening socket, PIPE that of a pipe whose other end closes
when no run can come any more.
"""

import gc
import json
import os
import re
import select
import signal
import socket
import struct
import sys
from importlib import import_module, reload
from typing import Any

from esr import forks

LARGEST = 1 << 20
"""Bytes of a request: a line of Python and all environment variables."""


def main() -> None:
    """Load the libraries; fork for each request."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps the forks
    for name in [*forks.LIBRARIES, *forks.ENGINE, forks.READY]:
        import_module(name)
    gc.freeze()
    listener, pipe = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
    while pipe not in select.select([listener, pipe], [], [])[0]:
        client, _ = listener.accept()
        with client:
            data, files = receive(client)
            pid = os.fork()
            if pid == 0:
                listener.close()
                client.close()
                serve(json.loads(data), *files)
                return
            client.send(struct.pack("i", pid))
        for file in files:
            os.close(file)


def receive(client: socket.socket) -> tuple[bytes, list[int]]:
    """A whole request, and the files that come with it."""
    data, files, _, _ = socket.recv_fds(client, LARGEST, 4)
    while more := client.recv(LARGEST):
        data += more
    return data, list(files)


def serve(request: dict[str, Any], listener: int, alive: int, output: int, errors: int) -> None:
    """Be the server of a run: what `python -c` would do with the line of `multiprocessing`."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(output, 1)
    os.dup2(errors, 2)
    os.close(output)
    os.close(errors)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["variables"])
    reload(import_module("esr.forks_environment"))
    exec(re.sub(r"main\(\d+, \d+", f"main({listener}, {alive}", request["line"]), {})


if __name__ == "__main__":
    main()

"""How a host is started: a command with a socket, and this checkout of esr to import."""

import os
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

import esr
from esr.engines.hosts.linger import Launch


def host_launcher(command: Sequence[str], variables: dict[str, str]) -> Launch:
    """Return a function that starts a command with the number of a socket as last argument.

    PYTHONPATH lets the host import this checkout of esr.
    """
    source = Path(esr.__file__).parents[1]
    here = Path.cwd()  # paths are relative to it, and the host starts with the first request

    def launch(theirs: socket.socket) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [*command, str(theirs.fileno())],
            env=os.environ | variables | {"PYTHONPATH": str(source)},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            cwd=here,
            # One that stays is not interrupted with the job that started it.
            start_new_session=bool(theirs.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)),
        )

    return launch

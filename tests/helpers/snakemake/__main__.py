"""A process that has Snakemake loaded, and forks a run of it for each request.

Starting Python and loading Snakemake takes a CPU second, to parse all rules half a second, and the
tests start it a hundred times. A request is a folder, arguments and environment variables, with two
files: where the run writes, and a socket for its process id and its exit code. The name of this
folder is that by which a job finds its Snakemake (`esr.orphans`). The first run that has jobs
starts a process for the libraries of all jobs (`libraries.py`), unless its variables change how
Python starts.

    python tests/helpers/snakemake/__main__.py LISTENER PIPE

LISTENER is the file descriptor of a listening socket, PIPE that of a pipe whose other end closes
when no run can come any more.
"""

import gc
import json
import os
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from io import StringIO
from multiprocessing import forkserver, util
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, NoReturn

import smart_open  # noqa: F401
import snakemake.cli
import snakemake.report
import snakemake.workflow
from snakemake.executors import touch
from snakemake.parser import parse
from snakemake.sourcecache import LocalSourceFile
from snakemake.workflow import Workflow

import esr.assets.downloads
import esr.figures.catalogue
import esr.planning.files
import esr.planning.jobs  # noqa: F401
from esr import forks
from esr.huge_pages import use_huge_pages

LARGEST = 1 << 18
"""Bytes of a request: arguments and all environment variables. Linux sends no longer message."""
REPO = Path(__file__).parents[3]


class Parsed(NamedTuple):
    """What Snakemake's parser makes of a file: Python, its lines in the file, number of rules."""

    path: str
    code: str
    lines: dict[int, int]
    rules: int


PARSED: dict[str, Parsed] = {}
"""The files of rules, by their text, which runs find in folders of their own."""


def main() -> None:
    """Fork until the pipe closes; in a fork, be Snakemake."""
    listener, pipe = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps the forks
    snakemake.cli.get_argument_parser()  # finds all plugins
    touch.Executor.SLEEPING_TIME = 0.01  # seconds between files; by itself it has 0.1
    parse_rules()
    gc.freeze()  # a collection in a fork would copy all pages of the libraries
    use_huge_pages()
    libraries = socket.socket(socket.AF_UNIX)
    libraries.bind(f"{listener.getsockname()}.libraries")
    libraries.listen()
    waiting = [pipe, listener, libraries]
    while True:
        ready, _, _ = select.select(waiting, [], [])
        if pipe in ready:
            return
        if libraries in ready:
            serve_libraries(libraries)
            waiting.remove(libraries)
        if listener in ready:
            fork_run(listener, libraries.getsockname())


def parse_rules() -> None:
    """Parse all files of rules. Runs in forks use that wherever they find the same text."""
    for path in (REPO / "Snakefile", *sorted((REPO / "rules").glob("*.smk"))):
        text = path.read_text(encoding="utf-8")
        opened = SimpleNamespace(open=lambda _, text=text: StringIO(text))
        lines: dict[int, int] = {}
        code, rules = parse(LocalSourceFile(str(path)), SimpleNamespace(sourcecache=opened), lines)
        PARSED[text] = Parsed(str(path), code, lines, rules)
    library: Any = snakemake.workflow
    library.parse = parse_unless_known


def parse_unless_known(
    path: Any, workflow: Any, linemap: dict[int, int], *, rulecount: int
) -> tuple[str, int]:
    """As Snakemake's parser, whose Python names the file of each rule.

    Only the functions of rules without a name have other numbers.
    """
    with workflow.sourcecache.open(path) as file:
        known = PARSED.get(file.read())
    if known is None:
        return parse(path, workflow, linemap, rulecount=rulecount)
    linemap.update(known.lines)
    code = known.code.replace(repr(known.path), repr(path.get_path_or_uri(secret_free=True)))
    return code, rulecount + known.rules


def serve_libraries(listener: socket.socket) -> None:
    """Start the process that has the libraries; the first run waits for it."""
    program = Path(__file__).with_name("libraries.py")
    ends_with_us, _ = os.pipe()  # the other end stays open, here and in all runs
    files = [listener.fileno(), ends_with_us]
    subprocess.Popen([sys.executable, str(program), *map(str, files)], pass_fds=files)
    os.close(ends_with_us)


def fork_run(listener: socket.socket, address: str) -> None:
    """Fork for the next request."""
    client, _ = listener.accept()
    with client:
        data, files, _, _ = socket.recv_fds(client, LARGEST, 2)
        if data and os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            client.close()
            supervise(json.loads(data), address, *files)
    for file in files:
        os.close(file)


def supervise(request: dict[str, Any], address: str, output: int, results: int) -> NoReturn:
    """Fork once more: the second process is Snakemake, the first one reports how it ended."""
    pid = os.fork()
    if pid == 0:
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(output)
        os.close(results)
        be_snakemake(**request, address=address)
    os.close(output)
    with socket.socket(fileno=results) as client:
        client.send(struct.pack("i", pid))
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        client.send(struct.pack("i", code))
    os._exit(0)


def be_snakemake(
    folder: str, arguments: list[str], variables: dict[str, str], address: str
) -> NoReturn:
    """What `python -m snakemake` does in a folder."""
    if of_python(variables) == of_python(os.environ):
        fork_jobs(address)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    tempfile.tempdir = None
    Workflow._rundir = str(Path.cwd())  # Snakemake sets it as it is loaded
    sys.path[0] = str(Path.cwd())
    sys.argv = ["snakemake", *arguments]
    runpy.run_module("snakemake", run_name="__main__", alter_sys=True)
    sys.exit()


def fork_jobs(address: str) -> None:
    """Have the jobs of this Snakemake, however few, run in forks of the process that listens."""

    def spawn(path: bytes, arguments: list[str], files: list[int]) -> int:
        if "multiprocessing.forkserver" not in arguments[-1]:
            return spawned(path, arguments, files)
        request = {"line": arguments[-1], "folder": str(Path.cwd()), "variables": dict(os.environ)}
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(address)
            socket.send_fds(client, [json.dumps(request).encode()], [*files, 1, 2])
            client.shutdown(socket.SHUT_WR)
            (pid,) = struct.unpack("i", client.recv(4))
        return int(pid)

    def ensure_running() -> None:
        with suppress(ChildProcessError):  # it is no child of ours, so it cannot be waited for
            ensured()

    multiprocessing: Any = util
    spawned, multiprocessing.spawnv_passfds = multiprocessing.spawnv_passfds, spawn
    server: Any = forkserver._forkserver
    ensured, server.ensure_running = server.ensure_running, ensure_running
    patched: Any = forks
    patched.FEWEST = 1


def of_python(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables that Python reads as it starts, which a fork would not."""
    prefixes = ("PYTHON", "LC_", "LANG", "LD_")
    return {name: value for name, value in variables.items() if name.startswith(prefixes)}


if __name__ == "__main__":
    main()

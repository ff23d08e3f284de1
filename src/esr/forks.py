"""Python scripts of a local run, in forks of one process that has the libraries loaded.

Starting Python and loading PyTorch, pandas and pydantic takes one to five seconds a job, and most
jobs then work for tenths of one. The fork server of Python's `multiprocessing` loads them once. It
has one thread, and ends when the run and the jobs that it started have ended. If it is killed, the
jobs go on, and the next one starts another server.

Snakemake has no setting for the process that runs a script. `install` replaces the one method of
it that starts this process, in the version of Snakemake that the project pins.
"""

import atexit
import contextlib
import gc
import logging
import os
import resource
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

log = logging.getLogger(__name__)

LIBRARIES = [
    "esr.forks_environment",
    "snakemake.cli",
    "snakemake.script",
    "pandas",
    "pyarrow.parquet",
    "pyarrow.dataset",
    "pyarrow.pandas_compat",
    "jaxtyping",
    "scipy.stats",
    "scipy.optimize",
    "statsmodels.genmod.generalized_linear_model",
    "matplotlib.pyplot",
    "matplotlib.backends.backend_pdf",
    "fontTools.subset",
    "pandas.io.formats.style",
    "jinja2",
    "yaml",
    "esr.job",
    "esr.tables",
    "esr.arms.scores",
    "esr.analysis.statistics",
    "esr.judges.base",
    "esr.figures.style",
]
"""What the server loads for every run."""
ENGINE = [
    "torch",
    "transformers.generation",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.llama.modeling_llama",
    "esr.engines.transformers",
    "esr.engines.journaled",
    "esr.arms.chat",
]
"""What it loads as well for a run with jobs of an engine."""
TOKENS = ["torch", "transformers.models.auto.tokenization_auto", "esr.judges.local"]
JUDGES = {
    "vllm": TOKENS,
    "anthropic": ["esr.judges.anthropic_client", "esr.judges.batches", "esr.judges.live"],
    "openai": ["esr.judges.openai_client", "esr.judges.live"],
}
"""What it loads as well for a run with jobs that call a judge, by the judge's kind."""
READY = "esr.forks_ready"
"""What it loads last."""
FEWEST = 12
"""Jobs from which on loading all libraries once costs less than loading some for each."""

KILLED = 137
"""Exit code of a script whose process was killed, as a shell has it for SIGKILL."""


SAMPLED = 10.0
"""Seconds between the first samples that Snakemake takes of a job that is no fork.

Each reads all pages of the job, and the status of all processes.
"""


class Ended(NamedTuple):
    """How a script ended: exit code, CPU seconds and peak memory (MiB).

    CPU seconds of its process and its children, memory of the largest of them: before a child runs
    a program, the memory of its parent counts as its own, too.
    """

    code: int
    cpu_seconds: float = 0.0
    memory: float = 0.0


def install(n_jobs: int, *, engine: bool, judges: Iterable[str] = ()) -> bool:
    """Run the Python scripts of this Snakemake process in forks, if that is possible and worth it.

    Args:
        n_jobs: Jobs that this process is going to run.
        engine: Whether some of them generate or encode.
        judges: Kinds of the language models that some of them call as judges.

    Returns:
        Whether it does.
    """
    if sys.platform != "linux" or n_jobs < FEWEST:  # forks of macOS's libraries are not safe
        return False
    from snakemake import benchmark
    from snakemake.script import PythonScript

    benchmark.BENCHMARK_INTERVAL_SHORT = SAMPLED
    own_process = PythonScript.execute_script

    def execute_script(self: Any, path: str, edit: bool = False) -> None:
        if _can_fork(self):
            if _run_forked(self, path):
                return
            log.warning("no server to fork from; scripts run in processes of their own")
            PythonScript.execute_script = own_process
        own_process(self, path, edit)

    libraries = [*LIBRARIES, *(ENGINE if engine else [])]
    for kind in judges:
        libraries += JUDGES[kind]
    get_context("forkserver").set_forkserver_preload([*libraries, READY])
    PythonScript.execute_script = execute_script
    return True


def _can_fork(script: Any) -> bool:
    """Whether a job of Snakemake can run in a fork.

    A job with several threads cannot: libraries size their pools when they are loaded. A job with a
    GPU need not: CUDA is safe in a process of its own, and its start is a small part of the job.
    """
    elsewhere = (script.conda_env, script.container_img, script.env_modules, script.shadow_dir)
    return script.threads == 1 and not script.resources.get("gpu", 0) and not any(elsewhere)


def _run_forked(script: Any, path: str) -> bool:
    """Run the script of a job in a fork, and record what it took; False: no fork began.

    Raises:
        CalledProcessError: the script failed, or its process was killed.
    """
    folder = script.resources.get("tmpdir")
    variables = {} if folder is None else dict.fromkeys(("TMPDIR", "TMP", "TEMP"), str(folder))
    fork = start_fork(path, variables)
    if fork is None:
        return False
    begin = time.monotonic()
    ended = result_of(*fork)
    record = script.bench_record
    if record is not None:  # exact, where Snakemake samples; the other columns have a dash
        record.data_collected = True
        record.running_time = time.monotonic() - begin
        record.cpu_time = ended.cpu_seconds
        record.cpu_usage = 100 * ended.cpu_seconds  # the mean load is a percentage
        record.max_rss = ended.memory
    if ended.code:
        raise subprocess.CalledProcessError(ended.code, [sys.executable, path])
    return True


def start_fork(path: str, variables: Mapping[str, str]) -> tuple[Any, Connection] | None:
    """Start a script in a fork of the server, which starts with the first one.

    Args:
        path: The script.
        variables: Environment variables to set for it.

    Returns:
        The process, and the connection that its result comes from; None if the server cannot fork.
    """
    context = get_context("forkserver")
    results, sender = context.Pipe()
    process = context.Process(target=_run_script, args=(path, dict(variables), sender))
    try:
        process.start()
    except (OSError, EOFError):  # killed between accepting and forking, no memory, no sockets
        results.close()
        return None
    finally:
        sender.close()
    return process, results


def result_of(process: Any, results: Connection) -> Ended:
    """Wait for a script to end. One whose process was killed has the code 137 and no CPU time.

    The exit code that `multiprocessing` reads from a pipe is not used: two threads that look at the
    same time can lose it.
    """
    with results:
        try:
            ended = Ended(*results.recv())
        except (EOFError, OSError):
            ended = Ended(KILLED)
    process.join()
    return ended


def _run_script(path: str, variables: Mapping[str, str], results: Connection) -> None:
    """Run a script as the program of this process, and report how it ended."""
    gc.enable()  # the server loads its libraries without
    os.environ.update(variables)
    tempfile.tempdir = None
    sys.argv = [path]
    code = _code_of(path)
    atexit._run_exitfuncs()  # a fork ends without them
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    with contextlib.suppress(OSError, EOFError):  # the other end closes, or is killed
        seconds = sum(each.ru_utime + each.ru_stime for each in used)
        results.send((code, seconds, max(each.ru_maxrss for each in used) / 1024))
    sys.exit(code)


def _code_of(path: str) -> int:
    """Exit code of a script that runs here; an error reaches the hook that the script sets."""
    try:
        runpy.run_path(path, run_name="__main__")
    except SystemExit as exit_:
        if isinstance(exit_.code, str):
            sys.stderr.write(f"{exit_.code}\n")
        return exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        return 1
    return 0

"""Snakemake whose Python scripts run in forks of one process that has the libraries loaded.

A job of the workflow loads PyTorch, pandas and matplotlib for seconds and then works for tenths of
one. Run as a program, `python tests/helpers/forked.py ...` takes Snakemake's own arguments and does
what `snakemake ...` does, rule by rule and file by file, but for this loading.
"""

import sys

sys.path.pop(0)  # this folder has a tokenizers.py

import importlib
import os
import runpy
import time
from typing import Any

import snakemake.script
from snakemake.cli import main
from snakemake.exceptions import WorkflowError

LOADED = [
    "torch",
    "transformers.models.llama.modeling_llama",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.auto.modeling_auto",
    "matplotlib.pyplot",
    "pandas",
    "scipy.stats",
    "statsmodels.api",
    "jinja2",
    "markdown_it",
    "esr.job",
    "esr.config",
    "esr.tables",
    "esr.engines",
    "esr.engines.transformers",
    "esr.judges",
    "esr.figures.style",
]


def _run_script(self: Any, path: str, edit: bool = False) -> None:
    """Run a script in a fork; as in a process of its own, an error ends that one alone."""
    begun = time.monotonic()
    child = os.fork()
    if not child:
        os._exit(_code_of(path))
    _, status, used = os.wait4(child, 0)
    if self.bench_record is not None:
        self.bench_record.running_time = time.monotonic() - begun
        self.bench_record.cpu_time = used.ru_utime + used.ru_stime
    if status:
        raise WorkflowError(f"{path} ended with {os.waitstatus_to_exitcode(status)}")


def _code_of(path: str) -> int:
    """Exit code of a script run here."""
    sys.argv = [path]
    try:
        runpy.run_path(path, run_name="__main__")
        code = 0
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else 1
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return code


if __name__ == "__main__":
    for name in LOADED:
        importlib.import_module(name)
    snakemake.script.PythonScript.execute_script = _run_script
    main(sys.argv[1:])

"""Environment of all tests: to be imported before what reads it."""

import os
import sys

# Where it is set (as in many containers), every process compiles the libraries that it loads again:
# five seconds of a core for PyTorch and transformers, and there are hundreds of jobs.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# As in the forks of jobs: one thread a library, since the study runs beside the tests and threads
# that spin on the same cores make PyTorch many times slower; and memory that is kept when freed.
import esr.forks_environment  # noqa: E402, F401

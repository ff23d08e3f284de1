"""Variables of the environment for all tests: to be imported before what reads them."""

import os
import sys

# Where it is set (as in many containers), every process compiles the libraries that it loads again:
# five seconds of a core for PyTorch and transformers, and there are hundreds of jobs.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# The study runs beside the tests. Threads of several processes that spin on the same cores
# make PyTorch many times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

"""Environment of the server of `esr.forks`, which imports this module before all libraries."""

import ctypes
import gc
import os

gc.disable()  # imports leave no garbage, and to look for it took three CPU seconds; forks enable it

ONE_THREAD = ["OMP", "GOTO", "OPENBLAS", "MKL", "VECLIB", "NUMEXPR"]
"""Libraries that read the size of their thread pools from `<name>_NUM_THREADS` as they load."""

os.environ.update({f"{name}_NUM_THREADS": "1" for name in ONE_THREAD})
# Otherwise a library that looks for GPUs as it loads makes CUDA unusable in every fork.
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")

MALLOPT = {-1: 2**30, -3: 2**25}
"""M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc (bytes; the most that all its versions take).

`malloc` then keeps what is freed. Otherwise tensors get fresh pages from the kernel again and
again, which clears each: a fifth of the CPU time of the jobs that encode.
"""

mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other libraries of C lack it
if mallopt is not None:
    for parameter, value in MALLOPT.items():
        mallopt(parameter, value)

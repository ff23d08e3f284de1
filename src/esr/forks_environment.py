"""Environment of the server of `esr.forks`, which imports this module before all libraries."""

import os

ONE_THREAD = ["OMP", "GOTO", "OPENBLAS", "MKL", "VECLIB", "NUMEXPR"]
"""Libraries that read the size of their thread pools from `<name>_NUM_THREADS` as they load."""

os.environ.update({f"{name}_NUM_THREADS": "1" for name in ONE_THREAD})
# Otherwise a library that looks for GPUs as it loads makes CUDA unusable in every fork.
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")

"""A host with vLLM's model runner V2 on the CPU: Triton's interpreter runs its kernels.

It warms up as on a GPU, with requests that vLLM makes up. Run with TRITON_INTERPRET=1 as

    python -m helpers.vllm_interpreted <file descriptor>
"""

import functools
import gc
import inspect
import sys
import types
from typing import Any
from unittest import mock

gc.disable()  # until the host is imported, which enables it

import numpy as np  # noqa: E402
import triton.language as tl  # noqa: E402
from triton.backends import backends  # noqa: E402
from triton.runtime import interpreter  # noqa: E402

# vLLM imports its kernels only if Triton has an active driver.
backends["cpu"] = types.SimpleNamespace(driver=types.SimpleNamespace(is_active=lambda: True))

import vllm  # noqa: E402
from vllm import SamplingParams  # noqa: E402
from vllm.v1.worker.cpu_worker import CPUWorker  # noqa: E402
from vllm.v1.worker.gpu import warmup  # noqa: E402

from esr.engines.hosts.serving import serve  # noqa: E402
from helpers.vllm_fork_server import load_host  # noqa: E402

warm_up_on_cpu = CPUWorker.compile_or_warm_up_model
warmup_sampling = SamplingParams.for_sampler_warmup


def interpretable() -> Any:
    """Sampling settings of the warm-up, without top-k and top-p: Triton cannot interpret these."""
    sampling = warmup_sampling()
    sampling.top_k = 0
    sampling.top_p = 1.0
    return sampling


@functools.cache
def builtins(part: Any) -> list[tuple[str, Any]]:
    return [pair for pair in inspect.getmembers(part) if tl.core.is_builtin(pair[1])]


def patch_builtins(part: Any, builder: Any, scope: Any) -> None:
    """As the interpreter does before it runs a kernel, which looks for them again each time."""
    for name, member in builtins(part):
        if getattr(part, name) is member:  # else the kernel that called this one has replaced it
            interpreter._patch_attr(part, name, member, builder, scope)


numpy_type = functools.cache(interpreter._get_np_dtype)


def numpy_type_of(kind: Any) -> Any:
    """As the interpreter has it, which makes its table of types each time."""
    element = kind.element_ty if isinstance(kind, tl.block_type) else kind
    return np.dtype(np.uint64) if isinstance(element, tl.pointer_type) else numpy_type(element)


def warm_up_as_on_gpu(worker: Any) -> Any:
    runs = (worker.model_runner, worker.execute_model, worker.sample_tokens)
    assert warmup.run_mixed_prefill_decode_warmup(*runs, num_tokens=8)
    with mock.patch.object(worker.scheduler_config, "max_num_seqs", 2):  # more takes minutes
        warmup.warmup_kernels(*runs)
    return warm_up_on_cpu(worker)


if __name__ == "__main__":
    interpreter._patch_builtin = patch_builtins
    interpreter._get_np_dtype = numpy_type_of
    SamplingParams.for_sampler_warmup = staticmethod(interpretable)
    CPUWorker.compile_or_warm_up_model = warm_up_as_on_gpu
    serve(int(sys.argv[1]), load_host, vllm.__version__)

"""What every host of vLLM loads after `import vllm`, once for all hosts that are forked.

Without this each host spends five seconds of a core on parts of vLLM that it imports late, on the
kernels that vLLM replaces on a CPU, and on the compilation of one function of vLLM's sampler; on a
new machine the first host of each class of model spends 13 more to look at the class.
"""

import gc
import importlib
import multiprocessing

import torch
from torch import int64
from vllm.config.logging import LoggingConfig
from vllm.logger import configure_logging_if_needed
from vllm.model_executor.models import registry
from vllm.platforms import current_platform
from vllm.v1.executor import multiproc_executor
from vllm.v1.sample.sampler import Sampler

from esr.huge_pages import use_huge_pages

LATE = (
    "esr.engines.vllm.worker",
    "torch._inductor.compile_fx",
    "vllm.lora.worker_manager",
    "vllm.model_executor.layers.quantization.compressed_tensors.compressed_tensors",
    "vllm.model_executor.models.gemma2",
    "vllm.model_executor.models.gemma3",
    "vllm.model_executor.models.gemma3_mm",
    "vllm.model_executor.models.llama",
    "vllm.model_executor.models.qwen2",
    "vllm.model_executor.models.qwen3",
    "vllm.plugins.lora_resolvers.filesystem_resolver",
    "vllm.plugins.lora_resolvers.hf_hub_resolver",
    "vllm.renderers.hf",
    "vllm.v1.attention.backends.cpu_attn",
    "vllm.v1.structured_output.backend_xgrammar",
    "vllm.v1.worker.cpu_model_runner",
)
"""Modules that vLLM imports as it starts an engine."""


def load_late_parts() -> None:
    """Load what hosts share, and leave it where no collection of a host will write to it."""
    for name in LATE:
        importlib.import_module(name)
    # vLLM starts a Python for each class of model that its cache in ~/.cache/vllm does not have, so
    # that no model initialises CUDA here. That takes 13 seconds, and there is no CUDA.
    registry._run_in_subprocess = lambda inspect: inspect()
    current_platform.register_triton_kernel_overrides()
    # A worker calls it again. It would look through all modules for kernels already replaced.
    type(current_platform).register_triton_kernel_overrides = classmethod(lambda cls: None)
    with torch.inference_mode():
        for rows, tokens in ((2, 5), (3, 6)):  # the second time, sizes become variables
            Sampler.gather_logprobs(torch.zeros(rows, tokens), 0, torch.zeros(rows, dtype=int64))
    configure_logging_if_needed(LoggingConfig())
    gc.collect()
    gc.freeze()
    use_huge_pages()


def fork_workers() -> None:
    """Fork the workers of tensor parallelism from their host, as vLLM does by default on GPUs.

    On a CPU it spawns them, and each imports vLLM again.
    """
    multiproc_executor.get_mp_context = lambda: multiprocessing.get_context("fork")

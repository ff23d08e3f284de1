"""The part of `gpu_session.py` that needs vLLM: parity, speed under steering, fp8.

CUDA graphs are on. The model is random, saved to a temporary folder, and the same for plain vLLM,
which runs without our code beside ours.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from gpu_parts import (
    ACTIVATIONS,
    SAME,
    Row,
    Size,
    agreeing,
    compute,
    engine_of,
    in_turn,
    interventions_of,
    prompts_of,
    random_model,
    random_sae,
    row,
    speed_rows,
)
from plain import Plain
from transformers import LlamaForCausalLM

from esr.engines.base import EncodeRequest, Request, Sampling, generate_all

if TYPE_CHECKING:
    from esr.engines.vllm.client import VllmEngine


@dataclass(frozen=True)
class Served:
    """A random model on disk, and where and how vLLM runs it."""

    folder: Path
    environment: Path
    size: Size
    on_cpu: bool

    @property
    def variables(self) -> dict[str, str]:
        """Of the processes that run vLLM."""
        return {"VLLM_CPU_OMP_THREADS_BIND": "nobind"} if self.on_cpu else {}

    def options(self, share: float, **others: Any) -> dict[str, Any]:
        """Arguments of vLLM. `share`: of the GPU's memory."""
        if self.on_cpu:
            return {"kv_cache_memory_bytes": 2**28, "enforce_eager": True, **others}
        return {"gpu_memory_utilization": share, "enforce_eager": False, **others}

    @property
    def length(self) -> int:
        """Longest sequence."""
        return self.size.prompt + self.size.new

    def ours(self, dtype: str, share: float, **others: Any) -> "VllmEngine":
        """Our engine."""
        from esr.engines.vllm.client import VllmEngine
        from esr.engines.vllm.launch import launcher, pinned_version
        from esr.engines.vllm.messages import Setup

        setup = Setup(
            source=str(self.folder / "model"),
            revision=None,
            adapter=None,
            dtype=dtype,
            sae_file=str(self.folder / "sae.safetensors"),
            n_requests=self.size.requests,
            n_ablated=self.size.ablated,
            max_model_len=self.length,
            prefix_caching=False,
            options=self.options(share, **others),
            steer_layer=self.size.layer,
            ablate_layer=self.size.layer,
            read_layer=self.size.layer,
        )
        return VllmEngine(
            setup,
            launcher(self.environment, self.variables),
            d_sae=self.size.d_sae,
            max_positions=1024,
            stop_tokens=(),
            identity={},
            environment=self.environment,
            version=pinned_version(self.environment),
        )

    def plain(self, dtype: str, share: float) -> Plain:
        """VLLM without our code."""
        settings = {
            "model": str(self.folder / "model"),
            "dtype": dtype,
            "max_model_len": self.length,
            "max_num_seqs": self.size.requests,
            "enable_prefix_caching": False,
            "skip_tokenizer_init": True,
        }
        return Plain(self.environment, self.variables, settings | self.options(share))


def measure_vllm(
    measure: Callable[[Served], Iterator[Row]], size: Size, device: str
) -> Iterator[Row]:
    """Measure on a random model, in the environment with vLLM if it is there."""
    on_cpu = not device.startswith("cuda")
    environment = Path("envs/serve-cpu" if on_cpu else "envs/serve")
    if not (environment / ".venv/bin/python").is_file():
        status = f"not run: {environment} is not installed"
        yield Row("vllm", measure.__name__, "", None, status=status)
        return
    with tempfile.TemporaryDirectory() as folder:
        dtype = "float32" if measure is parity_rows or on_cpu else "bfloat16"
        random_model(size, device, dtype).save_pretrained(Path(folder) / "model")
        random_sae(size, device).to("cpu").save(Path(folder) / "sae.safetensors")
        torch.cuda.empty_cache()
        yield from measure(Served(Path(folder), environment, size, on_cpu))


def parity_rows(served: Served) -> Iterator[Row]:
    """Our engine on vLLM against the reference engine on the CPU, float32."""
    size = served.size
    model = LlamaForCausalLM.from_pretrained(served.folder / "model", dtype=torch.float32)
    reference = engine_of(model, random_sae(size, "cpu"), size)
    with served.ours("float32", 0.5) as engine:
        for case, intervene in interventions_of(size).items():
            prompts = prompts_of(size)
            requests = [Request(prompt, i, intervene(i)) for i, prompt in enumerate(prompts)]
            wanted = compute(reference, size, intervene)
            done = generate_all(engine, requests, Sampling(0, size.new))
            same = agreeing(wanted.tokens, [one.tokens for one in done])
            yield row("vllm", f"{case}, float32", SAME, same, "%")
            encoded = [EncodeRequest(one.tokens, 0, one.intervention) for one in requests]
            apart = np.linalg.norm(np.stack(engine.encode(encoded)) - wanted.activations)
            error = float(apart / np.linalg.norm(wanted.activations))
            bound = f"<= {ACTIVATIONS['float32']:g}"
            yield row("vllm", f"{case}, float32", "activations", error, "relative error", bound)
        facts = engine.status()
        yield row(
            "vllm", "float32", "tokens steered on the device", facts["steered_tokens"], "", ">= 1"
        )


def speed_rows_of(served: Served) -> Iterator[Row]:
    """Generation under interventions against plain vLLM, and in fp8."""
    size = served.size
    dtype = "float32" if served.on_cpu else "bfloat16"
    prompts = prompts_of(size)
    device = "cpu"  # both run in processes of their own, which return when they are done

    def ours(engine: Any, intervene: Callable[[int], Any]) -> Callable[[], Any]:
        requests = [Request(prompt, i, intervene(i)) for i, prompt in enumerate(prompts)]
        return lambda: generate_all(engine, requests, Sampling(0, size.new))

    n = size.requests * size.new
    with ExitStack() as stack:
        plain = stack.enter_context(served.plain(dtype, 0.4))
        engine = stack.enter_context(served.ours(dtype, 0.4))
        modes: dict[str, Callable[[], Any]] = {"plain vLLM": lambda: plain.round(prompts, size.new)}
        modes |= {case: ours(engine, one) for case, one in interventions_of(size).items()}
        seconds = in_turn(modes, size.rounds, device)
        yield from speed_rows("vllm", seconds, n, "plain vLLM", size.speed_bound)
    if served.on_cpu:
        return
    with served.ours(dtype, 0.8, quantization="fp8") as engine:
        boost = interventions_of(size)["boost and ablation"]
        seconds = in_turn({"fp8, boost and ablation": ours(engine, boost)}, size.rounds, device)
        yield from speed_rows("vllm", seconds, n, "")

"""GPUs: their data sheets, and models whose weights they do not hold."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from esr.config import Config, ModelConfig, VllmJudgeConfig
from esr.errors import EsrError
from esr.handwritten import read_csv_rows

GPUS = Path("resources/gpus.csv")
GPU_DEVICES = (Path("/dev/nvidiactl"), Path("/dev/kfd"))
"""Device files of NVIDIA's and AMD's drivers."""
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "fp8": 1}
"""Bytes per weight, by dtype or quantisation; other quantisations are not known."""
ROOM = 0.85
"""Share of a GPU's memory that weights may take; the rest is for the SAE and the batch."""


class Gpu(NamedTuple):
    """A kind of GPU.

    Attributes:
        memory: GB.
        bandwidth: Of the memory, GB/s.
        tflops: Dense bf16 TFLOP/s.
        tflops_fp8: Dense fp8 TFLOP/s; None for a GPU without fp8 units.
    """

    memory: float
    bandwidth: float
    tflops: float
    tflops_fp8: float | None = None

    def peak(self, model: ModelConfig | VllmJudgeConfig) -> float:
        """Floating-point operations per second, at most, in the precision of a model.

        Without fp8 units vLLM stores weights in fp8 and computes in bf16.
        """
        fp8 = self.tflops_fp8 if model.quantization == "fp8" else None
        return (fp8 or self.tflops) * 1e12


def read_gpus(path: Path = GPUS) -> dict[str, Gpu]:
    """GPUs by name."""
    return {
        row["gpu"]: Gpu(
            float(row["memory_gb"]),
            float(row["bandwidth_gb_s"]),
            float(row["tflops"]),
            float(row["tflops_fp8"]) if row["tflops_fp8"] else None,
        )
        for row in read_csv_rows(path).rows
    }


def gpu_of(config: Config, path: Path = GPUS) -> Gpu | None:
    """The GPU that the study names, or None.

    Raises:
        EsrError: a name that is not in the file.
    """
    if config.engine.gpu is None:
        return None
    known = read_gpus(path)
    if config.engine.gpu not in known:
        raise EsrError(
            f"engine.gpu: {config.engine.gpu!r} is not in {path}; choose one of "
            f"{', '.join(known)}, or add a line with its memory, bandwidth and TFLOP/s"
        )
    return known[config.engine.gpu]


def weight_bytes(model: ModelConfig | VllmJudgeConfig) -> float:
    """Size of a model's checkpoint."""
    return model.parameters * BYTES[model.dtype]


def loaded_bytes(model: ModelConfig | VllmJudgeConfig) -> float:
    """Bytes of a model's weights on the GPUs; an upper bound if `BYTES` lacks the quantisation."""
    return model.parameters * BYTES.get(model.quantization or model.dtype, BYTES[model.dtype])


def check_gpu_memory(config: Config, names: Iterable[str]) -> Iterator[str]:
    """A line for every model that does not fit the GPUs that `jobs` requests for it."""
    gpu = gpu_of(config)
    for name in names:
        model = config.models[name]
        size = config.job_size(name)
        if gpu is None or size is None or size.gpus == 0:
            continue
        used = config.gpus(name)
        weights = loaded_bytes(model) / 1e9
        if weights > ROOM * used * gpu.memory:
            precision = model.quantization or model.dtype
            if precision not in BYTES:
                precision = f"{model.dtype} (what {precision} saves is not known here)"
            remedy = "a larger GPU (engine.gpu), or disable the model"
            if config.engine.name == "transformers":
                remedy = f"the engine that spreads it (engine.name: vllm), {remedy}"
            else:
                fp8 = "" if model.quantization else f"models.{name}.quantization: fp8, "
                remedy = f"more GPUs (in `jobs`), {fp8}{remedy}"
            yield (
                f"models.{name}: {weights:.0f} GB of weights in {precision} leave no room on "
                f"{used} {config.engine.gpu} ({used * gpu.memory:.0f} GB), which is what engine "
                f"{config.engine.name} spreads a model over (`jobs` requests {size.gpus}); take "
                f"{remedy}"
            )


def check_judge_memory(config: Config, names: Iterable[str]) -> Iterator[str]:
    """A line for every judge that the workflow runs and whose GPUs do not hold its weights."""
    gpu = gpu_of(config)
    for name in names:
        judge = config.judging.local[name]
        used = config.judge_gpus(judge)
        weights = loaded_bytes(judge) / 1e9
        if gpu is not None and used and weights > ROOM * used * gpu.memory:
            yield (
                f"judging.judges.{name}: {weights:.0f} GB of weights leave no room on {used} "
                f"{config.engine.gpu} ({used * gpu.memory:.0f} GB); take more GPUs "
                "(`tensor_parallel`, and `gpus` in `jobs`), or `quantization: fp8`"
            )


def check_shared_gpus(config: Config, names: Iterable[str]) -> Iterator[str]:
    """A line for every model that does not share its GPUs with the judge in a threshold search.

    With `gpus_in_search: shared`, engine and judge hold their weights in their own shares of the
    memory.
    """
    gpu = gpu_of(config)
    primary = config.judging.primary
    judge = config.judging.local.get(primary)
    if gpu is None or judge is None or judge.gpus_in_search != "shared":
        return
    share = config.engine.vllm.memory_fraction
    held: list[tuple[str, ModelConfig | VllmJudgeConfig, int, float]]
    held = [(f"models.{name}", config.models[name], config.gpus(name), share) for name in names]
    if held:
        where, share = f"judging.judges.{primary}", judge.memory_fraction
        held.append((where, judge, config.judge_gpus(judge), share))
    for key, model, used, share in held:
        weights, room = loaded_bytes(model) / 1e9, share * used * gpu.memory
        if used and weights > ROOM * room:
            yield (
                f"{key}: {weights:.0f} GB of weights leave no room in {share:g} of {used} "
                f"{config.engine.gpu} ({room:.0f} GB), which engine and judge share while "
                f"thresholds are found; set judging.judges.{primary}.gpus_in_search: own, or "
                "change the two `memory_fraction`"
            )


def check_gpu_present(config: Config, names: Iterable[str]) -> Iterator[str]:
    """A line for every model that `vllm` would run on a GPU although this machine has none."""
    if config.engine.name != "vllm" or any(device.exists() for device in GPU_DEVICES):
        return
    for name in names:
        if config.gpus(name):
            yield (
                f"models.{name}: `jobs` requests GPUs for it, but this machine has none; to run "
                "engine vllm on the CPU, set `gpus: 0` for its size in `jobs`"
            )

"""Resources that a study needs: GPU memory, GPU hours, disk; and what does not fit.

Times are estimates: tokens over the tokens per second that were measured for the model on the GPU
(`resources/throughput.csv`) or, where nothing was, over those that the GPU's data sheet and the
assumptions below give. Every response is taken to be as long as it may be.
"""

import csv
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from statistics import NormalDist
from typing import NamedTuple

import pandas as pd
import yaml

from esr.arms.prompts import read_prompts
from esr.assets.saelens import sae_shape
from esr.config import ENGINE_HOURS, JOURNALED, Config, ModelConfig
from esr.errors import EsrError
from esr.planning.costs import trials_of

GPUS = Path("resources/gpus.csv")
THROUGHPUT = Path("resources/throughput.csv")
PROFILE = Path("profiles/slurm/config.yaml")

GPU_DEVICES = (Path("/dev/nvidiactl"), Path("/dev/kfd"))
"""Device files of NVIDIA's and AMD's drivers."""

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "fp8": 1}
"""Bytes per weight, by dtype or quantisation; other quantisations are not known."""
ROOM = 0.85
"""Share of a GPU's memory that weights may take; the rest is for the SAE and the batch."""

# Assumptions, none of them measured.
OPERATIONS = 2
"""Floating-point operations per parameter and token: one multiplication, one addition."""
UTILISATION = 0.4
"""Share of a GPU's peak dense bf16 throughput that is reached; 0.3 to 0.5 are usual."""
REACHED = 0.6
"""Share of a GPU's peak memory bandwidth that reading the weights reaches."""
OVERHEAD = 0.03
"""Overhead of a pass in seconds: attention over the cache, the SAE, sampling, the host."""
PASSES = 3
"""Passes per training step: forward, recomputation, backward (base weights frozen)."""
EXAMPLE_TOKENS = 300
"""Tokens of a fine-tuning example: prompt, off-topic start, correction, answer."""
STARTING = 120
"""Start-up of an engine job in seconds, without loading: imports, compilation, CUDA graphs."""
LOADING = 1e9
"""Bytes of weights loaded per second; a slow file system halves it."""
LATENCY = 10
"""Seconds of a judge's reply: 750 tokens, most of them a copy of the response, at 75 a second."""
UNKNOWN_SAE = 1e9
"""Bytes of an SAE whose shape is unknown before the download; few are larger."""
TRIAL = 20e3
"""Bytes per trial on disk, in tables, judgments and journals."""
CACHED = ("checkpoints in the hub's cache", "SAEs in the hub's cache")
"""What a study keeps in the hub's cache, as `disk_bytes` names it."""


class Gpu(NamedTuple):
    """A kind of GPU: memory in GB, memory bandwidth in GB/s, dense bf16 TFLOP/s."""

    memory: float
    bandwidth: float
    tflops: float


class Work(NamedTuple):
    """What engine jobs of a rule do for a model: jobs, and tokens of all of them."""

    rule: str
    model: str
    jobs: int
    tokens: float


def read_gpus(path: Path = GPUS) -> dict[str, Gpu]:
    """GPUs by name."""
    columns = ("memory_gb", "bandwidth_gb_s", "tflops")
    with path.open(newline="") as file:
        return {
            row["gpu"]: Gpu(*(float(row[column]) for column in columns))
            for row in csv.DictReader(file)
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
            f"{', '.join(known)}, or add a line with its memory, bandwidth and bf16 TFLOP/s"
        )
    return known[config.engine.gpu]


def weight_bytes(model: ModelConfig) -> float:
    """Size of a model's checkpoint."""
    return model.parameters * BYTES[model.dtype]


def loaded_bytes(model: ModelConfig) -> float:
    """Size of a model's weights on the GPUs; at most, where the quantisation is not in `BYTES`."""
    return model.parameters * BYTES.get(model.quantization or model.dtype, BYTES[model.dtype])


def check_gpu_memory(config: Config, names: Iterable[str]) -> Iterator[str]:
    """A line for every model that does not fit the GPUs that `jobs` requests for it."""
    gpu = gpu_of(config)
    for name in names:
        model, size = config.models[name], config.job_size(name)
        if gpu is None or size is None or size.gpus == 0:
            continue
        used, weights = config.gpus(name), loaded_bytes(model) / 1e9
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
                f"{config.engine.name} spreads a model over (`jobs` asks for {size.gpus}); take "
                f"{remedy}"
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


def check_disk(config: Config, cache: Path, missing: list[str]) -> Iterator[str]:
    """A line for every disk that is too small for what a study writes to it.

    Args:
        config: The study.
        cache: Where checkpoints go that come from the hub.
        missing: Models whose checkpoints are not there yet.
    """
    weights = sum(weight_bytes(config.models[name]) for name in missing)
    weights += sum(sae_bytes(config, name) for name in missing if config.models[name].sae.release)
    results = sum(size for what, size in disk_bytes(config).items() if what not in CACHED)
    for what, path, needed, remedy in (
        ("checkpoints and SAEs", cache, weights, "set HF_HOME to a larger disk"),
        ("results", Path(), results, "check out the project on a larger disk"),
    ):
        there = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
        free = shutil.disk_usage(there).free
        if free < needed:
            yield (
                f"{what} need {needed / 1e9:.0f} GB below {path.absolute()}, where "
                f"{free / 1e9:.0f} GB are free; make room, or {remedy}"
            )


def partition_problems(config: Config, profile: Path = PROFILE) -> Iterator[str]:
    """A line for every partition of the Slurm profile that does not exist or is too short.

    None without Slurm. The last retries count, since they request most.
    """
    if not profile.is_file():
        return
    sizes = [size for size in map(config.job_size, config.models) if size is not None]
    settings = yaml.safe_load(profile.read_text())
    attempts = 1 + settings.get("retries", 0)
    requested: dict[str, float] = {}
    for entry in map(str, settings.get("default-resources", [])):
        if entry.startswith("slurm_partition="):
            requested[entry.split("=", 1)[1]] = 0
    for rule, resources in settings.get("set-resources", {}).items():
        known = sizes if rule in ENGINE_HOURS else []
        longest = max((size.hours(rule, attempts) for size in known), default=0)
        hours = resources.get("runtime", 60 * longest) / 60
        partition = resources.get("slurm_partition")
        if partition:
            requested[partition] = max(requested.get(partition, 0), hours)
    yield from check_partitions(requested, str(profile))


def check_partitions(requested: Mapping[str, float], where: str) -> Iterator[str]:
    """A line for every partition that does not exist or whose limit is below the requested hours.

    None without Slurm.

    Args:
        requested: Most hours that a job requests, by partition.
        where: What requests them.
    """
    if shutil.which("sinfo") is None:
        return
    done = subprocess.run(["sinfo", "-h", "-o", "%R %l"], capture_output=True, text=True)
    if done.returncode != 0:
        return
    limits = {name: _hours(limit) for name, limit in map(str.split, done.stdout.splitlines())}
    for name, hours in requested.items():
        if name not in limits:
            there = ", ".join(sorted(limits))
            yield f"{where}: there is no partition {name!r} here; choose among {there}"
        elif hours > limits[name]:
            yield (
                f"{where}: jobs ask for {hours:g} h of partition {name}, which ends them after "
                f"{limits[name]:g} h, so that they would wait for ever; take another partition, or "
                "lower the hours in `jobs` (what `thresholds` and `generate` are for goes on where "
                "it was cut off; reading and training begin anew, and ask for more each time)"
            )


def _hours(limit: str) -> float:
    """Hours of a Slurm time limit: `infinite`, or days-hours:minutes:seconds, from the right."""
    if limit == "infinite":
        return float("inf")
    days, _, rest = limit.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    seconds = sum(part * 60**i for i, part in enumerate(reversed(parts)))
    return 24 * int(days or 0) + seconds / 3600


def check_priors(config: Config) -> Iterator[str]:
    """A line for every threshold prior that lies mostly outside its bounds."""
    for name, model in config.models.items():
        prior = model.threshold_prior
        normal = NormalDist(prior.mean, prior.sd)
        inside = normal.cdf(prior.upper) - normal.cdf(prior.lower)
        if inside < 0.5:
            yield (
                f"models.{name}.threshold_prior: {100 * (1 - inside):.0f} % of the prior "
                f"{prior.mean:g} +- {prior.sd:g} lie outside {prior.lower:g} to {prior.upper:g}; "
                "lower `sd` or widen the bounds"
            )


def pass_seconds(model: ModelConfig, gpu: Gpu, gpus: int, tokens: float) -> float:
    """Seconds of one pass of so many tokens through a model spread over so many GPUs.

    Computing, or reading the weights where that takes longer, and an overhead.
    """
    computing = OPERATIONS * model.parameters * tokens / (UTILISATION * gpu.tflops * 1e12)
    reading = loaded_bytes(model) / (REACHED * gpu.bandwidth * 1e9)
    return max(computing, reading) / gpus + OVERHEAD


def tokens_per_second(
    config: Config, rule: str, name: str, gpu: Gpu, measured: Path = THROUGHPUT
) -> tuple[float, str]:
    """Tokens that a job of a rule writes, reads or trains on a second, and how that is known.

    Writing is `measured` where the file says so. All else is `assumed`: a pass writes a token of
    every row of a batch, or reads the whole batch; training takes `PASSES` for a micro-batch, on
    one GPU.
    """
    model, kind = config.models[name], ENGINE_HOURS[rule]
    if kind == "train":
        tokens = config.finetune.training.micro_batch_size * EXAMPLE_TOKENS
        return tokens / (PASSES * pass_seconds(model, gpu, 1, tokens)), "assumed"
    rows, gpus = config.engine.batch_size, max(config.gpus(name), 1)
    if kind == "encode":
        tokens = rows * config.generation.max_new_tokens
        return tokens / pass_seconds(model, gpu, gpus, tokens), "assumed"
    with measured.open(newline="") as file:
        for row in csv.DictReader(file):
            if (row["model"], row["gpu"], row["engine"]) == (
                config.models[config.base_of(name)].source,  # fine-tuned ones are as fast
                config.engine.gpu,
                config.engine.name,
            ):
                return float(row["tokens_per_second"]), f"measured {row['date']}"
    return rows / pass_seconds(model, gpu, gpus, rows), "assumed"


def planned_work(config: Config) -> Iterator[Work]:
    """What engine jobs of every rule do, model by model."""
    length = config.generation.max_new_tokens
    for name in config.models:
        yield Work("find_thresholds", name, 1, _searched(config) * length)
        trials = {arm: _trials_of(config, arm) for arm in config.arms_of(name)}
        shards = sum(config.shards(arm) for arm in trials)
        yield Work("generate_responses", name, shards, sum(trials.values()) * length)
        if name in config.finetuned:
            rows = config.finetune.data.size * config.finetune.training.num_epochs
            yield Work("train_adapter", name, 1, rows * EXAMPLE_TOKENS)
            continue
        read = {
            "measure_relevance": trials.get(config.latents.relevance.answers, 0),
            "find_detectors": 2 * trials.get(config.detectors.arm, 0),
            "match_controls": trials.get("steered", 0),
            "read_episodes": config.episodes.max_episodes
            + config.episodes.max_baseline
            + config.episodes.max_unrestarted,
        }
        for rule, texts in read.items():
            yield Work(rule, name, 1, texts * length)


def judge_hours(config: Config) -> float:
    """Hours that finding the thresholds of a model waits for a judge that is a language model.

    As if engine and judge took turns; in truth they overlap in part.
    """
    judge = config.judging.llms.get(config.judging.primary)
    return 0.0 if judge is None else _searched(config) * LATENCY / judge.concurrency / 3600


def _searched(config: Config) -> int:
    """Responses that are generated and judged to find the thresholds of a model."""
    return config.thresholds.steps * config.thresholds.samples_per_step * config.latents.count


def _trials(config: Config, model: str) -> int:
    return sum(_trials_of(config, arm) for arm in config.arms_of(model))


def _trials_of(config: Config, arm: str) -> int:
    origin = config.arms[arm]
    while origin.replay is not None:
        origin = config.arms[origin.replay]
    path = origin.prompts or config.prompts
    prompts = len(read_prompts(path)) if origin.over == "prompts" else 0
    return trials_of(config, origin, prompts)


COMPUTE = ["rule", "model", "jobs", "gpus", "tokens", "tokens_per_second", "known_by"]
COMPUTE += ["judge_hours", "hours_per_job", "hours_asked", "gpu_hours"]


def estimate_compute(config: Config) -> pd.DataFrame:
    """GPU hours of every rule and model.

    Columns: rule, model, jobs, gpus (of a job), tokens (written, read or trained on, all jobs),
    tokens_per_second (of a job), known_by (how that is known), judge_hours (that a job waits for a
    judge), hours_per_job (start and judge included), hours_asked (of a scheduler, by `jobs`),
    gpu_hours. Empty where the study names no GPU or its models need none.
    """
    gpu = gpu_of(config)
    rows = []
    for work in planned_work(config):
        size = config.job_size(work.model)
        if gpu is None or size is None or size.gpus == 0:
            continue
        rate, known = tokens_per_second(config, work.rule, work.model, gpu)
        waiting = judge_hours(config) if work.rule == "find_thresholds" else 0.0
        starting = STARTING + weight_bytes(config.models[work.model]) / LOADING
        hours = (work.tokens / work.jobs / rate + starting) / 3600 + waiting
        facts = [work.rule, work.model, work.jobs, size.gpus, work.tokens, rate, known, waiting]
        rows.append([*facts, hours, size.hours(work.rule), hours * work.jobs * size.gpus])
    return pd.DataFrame(rows, columns=COMPUTE)


def wall_hours(table: pd.DataFrame, gpus: int) -> float:
    """Hours that a study takes with so many GPUs at a time: its work, or its longest chain."""
    return max(float(table["gpu_hours"].sum()) / gpus, _longest_chain(table))


def profile_hours(table: pd.DataFrame, profile: Path = PROFILE) -> tuple[float, int]:
    """Hours that a study takes with as many jobs at a time as the profile allows; that number.

    Raises:
        EsrError: the profile sets no limit.
    """
    jobs = yaml.safe_load(profile.read_text()).get("jobs")
    if not isinstance(jobs, int) or jobs < 1:
        raise EsrError(f"{profile}: jobs: {jobs!r}; say how many jobs may run at a time")
    work = float((table["hours_per_job"] * table["jobs"]).sum())
    return max(work / jobs, _longest_chain(table)), jobs


def _longest_chain(table: pd.DataFrame) -> float:
    """Hours of a model's thresholds, then two arms (a replayed one waits for its origin)."""
    chain = table["hours_per_job"] * table["rule"].eq("generate_responses").add(1)
    return float(chain.groupby(table["model"]).sum().max()) if len(table) else 0.0


def check_walltime(table: pd.DataFrame) -> Iterator[str]:
    """A line for every rule and model whose jobs are expected to outlast what is asked for."""
    for row in table[table["hours_per_job"] > table["hours_asked"]].itertuples():
        key = ENGINE_HOURS[row.rule]
        remedy = f"a job that is cut off begins anew, so raise `{key}`"
        if row.rule in JOURNALED:
            remedy = f"retries go on where a job was cut off; or raise `{key}`"
        if row.rule == "generate_responses":
            remedy += ", or engine.shards"
        yield (
            f"{row.rule} of {row.model}: {row.hours_per_job:.1f} h expected ({row.known_by}), but "
            f"`jobs` asks for {row.hours_asked:g} h; {remedy}"
        )


def disk_bytes(config: Config) -> dict[str, float]:
    """Bytes that a study takes on disk, by what takes them."""
    hub = [model for model in config.base_models.values() if not model.is_local]
    merged = config.finetuned if config.finetune.serve == "merged" else ()
    saes = {name: sae_bytes(config, name) for name in config.base_models}
    released = [name for name, model in config.base_models.items() if model.sae.release]
    return {
        CACHED[0]: sum(weight_bytes(model) for model in hub),
        CACHED[1]: sum(saes[name] for name in released),
        "fine-tuned checkpoints": sum(weight_bytes(config.models[name]) for name in merged),
        "SAEs": sum(saes.values()),
        "results": sum(_trials(config, name) for name in config.models) * TRIAL,
    }


def sae_bytes(config: Config, name: str) -> float:
    """Size of a model's SAE as it is stored: encoder and decoder in float32, biases, thresholds."""
    shape = sae_shape(config, name)
    if shape is None:
        return UNKNOWN_SAE
    return BYTES["float32"] * (2 * shape.d_model * shape.d_sae + shape.d_model + 2 * shape.d_sae)

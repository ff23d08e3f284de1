"""What a study takes of machines: GPU memory, GPU hours, disk; and what will not fit them.

Times are estimates: tokens over the tokens per second that were measured for the model on the GPU
(`resources/throughput.csv`) or, where nothing was, over a bound that no engine beats by much: then
they say what a study takes at least. Every response is taken to be as long as it may be.
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

from esr.config import ENGINE_HOURS, Config, Model
from esr.errors import EsrError
from esr.judges.estimate import trials_of
from esr.prompts import read_prompts

GPUS = Path("resources/gpus.csv")
THROUGHPUT = Path("resources/throughput.csv")
PROFILE = Path("profiles/slurm/config.yaml")

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "fp8": 1}
"""Of a weight, by dtype or quantisation. What another quantisation saves is not known here."""
ROOM = 0.85
"""Share of a GPU's memory that weights may take; the rest is for the SAE and the batch."""
REACHED = 0.6
"""Share of a GPU's memory bandwidth that decoding reaches. An assumption, not measured."""
OVERHEAD = 0.03
"""Seconds that a step takes beside reading the weights. An assumption, not measured."""
READING = 20
"""How many times as fast stored texts are read as new ones written. An assumption."""
TRAINING = 3
"""How many times as long training on a text takes as reading it. An assumption."""
EXAMPLE_TOKENS = 300
"""Tokens of an example to fine-tune on. An assumption."""
LOADING = 1e9
"""Bytes of weights that a job loads a second. An assumption; a slow file system halves it."""
TRIAL = 20e3
"""Bytes that a trial takes on disk, in its table, judgment and journals."""


class Gpu(NamedTuple):
    """A kind of GPU: memory in GB, memory bandwidth in GB/s."""

    memory: float
    bandwidth: float


class Work(NamedTuple):
    """What engine jobs of a rule do for a model: tokens in all, jobs, and whether they write."""

    rule: str
    model: str
    jobs: int
    tokens: float
    writes: bool


def read_gpus(path: Path = GPUS) -> dict[str, Gpu]:
    """GPUs by name."""
    with path.open(newline="") as file:
        return {
            row["gpu"]: Gpu(float(row["memory_gb"]), float(row["bandwidth_gb_s"]))
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
            f"{', '.join(known)}, or add a line with its memory and bandwidth"
        )
    return known[config.engine.gpu]


def weight_bytes(model: Model) -> float:
    """Size of a model's checkpoint."""
    return model.parameters * BYTES[model.dtype]


def loaded_bytes(model: Model) -> float:
    """Size of a model's weights on the GPUs; at most, where the quantisation is not in `BYTES`."""
    return model.parameters * BYTES.get(model.quantization or model.dtype, BYTES[model.dtype])


def misfits(config: Config, names: Iterable[str]) -> Iterator[str]:
    """A line for every one of these models that does not fit the GPUs it is given."""
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


def full_disks(config: Config, cache: Path, missing: list[str]) -> Iterator[str]:
    """A line for every disk that will not hold what a study writes to it.

    Args:
        config: The study.
        cache: Where checkpoints go that come from the hub.
        missing: Models whose checkpoints are not there yet.
    """
    weights = sum(weight_bytes(config.models[name]) for name in missing)
    results = sum(size for what, size in disk_bytes(config).items() if what != "checkpoints")
    for what, path, needed, remedy in (
        ("checkpoints", cache, weights, "set HF_HOME to a larger disk"),
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
    """A line for every partition of the Slurm profile that is not here or stops jobs too early.

    Nothing where there is no Slurm to ask.
    """
    if not profile.is_file():
        return
    sizes = [size for size in map(config.job_size, config.models) if size is not None]
    settings = yaml.safe_load(profile.read_text())
    asked: dict[str, float] = {}
    for entry in map(str, settings.get("default-resources", [])):
        if entry.startswith("slurm_partition="):
            asked[entry.split("=", 1)[1]] = 0
    for rule, resources in settings.get("set-resources", {}).items():
        key = ENGINE_HOURS.get(rule)
        longest = max((getattr(size, key) for size in sizes), default=0) if key else 0
        hours = resources.get("runtime", 60 * longest) / 60
        partition = resources.get("slurm_partition")
        if partition:
            asked[partition] = max(asked.get(partition, 0), hours)
    yield from unfit_partitions(asked, str(profile))


def unfit_partitions(asked: Mapping[str, float], where: str) -> Iterator[str]:
    """A line for every partition that is not here, or stops jobs before the hours they ask for.

    Nothing where there is no Slurm to ask.

    Args:
        asked: Most hours that a job asks for, by partition.
        where: What asks for them.
    """
    if shutil.which("sinfo") is None:
        return
    done = subprocess.run(["sinfo", "-h", "-o", "%R %l"], capture_output=True, text=True)
    if done.returncode != 0:
        return
    limits = {name: _hours(limit) for name, limit in map(str.split, done.stdout.splitlines())}
    for name, hours in asked.items():
        if name not in limits:
            there = ", ".join(sorted(limits))
            yield f"{where}: there is no partition {name!r} here; choose among {there}"
        elif hours > limits[name]:
            yield (
                f"{where}: jobs ask for {hours:g} h of partition {name}, which ends them after "
                f"{limits[name]:g} h, so that they would wait for ever; lower the hours in `jobs` "
                "(a retry goes on where a job was cut off) or take another partition"
            )


def _hours(limit: str) -> float:
    """Hours of a Slurm time limit: `infinite`, or days-hours:minutes:seconds, from the right."""
    if limit == "infinite":
        return float("inf")
    days, _, rest = limit.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    seconds = sum(part * 60**i for i, part in enumerate(reversed(parts)))
    return 24 * int(days or 0) + seconds / 3600


def far_priors(config: Config) -> Iterator[str]:
    """A line for every prior of thresholds that lies mostly outside its bounds."""
    for name, model in config.models.items():
        prior = model.boosts
        normal = NormalDist(prior.mean, prior.sd)
        inside = normal.cdf(prior.upper) - normal.cdf(prior.lower)
        if inside < 0.5:
            yield (
                f"models.{name}.boosts: {100 * (1 - inside):.0f} % of the prior "
                f"{prior.mean:g} +- {prior.sd:g} lie outside {prior.lower:g} to {prior.upper:g}; "
                "lower `sd` or widen the bounds"
            )


def tokens_per_second(
    config: Config, name: str, gpu: Gpu, measured: Path = THROUGHPUT
) -> tuple[float, str]:
    """Tokens that a job of a model writes a second, and how that is known.

    Measured where the file says so; else a batch over the time that a step takes at least, to
    read the weights once.
    """
    model = config.models[name]
    with measured.open(newline="") as file:
        for row in csv.DictReader(file):
            if (row["model"], row["gpu"], row["engine"]) == (
                model.source,
                config.engine.gpu,
                config.engine.name,
            ):
                return float(row["tokens_per_second"]), f"measured {row['date']}"
    read = loaded_bytes(model) / (REACHED * gpu.bandwidth * 1e9 * max(config.gpus(name), 1))
    return config.engine.batch_size / (read + OVERHEAD), "bound"


def planned_work(config: Config) -> Iterator[Work]:
    """What engine jobs of every rule do, model by model."""
    length = config.generation.max_new_tokens
    searched = config.thresholds.steps * config.thresholds.samples_per_step * config.latents.count
    for name in config.models:
        yield Work("find_thresholds", name, 1, searched * length, True)
        trials = {arm: _trials_of(config, arm) for arm in config.arms_of(name)}
        shards = sum(config.shards(arm) for arm in trials)
        yield Work("generate_responses", name, shards, sum(trials.values()) * length, True)
        if name in config.finetuned:
            rows = config.finetune.data.size * config.finetune.training.epochs
            yield Work("train_adapter", name, 1, TRAINING * rows * EXAMPLE_TOKENS, False)
            continue
        read = {
            "measure_relevance": trials.get(config.latents.relevance.answers, 0),
            "find_detectors": 2 * trials.get(config.detectors.arm, 0),
            "match_controls": trials.get("steered", 0),
            "read_episodes": config.episodes.most
            + config.episodes.baseline
            + config.episodes.unrestarted,
        }
        for rule, texts in read.items():
            yield Work(rule, name, 1, texts * length, False)


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
COMPUTE += ["hours_per_job", "hours_asked", "gpu_hours"]


def estimate_compute(config: Config) -> pd.DataFrame:
    """GPU hours of every rule and model.

    Columns: rule, model, jobs, gpus (of a job), tokens (written or read, all jobs),
    tokens_per_second (of a job), known_by, hours_per_job (loading included), hours_asked (of a
    scheduler, by `jobs`), gpu_hours. Empty where the study names no GPU or its models need none.
    """
    gpu = gpu_of(config)
    rows = []
    for work in planned_work(config):
        size = config.job_size(work.model)
        if gpu is None or size is None or size.gpus == 0:
            continue
        rate, known = tokens_per_second(config, work.model, gpu)
        rate *= 1 if work.writes else READING
        loading = weight_bytes(config.models[work.model]) / LOADING / 3600
        hours = work.tokens / work.jobs / rate / 3600 + loading
        limit = getattr(size, ENGINE_HOURS[work.rule])
        facts = [work.rule, work.model, work.jobs, size.gpus, work.tokens, rate, known]
        rows.append([*facts, hours, limit, hours * work.jobs * size.gpus])
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


def short_hours(table: pd.DataFrame) -> Iterator[str]:
    """A line for every rule and model whose jobs are expected to outlast what is asked for."""
    for row in table[table["hours_per_job"] > table["hours_asked"]].itertuples():
        yield (
            f"{row.rule} of {row.model}: {row.hours_per_job:.1f} h expected ({row.known_by}), but "
            f"`jobs` asks for {row.hours_asked:g} h; retries go on where a job was cut off, or "
            "raise it, or engine.shards"
        )


def disk_bytes(config: Config) -> dict[str, float]:
    """Bytes of checkpoints and of results that a study takes on disk."""
    hub = [model for model in config.originals.values() if not model.is_local]
    merged = config.finetuned if config.finetune.serve == "merged" else ()
    return {
        "checkpoints": sum(weight_bytes(model) for model in hub),
        "fine-tuned checkpoints": sum(weight_bytes(config.models[name]) for name in merged),
        "results": sum(_trials(config, name) for name in config.models) * TRIAL,
    }

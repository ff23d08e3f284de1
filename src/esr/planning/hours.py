"""Hours that a study needs: tokens of every rule and model, over tokens per second.

Tokens per second are those measured for the model on the GPU (`resources/throughput.csv`). Without
a measurement they follow from the GPU's data sheet and the assumptions below. `esr.planning.work`
counts the tokens.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from esr.config import ENGINE_HOURS, JOURNALED, Config, ModelConfig, VllmJudgeConfig
from esr.errors import EsrError
from esr.handwritten import read_csv_rows
from esr.plain_yaml import load_yaml
from esr.planning.costs import Planned, judging_calls, planned_calls, searched_for
from esr.planning.hardware import Gpu, gpu_of, loaded_bytes, weight_bytes
from esr.planning.judged import RATED, judging_starts, rating_group
from esr.planning.partitions import PROFILE, arms_together
from esr.planning.searches import finds_judge
from esr.planning.work import EXAMPLE_TOKENS, planned_work

THROUGHPUT = Path("resources/throughput.csv")

# Assumptions, none of them measured.
OPERATIONS = 2
"""Floating-point operations per parameter and token: one multiplication, one addition."""
UTILISATION = 0.4
"""Share of a GPU's peak dense throughput (fp8 or bf16) that is reached; 0.3 to 0.5 are usual."""
REACHED = 0.6
"""Share of a GPU's peak memory bandwidth that reading the weights reaches."""
OVERHEAD = 0.03
"""Overhead of a pass in seconds: attention over the cache, the SAE, sampling, the host."""
PASSES = 3
"""Passes per training step: forward, recomputation, backward (base weights frozen)."""
STARTING = 120
"""Start-up of an engine job in seconds, without loading: imports, compilation, CUDA graphs."""
LOADING = 1e9
"""Bytes of weights loaded per second; a slow file system halves it."""
LATENCY = 10
"""Seconds of a judge's reply: 750 tokens, most of them a copy of the response, at 75 a second."""
WRITTEN_A_MINUTE = 400_000
"""Tokens of replies a minute that an API allows; Anthropic's tier 4 for Sonnet 4.x in 2026."""
OVERLAPPED = 1.3
"""Hours of a search over those of its engine or judge, the slower of the two, where the judge is
behind an API. By simulation 1.02 to 1.26 (`benchmarks/search.py`)."""
ONE_BY_ONE = 1.06
"""The same where the job runs the judge, on GPUs of its own. By simulation 1.02 to 1.06."""
ACCEPTED = 0.77
"""Probability that a token drafted for a copy is right. By simulation of two or more drafted tokens
0.78 to 0.96, by the kind of text (`benchmarks/prompt_lookup.py`), where attempts are copied whole.
What is no copy is written one token a pass."""
WITHIN = {"judge_examples": "write_examples"}
"""Rules of calls that are made within the jobs of another rule."""
COMPUTE = ["rule", "model", "jobs", "starts", "gpus", "tokens", "tokens_per_second", "known_by"]
COMPUTE += ["judge_hours", "hours_per_job", "hours_requested", "gpu_hours"]


def pass_seconds(model: ModelConfig | VllmJudgeConfig, gpu: Gpu, gpus: int, tokens: float) -> float:
    """Seconds of one pass of `tokens` through a model on `gpus` GPUs.

    The longer of two times, computing and reading the weights, plus an overhead.
    """
    computing = OPERATIONS * model.parameters * tokens / (UTILISATION * gpu.peak(model))
    reading = loaded_bytes(model) / (REACHED * gpu.bandwidth * 1e9)
    return max(computing, reading) / gpus + OVERHEAD


def tokens_per_second(
    config: Config, rule: str, name: str, gpu: Gpu, measured: Path = THROUGHPUT
) -> tuple[float, str]:
    """Tokens per second that a job generates, encodes or trains on, and how that is known.

    Generation is `measured` where the file has the model and GPU. The rest is `assumed`: a pass
    generates one token of every row of a batch, or encodes the batch; training takes `PASSES` for
    a micro-batch, on one GPU.
    """
    model = config.models[name]
    kind = ENGINE_HOURS[rule]
    if kind == "train":
        tokens = config.finetune.training.micro_batch_size * EXAMPLE_TOKENS
        return tokens / (PASSES * pass_seconds(model, gpu, 1, tokens)), "assumed"
    rows = config.batch_size(name)
    gpus = max(config.gpus(name), 1)
    if kind == "encode":
        tokens = rows * config.generation.max_new_tokens
        return tokens / pass_seconds(model, gpu, gpus, tokens), "assumed"
    for row in read_csv_rows(measured).rows:
        if (row["model"], row["gpu"], row["engine"]) == (
            config.models[config.base_of(name)].source,  # fine-tuned ones are as fast
            config.engine.gpu,
            config.engine.name,
        ):
            return float(row["tokens_per_second"]), f"measured {row['date']}"
    return rows / pass_seconds(model, gpu, gpus, rows), "assumed"


def judge_hours(config: Config, responses: float) -> float:
    """Hours that a judge works on so many responses of a search, if it is a language model.

    A judge behind an API is bound by its calls in flight and by the tokens that the API allows.
    """
    judge = config.judging.llms.get(config.judging.primary)
    if judge is None:
        return 0.0
    calls = judging_calls(config, "find_thresholds", config.judging.primary, 1)
    if isinstance(judge, VllmJudgeConfig):
        gpu = gpu_of(config)
        if gpu is None or not config.judge_gpus(judge):
            return 0.0
        return responses * _local_seconds(config, judge, gpu, calls) / 3600
    allowed = 60 * calls.written / WRITTEN_A_MINUTE
    return responses * max(LATENCY / judge.concurrency.max, allowed) / 3600


def search_hours(config: Config, writing: float, judging: float) -> float:
    """Hours of a search of which the engine writes, and the judge works, so many hours.

    Engine and judge work at the same time. On the same GPUs, neither is faster than alone.
    """
    judge = config.judging.local.get(config.judging.primary)
    if judge is None:
        return max(writing, judging) * (OVERLAPPED if judging else 1)
    if judge.gpus_in_search == "shared":
        return writing + judging
    return max(writing, judging) * (ONE_BY_ONE if judging else 1)


def search_start(config: Config, engine: float) -> float:
    """Hours until a search has engine and judge, of which the engine takes `engine`.

    They start at the same time on GPUs of their own, one after the other on the same ones.
    """
    judge = config.judging.local.get(config.judging.primary)
    if judge is None or not config.judge_gpus(judge):
        return engine
    starting = (STARTING + weight_bytes(judge) / LOADING) / 3600
    return engine + starting if judge.gpus_in_search == "shared" else max(engine, starting)


def _local_seconds(config: Config, judge: VllmJudgeConfig, gpu: Gpu, calls: Planned) -> float:
    """Seconds of a call: its reply is written, and read what calls do not share.

    vLLM keeps the rubric, which all calls share, in its cache of prefixes.
    """
    gpus = max(config.judge_gpus(judge), 1)
    writing = calls.written / judge_tokens_per_second(config, judge, gpu, calls)
    operations = OPERATIONS * judge.parameters * (calls.read - calls.shared)
    return writing + operations / (UTILISATION * gpu.peak(judge) * gpus)


def judge_tokens_per_second(
    config: Config, judge: VllmJudgeConfig, gpu: Gpu, calls: Planned
) -> float:
    """Tokens per second that a judge writes, by the data sheet; see `tokens_per_second`.

    With prompt lookup of K tokens, a pass over a copy computes K + 1 tokens of each row and writes
    those that are right, up to the first one that is not: (1 - p^(K + 1)) / (1 - p) on average
    with p = `ACCEPTED` (Leviathan et al. 2023, equation 1).
    """
    gpus, drafted = max(config.judge_gpus(judge), 1), judge.prompt_lookup
    plain = calls.written - calls.copied
    copying = calls.copied * (1 - ACCEPTED) / (1 - ACCEPTED ** (drafted + 1))
    computed = judge.batch_size * (plain + copying * (drafted + 1)) / (plain + copying)
    written = judge.batch_size * calls.written / (plain + copying)
    return written / pass_seconds(judge, gpu, gpus, computed)


def judge_jobs(config: Config, rule: str, judge: VllmJudgeConfig) -> int:
    """Jobs of a rule that need a judge."""
    rounds = sum(len(config.judging_rounds(model)) for model in config.models)
    cells = sum(len(config.arms_of(model)) for model in config.models)
    jobs = {
        "judge_responses": rounds if judge.together else cells,
        "rate_concreteness": sum(one.labels is not None for one in config.base_models.values()),
        "annotate_boundaries": len(config.base_models),
    }
    return max(jobs.get(rule, 1), 1)


def judge_rows(config: Config, gpu: Gpu, profile: Path) -> Iterator[list[Any]]:
    """Rows of `estimate_compute` for judges that the workflow runs; `model` is the judge."""
    running: set[tuple[str, str]] = set()
    together = arms_together(profile)
    for one in planned_calls(config):
        judge = config.judging.local.get(one.judge)
        size = None if judge is None else config.size_for(judge.parameters)
        gpus = 0 if judge is None else config.judge_gpus(judge)
        # A threshold search has its judge beside the engine.
        if judge is None or size is None or not gpus or one.rule == "find_thresholds":
            continue
        jobs = starts = judge_jobs(config, one.rule, judge)
        if one.rule == "judge_responses" and judge.together:
            starts = judging_starts(config, one.judge, together)
        job = WITHIN.get(one.rule, one.rule)
        if job in ("rate_concreteness", "write_examples") and rating_group(config, job, together):
            job, starts = RATED, 1
        if (job, one.judge) in running:
            starts = 0  # the allocation has started it for other calls
        running.add((job, one.judge))
        rate = judge_tokens_per_second(config, judge, gpu, one)
        starts = 0 if one.rule == "anchors" else starts  # graded within jobs of other rows
        starting = STARTING + weight_bytes(judge) / LOADING
        seconds = one.calls * _local_seconds(config, judge, gpu, one)
        hours = (seconds / jobs + starting * bool(starts)) / 3600
        facts = [one.rule, one.judge, jobs, starts, gpus, one.calls * one.written, rate, "assumed"]
        all_hours = gpus * (seconds + starting * starts) / 3600
        yield [*facts, 0.0, hours, size.judge, all_hours]


def estimate_compute(config: Config, profile: Path = PROFILE) -> pd.DataFrame:
    """GPU hours of every rule and model; for judges that the workflow runs, `model` is the judge.

    Columns: rule, model, jobs, starts (jobs that start an engine or a judge: the first of every
    allocation of the profile), gpus (of a job), tokens (written, read or trained on, all jobs),
    tokens_per_second (of a job), known_by (how that is known), judge_hours (that the judge of a
    job works), hours_per_job (with start and judge), hours_requested (by `jobs`),
    gpu_hours. Empty where the study names no GPU or its models need none.
    """
    gpu = gpu_of(config)
    together, rows = arms_together(profile), []
    for work in planned_work(config, profile):
        size = config.job_size(work.model)
        if gpu is None or size is None or size.gpus == 0:
            continue
        rate, known = tokens_per_second(config, work.rule, work.model, gpu)
        engine = (STARTING + weight_bytes(config.models[work.model]) / LOADING) / 3600
        writing, judging = work.tokens / work.jobs / rate / 3600, 0.0
        searches, starting, found = work.rule == "find_thresholds", engine, 0.0
        if searches:
            judging = judge_hours(config, searched_for(config, work.model) / work.jobs)
            starting = search_start(config, engine)
            found = starting - engine if finds_judge(config, work.model, together) else 0.0
        hours = search_hours(config, writing, judging)
        used = config.search_job_gpus(work.model) if searches else size.gpus
        starts = work.jobs if work.starts is None else work.starts
        all_hours = used * (hours * work.jobs + starting * starts - found)
        facts = [work.rule, work.model, work.jobs, starts, used, work.tokens, rate, known, judging]
        rows.append([*facts, hours + starting, size.hours(work.rule), all_hours])
    rows += [] if gpu is None else list(judge_rows(config, gpu, profile))
    return pd.DataFrame(rows, columns=COMPUTE)


def wall_hours(table: pd.DataFrame, gpus: int) -> float:
    """Hours that a study takes on `gpus` GPUs: its work, or its longest chain if longer."""
    return max(float(table["gpu_hours"].sum()) / gpus, _longest_chain(table))


def profile_hours(table: pd.DataFrame, profile: Path = PROFILE) -> tuple[float, int]:
    """Hours that a study takes under the profile's limit of concurrent jobs, and that limit.

    Raises:
        EsrError: the profile sets no limit.
    """
    jobs = load_yaml(profile.read_text(encoding="utf-8")).get("jobs")
    if not isinstance(jobs, int) or jobs < 1:
        raise EsrError(f"{profile}: jobs: {jobs!r}; set the number of concurrent jobs")
    work = float((table["gpu_hours"] / table["gpus"]).sum())
    return max(work / jobs, _longest_chain(table)), jobs


def _longest_chain(table: pd.DataFrame) -> float:
    """Hours of a model's thresholds, then two allocations of arms (random sets wait for others)."""
    # Jobs that start no engine are within the allocations of others.
    allocation = table["gpu_hours"] / table["gpus"] / table["starts"].clip(lower=1)
    chain = allocation * table["rule"].eq("generate_responses").add(1)
    return float(chain.groupby(table["model"]).sum().max()) if len(table) else 0.0


def check_walltime(table: pd.DataFrame) -> Iterator[str]:
    """A line for every rule and model whose jobs need more hours than `jobs` requests."""
    for row in table[table["hours_per_job"] > table["hours_requested"]].itertuples():
        key = ENGINE_HOURS.get(row.rule, "judge")
        remedy = f"a job that hits the limit starts from scratch, so raise `{key}`"
        if row.rule in JOURNALED or key == "judge":
            remedy = f"retries resume where the job stopped; or raise `{key}`"
        if row.rule == "generate_responses":
            remedy += ", or engine.shards"
        yield (
            f"{row.rule} of {row.model}: {row.hours_per_job:.1f} h expected ({row.known_by}), but "
            f"`jobs` requests {row.hours_requested:g} h; {remedy}"
        )

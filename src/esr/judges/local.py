"""Judges of `kind: vllm`: open weights that the job itself runs in a host process, offline.

The host is that of the vLLM engine (`esr.engines.vllm`), with a plain model in it. It starts with
the first call that has no reply yet, and ends with the job, unless it stays for the next one.
"""

import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from esr.config import Config, VllmJudgeConfig
from esr.engines.hosts.linger import CPU, evict, gpu_devices, stay_of
from esr.engines.vllm.connection import VllmConnection
from esr.engines.vllm.environment import host_variables, launcher, pinned_version
from esr.engines.vllm.messages import Write, WriterSetup, Written
from esr.errors import EsrError
from esr.judges.encoding import CallEncoder, open_tokenizer
from esr.judges.identity import identity_of
from esr.judges.replies import Call

log = logging.getLogger(__name__)


class LocalModel:
    """A language model in a host process, and its tokenizer. Nothing starts before a call."""

    def __init__(
        self,
        settings: VllmJudgeConfig,
        connect: Callable[[], VllmConnection],
        devices: int,
        *,
        early: bool = False,
    ) -> None:
        """Prepare a model.

        Args:
            settings: The judge.
            connect: Makes the connection to the host that loads it; called with the first call.
            devices: GPUs that it runs on; 1 for a CPU.
            early: Whether `start` starts it: it has GPUs of its own beside those of an engine.
        """
        self.settings, self.devices, self._early = settings, devices, early
        self._connect = connect
        self._reading: dict[str, int] = {}
        """Tokens that each call in flight has, by key of its reply."""
        self._last = 0.0
        """When the last reply came, or the first call after a pause was sent (s)."""

    @cached_property
    def host(self) -> VllmConnection:
        """The connection to the host."""
        return self._connect()

    @cached_property
    def tokenizer(self) -> Any:
        """The model's tokenizer, from disk or the hub's cache."""
        return open_tokenizer(self.settings)

    @cached_property
    def encoder(self) -> CallEncoder:
        """Turns calls into tokens."""
        return CallEncoder(self.tokenizer, self.settings.template)

    def start(self) -> None:
        """Start the host before the first call, while an engine on other GPUs starts, too.

        Raises:
            EsrError: it did not start.
        """
        if self._early:
            self.host.open()

    def send(self, calls: Mapping[str, Call]) -> list[str]:
        """Send calls to the host, which may be writing replies to others.

        Args:
            calls: By key of the reply.

        Returns:
            Keys of the calls that were sent: all but those too long for the model.

        Raises:
            EsrError: the host did not start, or the model has no usable chat template.
        """
        settings, sent = self.settings, []
        for key, call in calls.items():
            tokens = self.encoder(call)
            room = settings.max_model_len - len(tokens)
            if room <= 0:
                log.warning(
                    "call without a reply: %d tokens exceed max_model_len (%d); raise it",
                    len(tokens),
                    settings.max_model_len,
                )
                continue
            schema = None if call.schema is None else dict(call.schema)
            temperature = 1.0 if settings.temperature is None else settings.temperature
            limit = min(settings.max_tokens, room)
            self.host.submit(Write(key, tokens, schema, temperature, limit, int(key[:8], 16)))
            if not self._reading:  # neither the start of the host nor a pause counts as writing
                self._last = time.monotonic()
            self._reading[key] = len(tokens)
            sent.append(key)
        return sent

    def receive(self, timeout: float | None = None) -> dict[str, Any] | None:
        """Wait for the next reply that ends.

        Args:
            timeout: Seconds to wait; None = until there is one.

        Returns:
            A record for `Replies.add`; None if no call is in flight, or none ended in time.

        Raises:
            EsrError: the host failed. Raised after the replies that it wrote before.
        """
        while self._reading:
            reply = self.host.next_reply(timeout)
            if reply is None:
                return None
            if isinstance(reply, Written) and reply.id in self._reading:
                return self._record(reply, self._reading.pop(reply.id))
            # Other replies are to calls that were given up.
        return None

    def _record(self, reply: Written, read: int) -> dict[str, Any]:
        """A reply as it is journaled; the seconds since the one before are its share."""
        settings, now = self.settings, time.monotonic()
        seconds, self._last = now - self._last, now
        revision = settings.revision
        body = {
            "model": settings.model if revision is None else f"{settings.model}@{revision[:12]}",
            "text": reply.text,
            "finish_reason": reply.finish_reason,
            "usage": {"prompt_tokens": read, "completion_tokens": reply.tokens},
            "passes": reply.passes,
            "device_seconds": round(seconds * self.devices, 3),
            "engine": f"vllm {self.host.version}",
            "platform": self.host.facts.get("platform"),
        }
        return {
            "key": reply.id,
            "identity": identity_of(settings),
            "temperature": settings.temperature,
            "batch": None,
            "request_id": None,
            "raw": json.dumps(body),
        }

    def close(self) -> None:
        """End the host, if it runs."""
        if "host" in vars(self):
            self.host.close()
            del self.host  # the next call starts another
        self._reading = {}


def open_local(config: Config, settings: VllmJudgeConfig, *, beside: int = 0) -> LocalModel:
    """Prepare the model of a judge with the hardware that the study gives it.

    Its host stays for the next job that needs the same one (`esr.engines.hosts.linger`), unless it
    is beside an engine and its GPUs are not known by name.

    Args:
        config: The study.
        settings: The judge.
        beside: GPUs of this job, the first ones, that belong to an engine.
    """

    def connect() -> VllmConnection:
        environment = Path("envs") / config.judge_environment(settings)
        version = pinned_version(environment)
        setup = writer_setup(config, settings)
        variables = judge_variables(config, settings, beside)
        gpus = config.judge_gpus(settings)
        on_gpus = gpu_devices(beside, gpus) if beside else gpu_devices()
        devices = on_gpus if gpus else (CPU,)
        if not gpus:
            check_cpu_cache(settings)
        may_stay = not beside or "*" not in devices
        seconds = config.linger(on_cpu=not gpus) if may_stay else 0
        parts = (setup, variables, str(environment.absolute()), version)
        stay = stay_of(seconds, devices, [Path(settings.source)], *parts)
        if stay is None:
            evict(devices)  # a host that stays makes room for itself, unless one is there
        return VllmConnection(
            setup,
            launcher(environment, variables),
            environment=environment,
            version=version,
            keys=KEYS,
            stay=stay,
        )

    devices = max(config.judge_gpus(settings), 1)
    return LocalModel(settings, connect, devices, early=beside > 0)


NGRAMS = {"prompt_lookup_max": 4, "prompt_lookup_min": 2}
"""Lengths of the n-grams of prompt lookup."""


def lookup_options(settings: VllmJudgeConfig) -> dict[str, Any]:
    """Arguments of vLLM for prompt lookup: drafts are copied from the call or the reply so far.

    A draft is what followed the last 4 tokens elsewhere; where these occur nowhere else, the last
    3 or 2. At temperature 0 a draft is kept only where it is what the model writes anyway.

    Source: Saxena (2023), Prompt Lookup Decoding; Leviathan et al. (2023), arXiv 2211.17192.
    """
    if not settings.prompt_lookup:
        return {}
    drafts = {"method": "ngram", "num_speculative_tokens": settings.prompt_lookup}
    return {"speculative_config": drafts | NGRAMS}


def precision_options(settings: VllmJudgeConfig) -> dict[str, Any]:
    """Arguments of vLLM for the precision of weights and cache, where these are not `dtype`."""
    options = {"quantization": settings.quantization, "kv_cache_dtype": settings.kv_cache}
    return {name: value for name, value in options.items() if value is not None}


def writer_setup(config: Config, settings: VllmJudgeConfig) -> WriterSetup:
    """What the host of a judge loads."""
    gpus = config.judge_gpus(settings)
    options: dict[str, Any] = {"enforce_eager": settings.eager}
    options |= precision_options(settings) | lookup_options(settings)
    if gpus:
        options["tensor_parallel_size"] = gpus
        options["gpu_memory_utilization"] = settings.memory_fraction
    else:
        options["kv_cache_memory_bytes"] = round(settings.cpu_cache * 2**30)
    return WriterSetup(
        source=settings.source,
        revision=settings.revision,
        dtype=settings.dtype,
        n_requests=settings.batch_size,
        max_model_len=settings.max_model_len,
        options=options,
    )


def check_cpu_cache(settings: VllmJudgeConfig) -> None:
    """Check that this CPU can hold the cache of a judge in the precision that is asked for.

    Raises:
        EsrError: vLLM's kernels for fp8 need AVX-512, which it lacks.
    """
    from torch.backends.cpu import get_cpu_capability

    capability = get_cpu_capability()
    if settings.kv_cache is not None and capability != "AVX512":
        raise EsrError(
            f"judge {settings.source}: kv_cache: {settings.kv_cache} takes AVX-512 on a CPU, and "
            f"this one has {capability}; set judging.judges.<judge>.kv_cache: null (its replies "
            "then have other keys), or run the judge on a GPU"
        )


def judge_variables(config: Config, settings: VllmJudgeConfig, beside: int) -> dict[str, str]:
    """Environment variables of the host of a judge: threads, and the GPUs that it sees."""
    gpus = config.judge_gpus(settings)
    variables = host_variables(config, on_cpu=not gpus, eager=settings.eager)
    if gpus:
        variables |= visible_gpus(os.environ.get("CUDA_VISIBLE_DEVICES"), beside, gpus)
    return variables


KEYS = {
    "engine.vllm.": "judging.judges.<judge>.",
    "models.<model>.batch_size": "judging.judges.<judge>.batch_size",
    "models.<model>.": "judging.judges.<judge>.",
}
"""Keys of the engine in remedies, and those of a judge in their place."""


def visible_gpus(visible: str | None, beside: int, gpus: int) -> dict[str, str]:
    """Environment variable that leaves a host its GPUs, after those of the engine beside it.

    Raises:
        EsrError: the job has too few GPUs.
    """
    if not beside:
        return {}
    listed: Sequence[str] = visible.split(",") if visible else list(map(str, range(beside + gpus)))
    if len(listed) < beside + gpus:
        raise EsrError(
            f"the job has {len(listed)} GPUs, but engine and judge need {beside} and {gpus}; "
            "request more (`jobs`), or set the judge's `gpus_in_search: shared`"
        )
    return {"CUDA_VISIBLE_DEVICES": ",".join(listed[beside : beside + gpus])}

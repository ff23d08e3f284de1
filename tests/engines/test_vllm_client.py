"""The client of the vLLM engine, against a fake host; without vLLM."""

import socket
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from esr.engines.base import Generation, Intervention, Request, Sampling, generate_all
from esr.engines.hosts.messages import Failed, Ready
from esr.engines.journaled import JournaledStream, generate_journaled
from esr.engines.vllm.client import VllmEngine
from esr.engines.vllm.messages import Generate, Generated, Setup
from esr.errors import EsrError
from esr.journal import Journal

SAMPLING = Sampling(temperature=0, max_new_tokens=8)
REQUESTS = [Request((2, 3), seed) for seed in range(3)]


def echo(job: Generate) -> list[Generated]:
    """Reply to a job with its seed."""
    return [Generated(job.id, (job.request.seed, 1), "stop")]


class FakeHost:
    """Receives `n_jobs` jobs, then sends a message for each script entry, and exits.

    An entry is a message, or makes one from the job of the same index.
    """

    def __init__(self, script: Sequence[Any], n_jobs: int = 1) -> None:
        self.script = script
        self.n_jobs = n_jobs
        self.thread: threading.Thread | None = None

    def __call__(self, theirs: socket.socket) -> None:
        connection = Connection(theirs.dup().detach())

        def work() -> None:
            with connection:
                assert isinstance(connection.recv(), Setup)
                connection.send(Ready("0.32.0", {"fake": True}))
                jobs = [connection.recv() for _ in range(self.n_jobs)]
                for number, entry in enumerate(self.script):
                    connection.send(entry(jobs[number]) if callable(entry) else entry)

        self.thread = threading.Thread(target=work, daemon=True)
        self.thread.start()

    def wait(self) -> None:
        assert self.thread is not None
        self.thread.join(timeout=10)


def open_engine(
    host: Callable[[socket.socket], None] | None = None,
    max_model_len: int = 16,
    max_positions: int = 32,
) -> VllmEngine:
    settings: dict[str, Any] = dict.fromkeys(Setup.__dataclass_fields__)
    return VllmEngine(
        Setup(
            **settings
            | {"max_model_len": max_model_len, "n_ablated": 4, "steer_layer": 3, "ablate_layer": 3}
            | {"add_layers": (5,), "encode_layers": ()}
        ),
        host or FakeHost([]),
        d_sae=10,
        max_positions=max_positions,
        stop_tokens=(1,),
        identity={},
        environment=Path("envs/serve"),
        version="0.32.0",
    )


def job(number: int) -> Generate:
    return Generate(f"id{number}", REQUESTS[number], SAMPLING, (1,))


def test_replies_find_their_requests_in_any_order() -> None:
    held: list[Generated] = []

    def hold(job: Generate) -> list[Generated]:
        held.extend(echo(job))
        return []

    def release(job: Generate) -> list[Generated]:
        return echo(job) + held

    engine = open_engine(FakeHost([hold, release], n_jobs=2))
    done = generate_all(engine, REQUESTS[:2], SAMPLING)
    assert done == [Generation((0, 1), "stop"), Generation((1, 1), "stop")]


def test_a_reply_to_an_abandoned_stream_is_ignored() -> None:
    stale = Generated("abandoned", (7,), "stop")
    engine = open_engine(FakeHost([lambda job: [stale, *echo(job)]]))
    assert generate_all(engine, REQUESTS[2:], SAMPLING) == [Generation((2, 1), "stop")]


class TestAHostThatFails:
    def test_its_last_messages_are_received_after_sending_has_failed(self) -> None:
        replies = [Generated("id0", (5, 1), "stop"), Generated("id1", (6, 1), "stop")]
        host = FakeHost([[replies[0]], [replies[1]], Failed("ValueError: the cause")])
        engine = open_engine(host)
        engine.submit(job(0))
        host.wait()
        for number in (1, 2):
            engine.submit(job(number))  # the host is gone
        assert [engine.next_reply(), engine.next_reply()] == replies
        for _ in range(2):
            with pytest.raises(EsrError, match="vLLM failed: ValueError: the cause"):
                engine.next_reply(timeout=0.1)
        with pytest.raises(EsrError, match="vLLM failed: ValueError: the cause"):
            engine.status()

    def test_finished_responses_are_in_the_journal(self, tmp_path: Path) -> None:
        host = FakeHost([echo, Failed("ValueError: the cause")], n_jobs=2)
        with Journal(tmp_path / "journal.jsonl") as journal:
            stream = JournaledStream(open_engine(host), SAMPLING, journal)
            ids = [stream.submit([request])[0] for request in REQUESTS[:2]]
            results = stream.results()
            assert next(results) == (ids[0], Generation((0, 1), "stop"))
            assert list(journal) == ids[:1]
            with pytest.raises(EsrError, match="the cause"):
                next(results)

    def test_one_that_exits_without_a_message(self) -> None:
        host = FakeHost([])
        engine = open_engine(host)
        engine.submit(job(0))
        host.wait()
        engine.submit(job(1))
        with pytest.raises(EsrError, match="the vLLM process exited without an error message"):
            engine.next_reply()


class TestRemedies:
    """Messages of vLLM 0.32, and our remedies."""

    @pytest.mark.parametrize(
        ("message", "keys"),
        [
            (
                "OutOfMemoryError: CUDA out of memory. Tried to allocate 1.96 GiB. GPU 0 has a "
                "total capacity of 79.18 GiB of which 1.12 GiB is free. Including non-PyTorch "
                "memory, this process has 78.05 GiB memory in use.",
                [
                    "models.<model>.tensor_parallel",
                    "models.<model>.quantization",
                    "engine.vllm.memory_fraction",
                    "models.<model>.batch_size",
                ],
            ),
            (
                "ValueError: To serve at least one request with the models's max seq len (4096), "
                "(1.25 GiB KV cache is needed, which is larger than the available KV cache memory",
                [
                    "engine.vllm.memory_fraction",
                    "engine.vllm.cpu_cache",
                    "engine.vllm.max_model_len",
                ],
            ),
            (
                "NotImplementedError: FP8 KV cache requires head_size divisible by 32 on CPU.",
                ["judging.judges.<judge>.kv_cache: null"],
            ),
            (
                "ValueError: Selected backend TRITON_ATTN is not valid for this configuration. "
                "Reason: ['kv_cache_dtype not supported']",
                ["judging.judges.<judge>.kv_cache: null"],
            ),
            (
                "ValueError: No available memory for the cache blocks. Try increasing "
                "`gpu_memory_utilization` when initializing the engine",
                [
                    "engine.vllm.memory_fraction",
                    "engine.vllm.cpu_cache",
                    "models.<model>.batch_size",
                ],
            ),
            (
                "ValueError: Free memory on device cuda:0 (3.2/79.18 GiB) on startup is less than "
                "desired GPU memory utilization (0.85, 67.3 GiB).",
                ["another process uses this GPU", "engine.vllm.memory_fraction"],
            ),
            (
                "ValidationError: 1 validation error for ModelConfig\n  Value error, Model "
                "architectures ['Gemma3ForConditionalGeneration'] failed to be inspected",
                ["torchvision, which envs/serve has", "a GPU in `jobs`"],
            ),
            (
                "RuntimeError: esr: Runner has no method prepare(): vLLM's internals changed",
                ["uv sync --project envs/serve"],
            ),
        ],
        ids=[
            "memory",
            "cache",
            "heads",
            "gpu",
            "blocks",
            "shared",
            "torchvision",
            "internals",
        ],
    )
    def test_an_error_names_the_keys(self, message: str, keys: list[str]) -> None:
        engine = open_engine(FakeHost([Failed(message)]))
        engine.submit(job(0))
        with pytest.raises(EsrError) as error:
            engine.next_reply()
        assert str(error.value).startswith(f"vLLM failed: {message.rstrip('.')}; ")
        assert all(key in str(error.value) for key in keys)

    @pytest.mark.parametrize(
        ("max_positions", "bound"),
        [
            (32, r"exceed engine\.vllm\.max_model_len \(16\); raise it"),
            (16, "exceed the 16 positions that the model supports; shorten the prompt or"),
        ],
        ids=["setting", "model"],
    )
    def test_the_error_for_a_long_prompt_names_the_bound(
        self, max_positions: int, bound: str
    ) -> None:
        stream = open_engine(max_positions=max_positions).stream(SAMPLING)
        stream.submit({"a": Request((2,) * 8, 1)})
        with pytest.raises(EsrError, match=f"a prompt of 9 tokens and 8 new tokens {bound}"):
            stream.submit({"b": Request((2,) * 9, 1)})


def test_a_boost_that_is_not_finite_is_an_error_before_any_compute(tmp_path: Path) -> None:
    engine = open_engine()
    bad = Request((2, 3), 1, Intervention(3, float("nan")))
    with Journal(tmp_path / "journal.jsonl") as journal:
        with pytest.raises(EsrError, match="boost nan of latent 3 is not a finite number"):
            generate_journaled(engine, [*REQUESTS, bad], SAMPLING, journal)
        assert len(journal) == 0
    assert engine.facts == {}

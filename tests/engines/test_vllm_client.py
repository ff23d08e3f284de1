"""The vLLM engine as jobs see it, against a host that is made up; without vLLM."""

import socket
import threading
from collections.abc import Iterable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from esr.engines.base import Generation, Intervention, Request, Sampling
from esr.engines.journaled import JournaledStream, generate_journaled
from esr.engines.vllm.client import VllmEngine
from esr.engines.vllm.messages import Failed, Generate, Generated, Ready, Setup
from esr.errors import EsrError
from esr.journal import Journal

SAMPLING = Sampling(temperature=0, max_new_tokens=8)
REQUESTS = [Request((2, 3), seed) for seed in range(3)]


class MadeUpHost:
    """Reads an order, says what it was told to, and is gone."""

    def __init__(self, sayings: Iterable[Any]) -> None:
        self.sayings = sayings
        self.thread: threading.Thread | None = None

    def __call__(self, theirs: socket.socket) -> None:
        connection = Connection(theirs.dup().detach())

        def work() -> None:
            with connection:
                assert isinstance(connection.recv(), Setup)
                connection.send(Ready("0.32.0", {"made": "up"}))
                connection.recv()
                for saying in self.sayings:
                    connection.send(saying)

        self.thread = threading.Thread(target=work, daemon=True)
        self.thread.start()

    def wait(self) -> None:
        assert self.thread is not None
        self.thread.join(timeout=10)


def made(host: Any = None, max_model_len: int = 16, made_for: int = 32) -> VllmEngine:
    settings: dict[str, Any] = dict.fromkeys(Setup.__dataclass_fields__)
    return VllmEngine(
        Setup(**settings | {"max_model_len": max_model_len, "n_ablated": 4}),
        host or MadeUpHost([]),
        d_sae=10,
        made_for=made_for,
        stops=(1,),
        identity={},
        environment=Path("envs/serve"),
        version="0.32.0",
    )


def order(engine: VllmEngine, request: Request) -> None:
    engine.order(partial(Generate, request=request, sampling=SAMPLING, stops=(1,)))


class TestAHostThatFails:
    ANSWERS = (Generated(1, (5, 1), "stop"), Generated(2, (6, 1), "stop"))

    def test_what_it_said_last_is_heard_though_it_can_be_told_nothing_more(self) -> None:
        first, second = self.ANSWERS
        host = MadeUpHost([[first], [second], Failed("ValueError: the cause")])
        engine = made(host)
        order(engine, REQUESTS[0])
        host.wait()
        for request in REQUESTS[1:]:
            order(engine, request)  # to nobody
        assert [engine.reply(), engine.reply()] == [first, second]
        for _ in range(2):
            with pytest.raises(EsrError, match="vLLM failed: ValueError: the cause"):
                engine.reply(patience=0.1)
        with pytest.raises(EsrError, match="vLLM failed: ValueError: the cause"):
            engine.inquire()

    def test_what_it_had_finished_is_in_the_journal(self, tmp_path: Path) -> None:
        host = MadeUpHost([self.ANSWERS[:1], Failed("ValueError: the cause")])
        with Journal(tmp_path / "journal.jsonl") as journal:
            stream = JournaledStream(made(host), SAMPLING, journal)
            for number, request in enumerate(REQUESTS[:2]):
                stream.submit(number, [request])
            results = stream.results()
            assert next(results) == (0, [Generation((5, 1), "stop")])
            assert len(journal) == 1
            with pytest.raises(EsrError, match="the cause"):
                next(results)

    def test_one_that_is_gone_without_a_word_is_said_to_be_gone(self) -> None:
        host = MadeUpHost([])
        engine = made(host)
        order(engine, REQUESTS[0])
        host.wait()
        order(engine, REQUESTS[1])
        with pytest.raises(EsrError, match="the vLLM process is gone"):
            engine.reply()


class TestRemedies:
    """vLLM's own words (0.32), and what is to be done about them."""

    @pytest.mark.parametrize(
        ("words", "keys"),
        [
            (
                "OutOfMemoryError: CUDA out of memory. Tried to allocate 1.96 GiB. GPU 0 has a "
                "total capacity of 79.18 GiB of which 1.12 GiB is free. Including non-PyTorch "
                "memory, this process has 78.05 GiB memory in use.",
                [
                    "models.<model>.tensor_parallel",
                    "models.<model>.quantization",
                    "engine.vllm.memory_fraction",
                    "engine.batch_size",
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
                "ValueError: No available memory for the cache blocks. Try increasing "
                "`gpu_memory_utilization` when initializing the engine",
                ["engine.vllm.memory_fraction", "engine.vllm.cpu_cache", "engine.batch_size"],
            ),
            (
                "ValueError: Free memory on device cuda:0 (3.2/79.18 GiB) on startup is less than "
                "desired GPU memory utilization (0.85, 67.3 GiB).",
                ["something else uses this GPU", "engine.vllm.memory_fraction"],
            ),
            (
                "ValidationError: 1 validation error for ModelConfig\n  Value error, Model "
                "architectures ['Gemma3ForConditionalGeneration'] failed to be inspected",
                ["torchvision, which envs/serve has", "a GPU in `jobs`"],
            ),
            (
                "RuntimeError: esr: Runner has no prepare() any more: vLLM has moved",
                ["uv sync --project envs/serve"],
            ),
        ],
        ids=["memory", "cache", "blocks", "shared", "sight", "moved"],
    )
    def test_an_error_names_the_keys(self, words: str, keys: list[str]) -> None:
        engine = made(MadeUpHost([Failed(words)]))
        order(engine, REQUESTS[0])
        with pytest.raises(EsrError) as error:
            engine.reply()
        assert str(error.value).startswith(f"vLLM failed: {words.rstrip('.')}; ")
        assert all(key in str(error.value) for key in keys)

    @pytest.mark.parametrize(
        ("made_for", "said"),
        [
            (32, r"do not fit engine\.vllm\.max_model_len \(16\); raise it"),
            (16, "do not fit the 16 positions that the model is made for; shorten the prompt or"),
        ],
        ids=["setting", "model"],
    )
    def test_a_prompt_that_is_too_long_names_the_bound_that_held(
        self, made_for: int, said: str
    ) -> None:
        stream = made(made_for=made_for).stream(SAMPLING)
        stream.submit(0, [Request((2,) * 8, 1)])
        with pytest.raises(EsrError, match=f"a prompt of 9 tokens and 8 new ones {said}"):
            stream.submit(1, [Request((2,) * 9, 1)])


def test_a_boost_that_is_no_number_is_named_and_nothing_is_computed(tmp_path: Path) -> None:
    engine = made()
    bad = Request((2, 3), 1, Intervention(3, float("nan")))
    with Journal(tmp_path / "journal.jsonl") as journal:
        with pytest.raises(EsrError, match="boost nan of latent 3 is not a finite number"):
            generate_journaled(engine, [*REQUESTS, bad], SAMPLING, journal)
        assert len(journal) == 0
    assert engine.facts == {}

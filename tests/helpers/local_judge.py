"""A judge that the workflow runs: a tiny random model, its rubric, and a fake host for it."""

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, Qwen3Config

from esr.config import VllmJudgeConfig
from esr.engines.hosts.linger import Launch
from esr.engines.hosts.messages import Failed, Ready
from esr.engines.vllm.connection import VllmConnection
from esr.engines.vllm.messages import Write, WriterSetup, Written
from esr.judges.local import KEYS, LocalModel, lookup_options, precision_options
from helpers.tokenizers import byte_level

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] }}<|eot_id|>{% endfor %}<|start_header_id|>assistant<|end_header_id|>\n\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
)
RUBRIC = """\
version: 1
quotes: opening
expected: {fixed: 20}
reply:
  type: object
  additionalProperties: false
  required: [attempts]
  properties:
    attempts:
      type: array
      minItems: 1
      maxItems: 2
      items:
        type: object
        additionalProperties: false
        required: [text, score]
        properties:
          text: {type: string, minLength: 1, maxLength: 8}
          score: {type: integer, minimum: 0, maximum: 100}
system: Find the attempts and score them.
user: |
  $prompt
  $response
"""
"""Bounded, since a random model would never end a text of its own accord."""


def tiny_judge(folder: Path) -> Path:
    """Write a random model of 2 layers with a byte-level tokenizer; its folder."""
    words = ["Explain how to bake bread. Wait, that's not right. attempts text score"]
    tokenizer = byte_level(TEMPLATE, words, "<|eot_id|>")
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=1024,
        initializer_range=0.2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    return folder


def judge_settings(source: Path, **changes: Any) -> VllmJudgeConfig:
    """Settings of such a judge; its rubric lies in the same folder."""
    rubric = source / "tiny.yaml"
    rubric.write_text(RUBRIC)
    facts = {"kind": "vllm", "source": str(source), "rubric": rubric, "parameters": 1e5}
    facts |= {"dtype": "float32", "max_model_len": 512, "max_tokens": 100}
    return VllmJudgeConfig.model_validate(facts | changes)


def local_model(
    settings: VllmJudgeConfig,
    launch: Launch,
    environment: Path,
    version: str,
    *,
    early: bool = False,
) -> LocalModel:
    """The model of a judge, in the host that `launch` starts; `early` as of `LocalModel`."""

    def connect() -> VllmConnection:
        options: dict[str, Any] = {"enforce_eager": True, "kv_cache_memory_bytes": 2**26}
        options |= precision_options(settings) | lookup_options(settings)
        setup = WriterSetup(settings.source, None, settings.dtype, 32, 512, options)
        return VllmConnection(setup, launch, environment=environment, version=version, keys=KEYS)

    return LocalModel(settings, connect, 1, early=early)


class FakeHost:
    """Replies to each call with `reply(call)`; after `until` replies it fails.

    With a journal in `kill_at` it kills the job instead, once the journal has these replies.
    """

    def __init__(
        self,
        reply: Callable[[Write], Written],
        until: int | None = None,
        kill_at: Path | None = None,
    ) -> None:
        self.reply, self.until, self.kill_at = reply, until, kill_at
        self.calls: list[Write] = []

    def __call__(self, theirs: socket.socket) -> None:
        connection = Connection(theirs.dup().detach())
        threading.Thread(target=self._work, args=[connection], daemon=True).start()

    def _work(self, connection: Connection) -> None:
        with connection:
            assert isinstance(connection.recv(), WriterSetup)
            connection.send(Ready("0.32.0", {"platform": "fake"}))
            while True:
                try:
                    call = connection.recv()
                except (EOFError, OSError):
                    return
                if len(self.calls) == self.until:
                    if self.kill_at is not None:
                        while self.kill_at.read_text().count('"raw"') < len(self.calls):
                            time.sleep(0.01)
                        os.kill(os.getpid(), signal.SIGKILL)
                    connection.send(Failed("CUDA error: out of memory"))
                    return
                self.calls.append(call)
                connection.send([self.reply(call)])


class HeldHost:
    """Holds its replies until `end` writes one of them, whatever came before or after it.

    `arrived` counts the calls that it was sent.
    """

    def __init__(self, reply: Callable[[Write], Written]) -> None:
        self.reply = reply
        self.calls: dict[str, Write] = {}
        self.arrived = threading.Condition()
        self._connection: Connection | None = None

    def __call__(self, theirs: socket.socket) -> None:
        self._connection = Connection(theirs.dup().detach())
        threading.Thread(target=self._work, args=[self._connection], daemon=True).start()

    def _work(self, connection: Connection) -> None:
        assert isinstance(connection.recv(), WriterSetup)
        connection.send(Ready("0.32.0", {"platform": "fake"}))
        with contextlib.suppress(EOFError, OSError):
            while True:
                call = connection.recv()
                with self.arrived:
                    self.calls[call.id] = call
                    self.arrived.notify_all()

    def wait_for(self, count: int) -> list[str]:
        """Wait until so many calls are held; their ids, in order of arrival."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.calls) >= count, timeout=20)
            return list(self.calls)

    def end(self, *ids: str) -> None:
        """Write the replies to some calls."""
        assert self._connection is not None
        for one in ids:
            self._connection.send([self.reply(self.calls.pop(one))])

    def fail(self) -> None:
        """Fail with everything that is held."""
        assert self._connection is not None
        self._connection.send(Failed("CUDA error: out of memory"))
        self._connection.close()

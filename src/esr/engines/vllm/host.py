"""The process with vLLM in it: takes orders from the client, hands back what is finished.

Started by `esr.engines.vllm.client` as `python -m esr.engines.vllm.host <file descriptor>` in the
environment that has vLLM. With `--nursery` it imports vLLM once and forks a host for every socket
that it is sent: how tests start many engines in the time of one.

It ends when the client does: the socket closes.
"""

import logging
import os
import socket
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

QUIET = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    # One process: nobody else keeps the device busy, and a dead host leaves nothing behind.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "TOKENIZERS_PARALLELISM": "false",
}
for _name, _value in QUIET.items():
    os.environ.setdefault(_name, _value)

import vllm  # noqa: E402
from vllm import SamplingParams  # noqa: E402
from vllm.engine.arg_utils import EngineArgs  # noqa: E402
from vllm.lora.request import LoRARequest  # noqa: E402
from vllm.platforms import current_platform  # noqa: E402
from vllm.sampling_params import RequestOutputKind  # noqa: E402
from vllm.usage.usage_lib import UsageContext  # noqa: E402
from vllm.v1.engine.llm_engine import LLMEngine  # noqa: E402

from esr.engines.vllm.messages import (  # noqa: E402
    Activations,
    Encode,
    Failed,
    Generate,
    Generated,
    Order,
    Ready,
    Reply,
    Setup,
    StatusRequest,
)

log = logging.getLogger("esr.vllm")


class DidNotStartError(Exception):
    """Why vLLM did not start."""


class Host:
    """An engine, and the orders that it has not finished."""

    def __init__(self, setup: Setup) -> None:
        """Start vLLM.

        Raises:
            DidNotStartError: in the words of the first worker that failed, if one did.
        """
        self.setup = setup
        with tempfile.TemporaryDirectory(prefix="esr-vllm-") as notes:
            try:
                self.engine = _engine(replace(setup, notes=notes))
            except Exception as error:
                raise DidNotStartError(_first_note(Path(notes)) or _named(error)) from error
        self.adapter = LoRARequest("adapter", 1, setup.adapter) if setup.adapter else None
        self.orders: dict[str, Order] = {}
        self.reading = False
        self.cached_tokens = 0

    def facts(self) -> dict[str, Any]:
        """What the first worker says of itself, where it is, and what the prefix cache spared."""
        return self.engine.collective_rpc("esr_facts")[0] | {
            "platform": current_platform.device_name,
            "cached_tokens": self.cached_tokens,
        }

    def submit(self, order: Order) -> None:
        """Hand an order to vLLM."""
        name = str(order.number)
        self.orders[name] = order
        if isinstance(order, Generate):
            what, tokens = order.request.intervention, order.request.tokens
            params = self._sampling(order)
        else:
            what, tokens = order.reading.intervention, order.reading.tokens
            if not self.reading:
                self.engine.collective_rpc("esr_open_readers")
                self.reading = True
            params = SamplingParams(
                temperature=0,
                max_tokens=1,
                detokenize=False,
                # A cached prefix is not computed, and what is not computed is not read.
                skip_reading_prefix_cache=True,
            )
        told: dict[str, Any] = {
            "order": order.number,
            "intervention": (what.latent, what.boost, tuple(what.ablated)),
        }
        if isinstance(order, Encode):
            read = {"latents": order.latents, "pool": order.pool, "start": order.reading.start}
            told["read"] = read
        params.extra_args = {"esr": told}
        params.output_kind = RequestOutputKind.FINAL_ONLY
        prompt: dict[str, Any] = {"prompt_token_ids": list(tokens)}
        if self.setup.prefix_caching:
            # What is cached was computed under an intervention, and is of use under no other.
            prompt["cache_salt"] = repr(told["intervention"])
        self.engine.add_request(name, prompt, params, lora_request=self.adapter)

    def step(self) -> list[Reply]:
        """Advance all running requests by a step; what is finished is checked and handed over."""
        finished = [output for output in self.engine.step() if output.finished]
        if not finished:
            return []
        self.cached_tokens += sum(output.num_cached_tokens or 0 for output in finished)
        orders = [self.orders.pop(output.request_id) for output in finished]
        read = [order.number for order in orders if isinstance(order, Encode)]
        numbers = [order.number for order in orders]
        answers = self.engine.collective_rpc("esr_finished", args=(numbers, read))
        unsound = [any(flags) for flags in zip(*(a["unsound"] for a in answers), strict=True)]
        if any(unsound):
            self._cleanse()
        acts = iter(answers[0].get("read", ()))
        replies: list[Reply] = []
        for output, order, bad in zip(finished, orders, unsound, strict=True):
            if isinstance(order, Encode):
                data, shape = next(acts)
                replies.append(Activations(order.number, data, tuple(shape)))
            else:
                replies.append(_generated(order, output.outputs[0], bad))
        return replies

    def _cleanse(self) -> None:
        """See to it that what is not finite of one request never reaches another."""
        if self.setup.prefix_caching and not self.engine.reset_prefix_cache(True):
            raise RuntimeError("esr: the prefix cache could not be emptied")
        self.engine.collective_rpc("esr_cleanse")

    @staticmethod
    def _sampling(order: Generate) -> SamplingParams:
        sampling = order.sampling
        return SamplingParams(
            temperature=sampling.temperature,
            max_tokens=sampling.max_new_tokens,
            repetition_penalty=sampling.repetition_penalty,
            seed=order.request.seed,
            stop_token_ids=list(order.stops),
            ignore_eos=True,  # what ends a turn is said by `stops` alone
            logprobs=0 if order.logprobs else None,
            detokenize=False,
        )


def _engine(setup: Setup) -> LLMEngine:
    settings: dict[str, Any] = {
        "model": setup.source,
        "revision": setup.revision,
        "dtype": setup.dtype,
        "max_model_len": setup.max_model_len,
        "max_num_seqs": setup.n_requests,
        "enable_prefix_caching": setup.prefix_caching,
        "enable_lora": setup.adapter is not None,
        "skip_tokenizer_init": True,
        "generation_config": "vllm",
        "language_model_only": True,  # of a model that sees, too: no tower, no image processor
        "worker_cls": "esr.engines.vllm.worker.SteeringWorker",
        "disable_log_stats": True,
    }
    arguments = EngineArgs(**settings | setup.options, additional_config=setup)
    # By the context vLLM chooses how many tokens to compute in a step: for work done in bulk,
    # as for its `LLM` class, two to eight times those of the default.
    return LLMEngine.from_engine_args(arguments, UsageContext.LLM_CLASS)


def _first_note(folder: Path) -> str:
    """What the first worker that failed wrote; empty if none did."""
    notes = sorted(folder.iterdir(), key=lambda note: note.stat().st_mtime)
    return next((text for text in (note.read_text() for note in notes) if text), "")


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _generated(order: Generate, output: Any, unsound: bool) -> Generated:
    if unsound:
        return Generated(order.number, (), "error")
    tokens = tuple(output.token_ids)
    reason = output.finish_reason
    if reason not in ("stop", "length"):
        raise RuntimeError(f"esr: a request ended for the reason {reason!r}")
    chosen = zip(tokens, output.logprobs or (), strict=False)
    return Generated(
        order.number, tokens, reason, tuple(found[token].logprob for token, found in chosen)
    )


def serve(connection: Connection) -> None:
    """Work off the orders of a client until it hangs up."""
    try:
        _work(connection)
    except Exception as error:
        log.exception("the engine is gone")
        why = str(error) if isinstance(error, DidNotStartError) else _named(error)
        _send(connection, Failed(why))
        os._exit(1)


def _work(connection: Connection) -> None:
    inbox: deque[Any] = deque()
    arrived = threading.Condition()

    def listen() -> None:
        while True:
            message = _recv(connection)
            with arrived:
                inbox.append(message)
                arrived.notify()

    host = Host(_recv(connection))
    _send(connection, Ready(vllm.__version__, host.facts()))
    threading.Thread(target=listen, daemon=True).start()
    while True:
        with arrived:
            while not inbox and not host.orders:
                arrived.wait()
            orders = list(inbox)
            inbox.clear()
        for order in orders:
            if isinstance(order, StatusRequest):
                _send(connection, Ready(vllm.__version__, host.facts()))
            else:
                host.submit(order)
        replies = host.step() if host.orders else []
        if replies:
            _send(connection, replies)


def _recv(connection: Connection) -> Any:
    """Wait for a message; without a client there is nobody to work for, so this ends at once."""
    try:
        return connection.recv()
    except (EOFError, OSError):
        os._exit(0)


def _send(connection: Connection, message: Any) -> None:
    try:
        connection.send(message)
    except OSError:
        os._exit(0)


def fork_server(control: socket.socket) -> None:
    """Fork a host for every socket that arrives, each with the variables that come with it."""
    import pickle
    import signal

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    while True:
        data, files, _, _ = socket.recv_fds(control, 1 << 16, 1)
        if not data:
            return
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            control.close()
            os.environ |= pickle.loads(data)
            serve(Connection(files[0]))
        os.close(files[0])


def main(arguments: Sequence[str]) -> None:
    """Serve one client, or be a nursery."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    if arguments[0] == "--nursery":
        fork_server(socket.socket(fileno=int(arguments[1])))
    else:
        serve(Connection(int(arguments[0])))


if __name__ == "__main__":
    main(sys.argv[1:])

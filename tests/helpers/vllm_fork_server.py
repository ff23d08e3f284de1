"""A process that imports vLLM once and forks a host for each socket that it receives.

Starting an engine then takes a second. Runs in the environment that has vLLM:

    python -m helpers.vllm_fork_server <file descriptor of a control socket>
"""

import gc
import os
import pickle
import signal
import socket
import sys
from typing import Any

gc.disable()  # until the host is imported, which enables it

import vllm  # noqa: E402
from vllm import SamplingParams  # noqa: E402

from esr.engines.hosts.serving import serve  # noqa: E402
from esr.engines.vllm.host import Host  # noqa: E402
from esr.engines.vllm.messages import Generate, Generated, Setup, SteeredJob, WriterSetup  # noqa: E402
from esr.engines.vllm.writer import Writer  # noqa: E402
from helpers.vllm_logprobs import FORKED_WORKERS, GeneratedWithLogprobs, GenerateWithLogprobs  # noqa: E402
from helpers.vllm_ready import fork_workers, load_late_parts  # noqa: E402


class LogprobHost(Host):
    """A host that also returns log-probabilities, if a job requests them."""

    def sampling_params(self, job: SteeredJob) -> SamplingParams:
        params = super().sampling_params(job)
        if isinstance(job, GenerateWithLogprobs):
            params.logprobs = 0  # of the sampled token alone
        return params

    def response(self, job: Generate, output: Any, nonfinite: bool) -> Generated:
        reply = super().response(job, output, nonfinite)
        if not isinstance(job, GenerateWithLogprobs):
            return reply
        found = zip(reply.tokens, output.logprobs or (), strict=False)
        logprobs = tuple(position[token].logprob for token, position in found)
        return GeneratedWithLogprobs(reply.id, reply.tokens, reply.finish_reason, logprobs)


def load_host(setup: Setup | WriterSetup) -> Host | Writer:
    """Start vLLM as the host does, with log-probabilities."""
    return Writer(setup) if isinstance(setup, WriterSetup) else LogprobHost(setup)


def main() -> None:
    """Fork until the control socket closes. Each socket comes with environment variables."""
    control = socket.socket(fileno=int(sys.argv[1]))
    gc.disable()
    load_late_parts()
    gc.enable()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps the hosts
    while True:
        data, files, _, _ = socket.recv_fds(control, 1 << 16, 1)
        if not data:
            os._exit(0)  # at once: to take vLLM apart takes seconds
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            control.close()
            os.environ |= pickle.loads(data)
            if FORKED_WORKERS in os.environ:
                fork_workers()
            serve(files[0], load_host, vllm.__version__)
        os.close(files[0])


if __name__ == "__main__":
    main()

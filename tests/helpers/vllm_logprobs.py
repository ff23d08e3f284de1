"""What goes to `vllm_fork_server` and back: jobs with log-probabilities, a variable of hosts."""

from dataclasses import dataclass

from esr.engines.vllm.messages import Generate, Generated

FORKED_WORKERS = "ESR_TEST_FORKED_WORKERS"
"""Environment variable of a host: it forks its workers of tensor parallelism."""


@dataclass(frozen=True)
class GenerateWithLogprobs(Generate):
    """Job: generate a response, with the log-probability of each of its tokens."""


@dataclass(frozen=True)
class GeneratedWithLogprobs(Generated):
    """Its reply."""

    logprobs: tuple[float, ...] = ()

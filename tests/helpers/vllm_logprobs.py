"""Messages to and from `vllm_fork_server`: generation with log-probabilities, for parity tests."""

from dataclasses import dataclass

from esr.engines.vllm.messages import Generate, Generated


@dataclass(frozen=True)
class GenerateWithLogprobs(Generate):
    """Job: generate a response, with the log-probability of each of its tokens."""


@dataclass(frozen=True)
class GeneratedWithLogprobs(Generated):
    """Its reply."""

    logprobs: tuple[float, ...] = ()

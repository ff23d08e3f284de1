"""The environment that has vLLM: its version, and how a host is started in it, without PyTorch."""

from pathlib import Path

from esr.assets.environments import pins, sync_command
from esr.config import Config
from esr.engines.hosts.launch import host_launcher
from esr.engines.hosts.linger import Launch
from esr.errors import EsrError


def host_variables(config: Config, *, on_cpu: bool, eager: bool) -> dict[str, str]:
    """Return the environment variables of a process that runs vLLM.

    Without compiled graphs vLLM still compiles the function that counts ranks of tokens. On a CPU
    this takes a C++ compiler, and 20 CPU seconds in a new environment.
    """
    variables = {"OMP_NUM_THREADS": str(config.engine.threads)}
    if on_cpu:
        variables["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"  # other jobs may use the cores
        if eager:
            variables["TORCHDYNAMO_DISABLE"] = "1"
    return variables


def pinned_version(environment: Path) -> str:
    """Return the version of vLLM that an environment pins."""
    found = pins(environment)
    return found.get("vllm") or found["vllm-cpu"]


def launcher(environment: Path, variables: dict[str, str]) -> Launch:
    """Return a function that starts a host in its own environment.

    It calls the interpreter of the environment directly, so that signals reach the host and a
    compute node needs no uv.

    Raises:
        EsrError: the environment is not installed.
    """
    python = environment / ".venv/bin/python"
    if not python.is_file():
        raise EsrError(
            f"{environment} is not installed; run `{sync_command(environment)}` on a machine with "
            "network access"
        )
    return host_launcher([str(python), "-m", "esr.engines.vllm.host"], variables)

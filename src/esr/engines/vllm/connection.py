"""The connection to a host that runs vLLM."""

from esr.engines.hosts.connection import HostConnection
from esr.engines.vllm.remedies import explain


class VllmConnection(HostConnection):
    """A host that runs vLLM. Its errors name keys of the configuration as remedies."""

    library = "vLLM"

    def explain(self, message: str) -> str:
        """An error of vLLM with its remedy."""
        return explain(message, self.environment, self.keys)

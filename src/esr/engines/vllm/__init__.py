"""The production engine: vLLM with an intervention per request inside its compiled graph.

There are two processes. The job runs `client.VllmEngine`, an engine as `esr.engines.base` defines
it, in the main environment. The client starts a host in `envs/serve` or `envs/serve-cpu`. The host
runs vLLM with our worker class. Both exchange `messages` over a socket pair. A request keeps one id
from end to end; with a journal, the id is its journal key.

    client         the engine that jobs use: checks, sends, collects
    launch         settings of the engine from a study's configuration
    environment    the environment that has vLLM, and how to start the host in it
    messages       what client and host exchange
    host           the process that runs vLLM
    worker         vLLM's worker class with our operation at the chosen decoder layers
    patches        the vLLM internals that the worker patches, and checks that they are unchanged
    interventions  the operation and the buffers that it reads
    slots          slots of these buffers
    encoding       SAE activations of prompts, chunk by chunk

Only `host` and `worker` import vLLM. The main environment imports neither.
"""

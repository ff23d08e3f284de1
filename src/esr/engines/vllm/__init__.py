"""The production engine: vLLM, steered request by request inside its compiled graph.

Two processes. The job's own (main environment) has `client.VllmEngine`, which speaks the protocol
of `esr.engines.base`; it starts a host (environment `envs/serve` or `envs/serve-cpu`), which runs
vLLM with our worker class. They exchange plain data (`wire`) over a socket pair.

    client   the engine as jobs see it: checks, submits, gathers
    opening  its arguments, from the configuration of a study, and the process to start
    wire     what the two processes say to each other
    host     the process with vLLM in it
    worker   vLLM's worker, with the chosen decoder layers made to call our operation
    hooks    how, and the checks that vLLM still is what it was
    sites    the operation and the buffers that it reads
    readers  SAE activations, gathered as prompts go by

Nothing here imports vLLM but `host` and `worker`, and neither is imported by the main environment.
"""

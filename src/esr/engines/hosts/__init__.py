"""Engine processes (hosts): their start, the connection to them, their loop, and how they stay.

Nothing here knows what a host computes: `esr.engines.vllm` and `esr.engines.remote` do.
"""

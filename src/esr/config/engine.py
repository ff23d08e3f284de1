"""How responses are sampled, what computes them, and what its jobs ask of a scheduler."""

from typing import Literal

from esr.config.section import Section, key


class GenerationConfig(Section):
    """How responses are sampled."""

    temperature: float = key(0.6, "Sampling temperature; 0 is greedy.", ge=0, source="paper 2.1")
    max_new_tokens: int = key(512, "Longest response.", unit="tokens", gt=0, source="paper 2.1")
    repetition_penalty: float = key(
        1.0,
        "Divides (multiplies) the positive (negative) logits of tokens seen before; 1 is off.",
        gt=0,
        source="January 1.0; published 1.1; released code 1.1-1.2 by model",
    )
    doubled_header: bool = key(
        False,
        "Append a second BOS and assistant header to Llama prompts, as the released code did.",
        source="released code; a bug, off unless reproducing it",
    )


class VllmConfig(Section):
    """What concerns the engine `vllm` alone."""

    memory_fraction: float = key(
        0.85,
        "Share of each GPU's memory that vLLM takes. The SAE has to fit beside it.",
        gt=0,
        lt=1,
    )
    cpu_cache: float = key(1, "KV cache where there is no GPU.", unit="GB", gt=0)
    max_model_len: int = key(
        4096, "Longest prompt and response together.", unit="tokens", gt=0, source="released code"
    )
    prefix_caching: bool = key(
        False,
        "Keep the cache of prompts for requests under the same intervention. What is read is never "
        "taken from it.",
        source="released code: off",
    )
    eager: bool = key(False, "Neither compile nor capture CUDA graphs: starts sooner, runs slower.")
    max_ablated: int = key(
        128, "Latents that a job may ablate, in all its trials together.", unit="latents", gt=0
    )


class EngineConfig(Section):
    """What computes the generations, and in which portions."""

    name: Literal["transformers", "vllm"] = key(
        "transformers",
        "`transformers`: exact, the same bytes again; `vllm`: continuous batches, fast.",
        source="paper: a fork of vLLM",
    )
    device: str = key(
        "auto",
        "`cpu`, `cuda`, `cuda:1`, ... or `auto`: CUDA if there is one (`vllm`: if `jobs` asks for "
        "GPUs for the model).",
    )
    batch_size: int = key(
        64,
        "Rows generated together. Part of what fixes the bytes of `transformers`; `vllm` runs up "
        "to so many at a time.",
        unit="trials",
        gt=0,
    )
    threads: int = key(1, "CPU threads an engine job uses.", gt=0)
    shards: int = key(
        1, "Jobs that the responses of an arm are divided over (`arms.<arm>.shards` wins).", gt=0
    )
    gpu: str | None = key(
        None,
        "The GPUs at hand, by name in resources/gpus.csv: `check` says what does not fit on them, "
        "`estimate` how long they take.",
    )
    vllm: VllmConfig = key(VllmConfig(), "The engine `vllm`.")


class JobSizeConfig(Section):
    """What an engine job asks of a scheduler, for models up to a size. Inert where there is none.

    A retry asks for half as much memory again. Generating and calibrating go on where they were cut
    off; reading and training begin anew, and each retry asks for as much time again.
    """

    parameters: float = key(..., "Largest model that this is for.", unit="parameters", gt=0)
    gpus: int = key(..., "GPUs of a job.", ge=0)
    cpus: int = key(
        1,
        "CPU cores of a job, if `threads` are not more: an engine's processes, its compiler and "
        "what we do with responses run on them.",
        gt=0,
    )
    memory: float = key(..., "Main memory: the weights pass through it.", unit="GB", gt=0)
    generate: float = key(..., "Time for a shard of an arm.", unit="hours", gt=0)
    calibrate: float = key(..., "Time for all thresholds of a model.", unit="hours", gt=0)
    read: float = key(..., "Time for reading activations of stored texts.", unit="hours", gt=0)
    train: float = key(4, "Time for fine-tuning on one mixture.", unit="hours", gt=0)

    def hours(self, rule: str, attempt: int = 1) -> float:
        """Hours that a job of a rule asks for, the first or a later time.

        A retry of a job with a journal goes on where it was cut off, in the same time; one that
        begins anew gets as much time again.
        """
        once: float = getattr(self, ENGINE_HOURS[rule])
        return once if rule in JOURNALED else once * attempt


ENGINE_HOURS = {
    "find_thresholds": "calibrate",
    "generate_responses": "generate",
    "measure_relevance": "read",
    "find_detectors": "read",
    "match_controls": "read",
    "read_episodes": "read",
    "train_adapter": "train",
}
"""Rules whose jobs run an engine, and which of the hours of a size they ask for."""
JOURNALED = ("find_thresholds", "generate_responses")
"""Those whose retries go on where a job was cut off; retries of the others begin anew."""

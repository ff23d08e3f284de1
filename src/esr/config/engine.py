"""Sampling of responses, the engine, and the resources that its jobs request."""

from typing import Literal

from esr.config.section import Section, key


class GenerationConfig(Section):
    """How responses are sampled."""

    temperature: float = key(
        0.6, "Sampling temperature; 0 is greedy.", ge=0, le=10, source="paper 2.1"
    )
    max_new_tokens: int = key(
        512, "Maximum length of a response.", unit="tokens", gt=0, le=1_000_000, source="paper 2.1"
    )
    repetition_penalty: float = key(
        1.0,
        "Divides the positive, and multiplies the negative, logits of tokens that occurred before; "
        "1 is off.",
        gt=0,
        le=100,
        source="January 1.0; published 1.1; released code 1.1-1.2 by model",
    )
    doubled_header: bool = key(
        False,
        "Append a second BOS and assistant header to Llama prompts, as the released code did.",
        source="released code; a bug, off unless reproducing it",
    )


class VllmConfig(Section):
    """Settings of the engine `vllm` alone."""

    memory_fraction: float = key(
        0.85,
        "Share of each GPU's memory that vLLM may use. The SAE has to fit beside it.",
        gt=0,
        lt=1,
    )
    cpu_cache: float = key(1, "KV cache when running on a CPU.", unit="GB", gt=0, le=100_000)
    max_model_len: int = key(
        4096,
        "Maximum length of prompt and response together.",
        unit="tokens",
        gt=0,
        le=10_000_000,
        source="released code",
    )
    prefix_caching: bool = key(
        False,
        "Cache prompts across requests under the same intervention. Readouts never come from the "
        "cache.",
        source="released code: off",
    )
    eager: bool = key(
        False, "Skip compilation and CUDA graphs: the engine starts sooner and runs slower."
    )
    max_ablated: int = key(
        128,
        "Maximum number of latents that one job may ablate, over all its trials.",
        unit="latents",
        gt=0,
        le=1_000_000,
    )


LINGER = 300.0
"""Seconds that an engine process waits for its next job, where the study does not say."""


class EngineConfig(Section):
    """What generates responses and encodes activations, and in which batches."""

    name: Literal["transformers", "vllm"] = key(
        "transformers",
        "`transformers`: exact and reproducible byte for byte; `vllm`: continuous batching, fast.",
        source="paper: a fork of vLLM",
    )
    device: str = key(
        "auto",
        "`cpu`, `cuda`, `cuda:1`, ... or `auto`: CUDA where it is available (`vllm`: where `jobs` "
        "requests GPUs for the model).",
    )
    batch_size: int = key(
        64,
        "Rows generated together. With `transformers`, the bytes of the results depend on it; "
        "`vllm` runs up to this many requests at a time.",
        unit="trials",
        gt=0,
        le=1_000_000,
    )
    threads: int = key(1, "CPU threads of an engine job.", gt=0, le=10_000)
    shards: int = key(
        1,
        "Number of jobs that generate the responses of an arm (`arms.<arm>.shards` overrides it).",
        gt=0,
        le=100_000,
    )
    linger: float | None = key(
        None,
        "How long an engine process waits for the next job of its run that needs the same model, "
        "SAE and settings (docs/engines.md); 0: it ends with its job; by default 300, but 0 with "
        "`transformers` on a CPU, which loads a model in less time than a process takes to start.",
        unit="seconds",
        ge=0,
        le=86_400,
    )
    gpu: str | None = key(
        None,
        "GPU type, by its name in resources/gpus.csv. `check` reports models that do not fit, "
        "`estimate` how long they take.",
    )
    vllm: VllmConfig = key(VllmConfig(), "The engine `vllm`.")


class JobSizeConfig(Section):
    """Resources that an engine job requests, for models up to a size. Unused without a scheduler.

    Each retry requests half as much memory again. Threshold searches and generation resume where
    they stopped. Encoding and training start over, and each retry requests as much time again.
    """

    max_parameters: float = key(
        ..., "Largest model that this entry applies to.", unit="parameters", gt=0, le=1e15
    )
    gpus: int = key(..., "GPUs per job.", ge=0, le=10_000)
    cpus: int = key(
        1,
        "CPU cores per job (at least `threads`): the engine's processes, its compiler and the "
        "judge's client run on them.",
        gt=0,
        le=10_000,
    )
    memory: float = key(
        ..., "Main memory; the weights pass through it.", unit="GB", gt=0, le=1_000_000
    )
    generate: float = key(..., "Time for one shard of an arm.", unit="hours", gt=0, le=8760)
    thresholds: float = key(..., "Time for all thresholds of a model.", unit="hours", gt=0, le=8760)
    encode: float = key(
        ..., "Time to encode stored texts with the SAE.", unit="hours", gt=0, le=8760
    )
    train: float = key(4, "Time to fine-tune on one mixture.", unit="hours", gt=0, le=8760)
    judge: float = key(
        24,
        "Time of a job that runs a judge of this size (`kind: vllm`); retries resume.",
        unit="hours",
        gt=0,
        le=8760,
    )

    def hours(self, rule: str, attempt: int = 1) -> float:
        """Hours that a job of a rule requests on its n-th attempt.

        A job with a journal resumes, and requests the same time on every attempt. Any other job
        starts over, and requests as much time again on every retry.
        """
        once: float = getattr(self, ENGINE_HOURS[rule])
        return once if rule in JOURNALED else once * attempt


ENGINE_HOURS = {
    "find_thresholds": "thresholds",
    "generate_responses": "generate",
    "generate_shard": "generate",
    "measure_relevance": "encode",
    "measure_relevance_of_arm": "encode",
    "measure_sae_fit": "encode",
    "probe_boosts": "encode",
    "read_contrasts": "encode",
    "read_tokens": "encode",
    "read_self_reports": "encode",
    "find_detectors": "encode",
    "match_controls": "encode",
    "measure_means": "encode",
    "read_episodes": "encode",
    "train_adapter": "train",
}
"""Rules whose jobs run an engine, and the key of `JobSizeConfig` that holds their hours."""
JOURNALED = (
    "find_thresholds",
    "generate_responses",
    "generate_shard",
    "read_tokens",
    "read_self_reports",
)
"""Rules whose jobs resume from a journal after an interruption; jobs of the others start over."""

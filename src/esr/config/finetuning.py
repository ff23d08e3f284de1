"""Models that are fine-tuned to correct themselves."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from esr.assets.remote_code import find_remote_code
from esr.config.section import Name, Section, Seed, key

EXAMPLES = ("corrections", "answers")
"""Kinds of examples, by the keys of `data` that count them."""

GPU_KEYS = (
    r"bf16|fp16|fp8|tf32|bfloat16|float16|load_in_[48]bit|gptq|deepspeed|fsdp\w*|"
    r"(flash|xformers|sage)_\w+|lora_\w+_kernel|fused_attn_kernel|liger_\w+|cut_cross_entropy"
)
"""Keys of axolotl's configuration that need a GPU when they are switched on."""
GPU_VALUES = {
    "use_cpu": "False",
    "adapter": "qlora",
    "optimizer": r".*(\dbit|fp8).*|flash_.*",
    "attn_implementation": r"(flash|xformers|sage).*",
}
"""Values of other keys that need a GPU."""


class FinetuneDataConfig(Section):
    """Examples to fine-tune on: answers, and self-corrections (off topic, correction, answer)."""

    writer: Name = key(
        "corpus",
        "What writes the examples: `corpus`, the language of the organisms, or a judge that is a "
        "language model.",
        source="paper: Claude Sonnet 4.5",
    )
    prompts: Path = key(
        Path("resources/prompts/paper_finetune.csv"),
        "Prompts of the examples (prompt_id, category, prompt); none of them may be evaluated.",
    )
    share_prompts: bool = key(
        False,
        "Whether prompts of the examples may also be evaluated.",
        source="released code: the same 38 prompts",
    )
    subjects: Path = key(
        Path("resources/subjects.txt"),
        "Unrelated subjects that self-corrections start with, one per line. `corpus` uses its "
        "other topics instead.",
        source="released code: 50",
    )
    corrections: int = key(
        1000, "Self-corrections to write.", gt=0, le=10_000_000, source="released code: 1,020"
    )
    answers: int = key(1000, "Answers to write.", gt=0, le=10_000_000, source="released code: 760")
    size: int = key(
        900,
        "Rows of every mixture, whatever its share.",
        gt=1,
        le=10_000_000,
        source="released code: 851 to 917",
    )
    least_score: float = key(
        50,
        "Minimum score of an answer by the primary judge; examples below it are dropped.",
        unit="points",
        ge=0,
        le=100,
    )
    rubric: Path = key(
        Path("resources/rubrics/self_correction.yaml"),
        "Instructions of a language model that writes self-corrections.",
    )
    answer_rubric: Path = key(
        Path("resources/rubrics/answer.yaml"),
        "Instructions of a language model that writes answers.",
    )
    temperature: float | None = key(
        0.8,
        "Sampling temperature of a language model that writes.",
        ge=0,
        le=100,
        source="released code: 0.8",
    )
    max_tokens: int = key(
        1024,
        "Maximum length of an example from a language model.",
        unit="tokens",
        gt=0,
        le=1_000_000,
    )
    lexicon: Path = key(
        Path("resources/organisms/lexicon.csv"), "Words of `corpus` (topic, part, word)."
    )
    phrases: Path = key(Path("resources/organisms/phrases.yaml"), "Sentences of `corpus`.")
    seed: Seed = key(48, "Seed of pairs, texts of `corpus`, and mixtures.", source="code: 42")


class FinetuneTrainingConfig(Section):
    """How axolotl trains an adapter (LoRA on all linear layers). Most keys are axolotl's."""

    device: Literal["gpu", "cpu"] = key("gpu", "Device to train on.")
    lora_r: int = key(32, "Rank of the adapter.", gt=0, le=100_000, source="released code")
    lora_alpha: int = key(
        16,
        "The adapter is scaled by lora_alpha / lora_r.",
        gt=0,
        le=1_000_000,
        source="released code",
    )
    lora_dropout: float = key(
        0.05, "Dropout of the adapter's input.", ge=0, lt=1, source="released code"
    )
    learning_rate: float = key(2e-4, "Peak learning rate.", gt=0, le=1, source="released code")
    lr_scheduler: Literal["cosine", "linear", "constant"] = key(
        "cosine", "Learning-rate schedule after warm-up.", source="released code"
    )
    warmup_steps: int = key(
        10,
        "Steps over which the learning rate rises to its peak.",
        unit="steps",
        ge=0,
        le=10_000_000,
        source="released code",
    )
    num_epochs: int = key(4, "Passes over a mixture.", gt=0, le=100_000, source="released code")
    micro_batch_size: int = key(
        2, "Rows of a forward pass.", gt=0, le=1_000_000, source="released code"
    )
    gradient_accumulation_steps: int = key(
        4, "Micro-batches per optimizer step.", gt=0, le=1_000_000, source="released code"
    )
    optimizer: Literal["adamw_bnb_8bit", "adamw_torch"] = key(
        "adamw_bnb_8bit", "Optimizer; `adamw_bnb_8bit` needs a GPU.", source="released code"
    )
    precision: Literal["bfloat16", "float32"] = key(
        "bfloat16", "Precision of the computation.", source="released code"
    )
    sequence_len: int = key(
        4096, "Maximum length of a row.", unit="tokens", gt=0, le=10_000_000, source="released code"
    )
    val_set_size: float = key(
        0.05, "Share of the rows held out for validation.", gt=0, lt=1, source="released code"
    )
    pad_token: str | None = key(
        None, "Padding token; none = the tokenizer's own.", source="<|end_of_text|>"
    )
    threads: int = key(1, "CPU threads of a training job.", gt=0, le=10_000)
    seed: Seed = key(49, "Seed of the split, the order and the initial weights.", source="none set")
    extra: dict[str, Any] = key(
        {},
        "More keys of axolotl's configuration, passed on unchanged. Refused are keys that would "
        "run benchmarks or code from a checkpoint, and with `device: cpu` those that need a GPU.",
    )

    @model_validator(mode="after")
    def _runs_no_code_from_a_checkpoint(self) -> Self:
        found = find_remote_code(self.extra)
        if found is not None:
            raise ValueError(
                f"`extra`: {found} would run code from a checkpoint; leave it out, and use a base "
                "whose architecture is part of transformers"
            )
        return self

    @model_validator(mode="after")
    def _runs_no_benchmark(self) -> Self:
        found = [key for key in self.extra if key.startswith("lm_eval")]
        found += [
            f"plugins: {one}" for one in _listed(self.extra.get("plugins")) if "lm_eval" in one
        ]
        if found:
            raise ValueError(
                f"`extra`: {found[0]} needs lm-eval, which envs/finetune does not have; leave it "
                "out, and run benchmarks on the merged checkpoint"
            )
        return self

    @model_validator(mode="after")
    def _fits_its_device(self) -> Self:
        if self.device == "cpu" and self.optimizer != "adamw_torch":
            raise ValueError(f"`optimizer: {self.optimizer}` needs a GPU; use adamw_torch on a CPU")
        if self.device == "cpu" and self.precision != "float32":
            raise ValueError(f"`precision: {self.precision}` needs a GPU; use float32 on a CPU")
        needing = [key for key, value in self.extra.items() if _needs_gpu(key, value)]
        if self.device == "cpu" and needing:
            shown = ", ".join(f"{key}: {self.extra[key]}" for key in needing)
            raise ValueError(
                f"`extra`: {{{shown}}} needs a GPU; leave it out, or set `device: gpu`"
            )
        return self


def _listed(value: Any) -> list[str]:
    """Values of a setting that may be a list, a single value, or missing."""
    values = value if isinstance(value, list) else [value]
    return [str(one) for one in values if one is not None]


def _needs_gpu(key: str, value: Any) -> bool:
    """Whether a setting of axolotl needs a GPU."""
    if key in GPU_VALUES:
        return bool(re.fullmatch(GPU_VALUES[key], str(value)))
    return bool(value) and bool(re.fullmatch(GPU_KEYS, key))


class FinetuneConfig(Section):
    """Models fine-tuned on mixtures of answers and masked self-corrections (paper 3.5).

    Each mixture gives a model of the study, `<base>+sc<share>`; further trainings of a share give
    `<base>+sc<share>-2` and so on. It uses the latents and prompts of
    its base model, and has thresholds of its own.
    """

    models: tuple[Name, ...] = key((), "Models to fine-tune; none = no fine-tuning.")
    shares: tuple[Annotated[int, Field(ge=0, le=100)], ...] = key(
        (10, 20, 30, 40, 50, 60, 70, 80, 90),
        "Shares of self-corrections in the mixtures.",
        unit="percent",
        source="paper 3.5: 10 to 90",
    )
    seeds: int = key(
        1,
        "Trainings of every share, each with its own mixture, order and initial weights. Trends "
        "over the share need two or more: the spread between trainings is part of their intervals.",
        gt=0,
        le=100,
        source="released code: 1",
    )
    arms: tuple[Name, ...] = key(
        ("steered", "unsteered"), "Arms that fine-tuned models run.", min_length=1
    )
    serve: Literal["merged", "lora"] = key(
        "merged",
        "What engines load: a checkpoint with the adapter merged into it, or base and adapter "
        "(engine `vllm`; saves one checkpoint on disk per mixture).",
        source="released code: merged",
    )
    data: FinetuneDataConfig = key(FinetuneDataConfig(), "The examples.")
    training: FinetuneTrainingConfig = key(FinetuneTrainingConfig(), "The training.")

    @model_validator(mode="after")
    def _no_duplicates(self) -> Self:
        for name in ("models", "shares", "arms"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"`{name}` lists something twice: {list(values)}")
        return self

    @model_validator(mode="after")
    def _enough_examples(self) -> Self:
        for share in self.shares if self.models else ():
            for kind, needed in zip(EXAMPLES, self.counts(share), strict=True):
                written = getattr(self.data, kind)
                if needed > written:
                    raise ValueError(
                        f"`shares`: {share} % of {self.data.size} rows takes {needed} {kind}, but "
                        f"`data.{kind}` is {written}; raise it, or lower `data.size`"
                    )
        return self

    def training_of(self, number: int) -> FinetuneTrainingConfig:
        """Settings of a training (from 1): each has its own seed, the first that of `training`."""
        return self.training.model_copy(update={"seed": self.training.seed + number - 1})

    def counts(self, share: int) -> tuple[int, int]:
        """Numbers of self-corrections and answers in a mixture of a share (percent)."""
        # Half a row rounds up.
        corrections = (self.data.size * share + 50) // 100
        return corrections, self.data.size - corrections


class FineTuned(NamedTuple):
    """A fine-tuned model: base model, share of self-corrections (percent), training (from 1)."""

    base: str
    share: int
    training: int = 1

"""Models that are fine-tuned to correct themselves."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from esr.config.section import Name, Section, key

EXAMPLES = ("corrections", "answers")
"""Kinds of examples, as `data` counts them."""

GPU_KEYS = (
    r"bf16|fp16|fp8|tf32|bfloat16|float16|load_in_[48]bit|gptq|deepspeed|fsdp\w*|"
    r"(flash|xformers|sage)_\w+|lora_\w+_kernel|fused_attn_kernel|liger_\w+|cut_cross_entropy"
)
"""Keys of axolotl's configuration that, switched on, need a GPU."""
GPU_VALUES = {
    "use_cpu": "False",
    "adapter": "qlora",
    "optimizer": r".*(\dbit|fp8).*|flash_.*",
    "attn_implementation": r"(flash|xformers|sage).*",
}
"""Values of others that do."""


class FinetuneDataConfig(Section):
    """Examples to fine-tune on: answers, and self-corrections (off topic, correction, answer)."""

    writer: Name = key(
        "corpus",
        "Who writes them: `corpus`, the organisms' own language, or a judge that is a language "
        "model.",
        source="paper: Claude Sonnet 4.5",
    )
    prompts: Path = key(
        Path("resources/prompts/paper_finetune.csv"),
        "Prompts of the examples (prompt_id, category, prompt), none of which is evaluated.",
    )
    share_prompts: bool = key(
        False,
        "Whether prompts of the examples may be evaluated, too.",
        source="released code: the same 38 prompts",
    )
    subjects: Path = key(
        Path("resources/subjects.txt"),
        "Unrelated subjects that self-corrections begin with, one a line; `corpus`: the other "
        "topics instead.",
        source="released code: 50",
    )
    corrections: int = key(1000, "Self-corrections written.", gt=0, source="released code: 1,020")
    answers: int = key(1000, "Answers written.", gt=0, source="released code: 760")
    size: int = key(
        900, "Rows of every mixture, whatever its share.", gt=1, source="released code: 851 to 917"
    )
    least_score: float = key(
        50, "Least score of an answer by the primary judge; worse ones are left out.", ge=0, le=100
    )
    rubric: Path = key(
        Path("resources/rubrics/self_correction.yaml"), "How a self-correction is asked for."
    )
    answer_rubric: Path = key(Path("resources/rubrics/answer.yaml"), "How an answer is.")
    temperature: float | None = key(
        0.8, "Temperature of a language model that writes.", ge=0, source="released code: 0.8"
    )
    max_tokens: int = key(1024, "Longest example it writes.", unit="tokens", gt=0)
    lexicon: Path = key(
        Path("resources/organisms/lexicon.csv"), "Words of `corpus` (topic, part, word)."
    )
    phrases: Path = key(Path("resources/organisms/phrases.yaml"), "Sentences of `corpus`.")
    seed: int = key(48, "Seed of pairs, texts of `corpus`, and mixtures.", source="code: 42")


class FinetuneTrainingConfig(Section):
    """How axolotl trains an adapter (LoRA on all linear layers)."""

    device: Literal["gpu", "cpu"] = key("gpu", "What it trains on.")
    rank: int = key(32, "Rank of the adapter.", gt=0, source="released code")
    alpha: int = key(16, "Its scale is alpha / rank.", gt=0, source="released code")
    dropout: float = key(0.05, "Dropout of its input.", ge=0, lt=1, source="released code")
    learning_rate: float = key(2e-4, "Highest learning rate.", gt=0, source="released code")
    scheduler: Literal["cosine", "linear", "constant"] = key(
        "cosine", "Course of the learning rate.", source="released code"
    )
    warm_up: int = key(10, "Steps until it is highest.", unit="steps", ge=0, source="released code")
    epochs: int = key(4, "Passes over a mixture.", gt=0, source="released code")
    micro_batch: int = key(2, "Rows computed at a time.", gt=0, source="released code")
    accumulation: int = key(4, "Micro-batches of a step.", gt=0, source="released code")
    optimizer: Literal["adamw_bnb_8bit", "adamw_torch"] = key(
        "adamw_bnb_8bit", "The first needs a GPU.", source="released code"
    )
    precision: Literal["bfloat16", "float32"] = key(
        "bfloat16", "Of the computation.", source="released code"
    )
    sequence: int = key(4096, "Longest row.", unit="tokens", gt=0, source="released code")
    validation: float = key(
        0.05, "Share of the rows that is kept for validation.", gt=0, lt=1, source="released code"
    )
    pad_token: str | None = key(
        None, "Token that fills rows up; none = the tokenizer's own.", source="<|end_of_text|>"
    )
    threads: int = key(1, "CPU threads of a training job.", gt=0)
    seed: int = key(49, "Seed of the split, the order and the initial weights.", source="none set")
    extra: dict[str, Any] = key(
        {}, "More of axolotl's configuration, as it is; for a CPU nothing that needs a GPU."
    )

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


def _needs_gpu(key: str, value: Any) -> bool:
    """Whether a setting of axolotl needs a GPU."""
    if key in GPU_VALUES:
        return bool(re.fullmatch(GPU_VALUES[key], str(value)))
    return bool(value) and bool(re.fullmatch(GPU_KEYS, key))


class FinetuneConfig(Section):
    """Models fine-tuned on mixtures of answers and masked self-corrections (paper 3.5).

    Each is a model of the study, `<base>+sc<share>`, with the latents and prompts of its base and
    thresholds of its own.
    """

    models: tuple[Name, ...] = key((), "Models that are fine-tuned; none = no fine-tuning.")
    ratios: tuple[Annotated[int, Field(ge=0, le=100)], ...] = key(
        (10, 20, 30, 40, 50, 60, 70, 80, 90),
        "Shares of self-corrections in the mixtures.",
        unit="percent",
        source="paper 3.5: 10 to 90",
    )
    arms: tuple[Name, ...] = key(
        ("steered", "unsteered"), "Arms that fine-tuned models run.", min_length=1
    )
    serve: Literal["merged", "lora"] = key(
        "merged",
        "What engines load: a checkpoint with the adapter merged into it, or base and adapter "
        "(engine `vllm`; saves the disk of a checkpoint a mixture).",
        source="released code: merged",
    )
    data: FinetuneDataConfig = key(FinetuneDataConfig(), "The examples.")
    training: FinetuneTrainingConfig = key(FinetuneTrainingConfig(), "The training.")

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        for name in ("models", "ratios", "arms"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"`{name}` lists something twice: {list(values)}")
        return self

    @model_validator(mode="after")
    def _data_fill_the_mixtures(self) -> Self:
        for ratio in self.ratios if self.models else ():
            for kind, needed in zip(EXAMPLES, self.counts(ratio), strict=True):
                written = getattr(self.data, kind)
                if needed > written:
                    raise ValueError(
                        f"`ratios`: {ratio} % of {self.data.size} rows takes {needed} {kind}, but "
                        f"`data.{kind}` is {written}; raise it, or lower `data.size`"
                    )
        return self

    def counts(self, ratio: int) -> tuple[int, int]:
        """Self-corrections and answers of a mixture (the former rounded to the nearest)."""
        corrections = (self.data.size * ratio + 50) // 100
        return corrections, self.data.size - corrections


class FineTuned(NamedTuple):
    """What a fine-tuned model is made of: a model, and a share of self-corrections (percent)."""

    base: str
    share: int

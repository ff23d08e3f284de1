"""Kinds of judge, each with its settings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, PositiveInt, model_validator

from esr.config.section import Section, Variable, key
from esr.config.strict_yaml import read_yaml
from esr.errors import EsrError


class BaseJudgeConfig(Section):
    """Base class of the settings of every judge."""

    @property
    def files(self) -> dict[str, Path]:
        """Files that the judge reads, by their key."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: value for name, value in values.items() if isinstance(value, Path)}


class LexicalJudgeConfig(BaseJudgeConfig):
    """Judge of the organism study: word lists instead of a language model."""

    kind: Literal["lexical"] = key(..., "Kind of judge.")
    lexicon: Path = key(..., "CSV with columns topic, part, word.")


class SentenceJudgeConfig(BaseJudgeConfig):
    """Second judge of the organism study: scores sentences, and finds restarts by another rule."""

    kind: Literal["sentences"] = key(..., "Kind of judge.")
    lexicon: Path = key(..., "CSV with columns topic, part, word.")


class HumanJudgeConfig(BaseJudgeConfig):
    """A human annotator, who fills in the sheet of `snakemake label_sheet`."""

    kind: Literal["human"] = key(..., "Kind of judge.")
    sheet: Path = key(..., "The completed sheet (CSV); see docs/judges.md.")


class LlmJudgeConfig(BaseJudgeConfig):
    """Settings that all judges that are language models share."""

    rubric: Path = key(
        Path("resources/rubrics/blind.yaml"),
        "Instructions of the judge: `paper`, `paper_schema`, `blind`, `structured`, `compact` or "
        "`openings` in resources/rubrics/, or your own file.",
    )
    shown: Literal["base_prompt", "full_prompt"] = key(
        "base_prompt",
        "Prompt that the judge sees: the base prompt, or the full prompt that the model received, "
        "including the meta-prompt.",
        source="paper: base prompt; released code: full prompt",
    )
    temperature: float | None = key(
        0,
        "Sampling temperature of the judge; `null` sends none. If a model rejects the parameter, "
        "it is left out, and the rows record that.",
        ge=0,
        le=100,
        source="January: 0; released code: none sent, so 1",
    )
    max_tokens: int = key(
        4096,
        "Maximum length of a reply; a longer one has the status `truncated`.",
        unit="tokens",
        gt=0,
        le=1_000_000,
        source="code",
    )

    @property
    def is_told(self) -> bool:
        """Whether the rubric shows the label of the steered latent; False if it cannot be read."""
        try:
            content = read_yaml(self.rubric)
        except EsrError:
            return False  # the checks of a run's files name it
        return isinstance(content, Mapping) and content.get("label") is not None


class ConcurrencyConfig(Section):
    """Calls in flight of a judge behind an API, found between two bounds while it is called."""

    min: int = key(1, "Lowest number of calls in flight.", gt=0, le=10_000)
    max: int = key(
        200,
        "Highest number of calls in flight; as many may be billed and lost when a job is killed.",
        gt=0,
        le=10_000,
    )

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}; exchange them")
        return self


def _same_bounds(given: Any) -> Any:
    """One number stands for both bounds."""
    text = given.strip() if isinstance(given, str) else given
    if isinstance(text, str) and text.isdecimal():
        text = int(text)
    if isinstance(text, int) and not isinstance(text, bool):
        return {"min": text, "max": text}
    return given


Concurrency = Annotated[
    ConcurrencyConfig,
    BeforeValidator(_same_bounds, json_schema_input_type=ConcurrencyConfig | PositiveInt),
]
"""Bounds of the number of calls in flight; a single number fixes it."""


class ApiJudgeConfig(LlmJudgeConfig):
    """Settings that all judges behind an API share."""

    model: str = key(..., "Model id of the API; prices are looked up by it.")
    optional: bool = key(
        False,
        "Leave the judge out, with a message, where its key is not set or its model has retired, "
        "unless it has replies already. The primary judge, raters and writers are never optional.",
    )
    concurrency: Concurrency = key(
        ConcurrencyConfig(),
        "Calls in flight, found between `min` and `max` while the judge is called: more until the "
        "API refuses calls (HTTP 429, 503, 529) or slows down, then fewer. A number fixes it.",
    )
    retries: int = key(
        8,
        "Maximum number of retries of a call (HTTP 408, 409, 429, 5xx, lost connections).",
        ge=0,
        le=1000,
    )
    timeout: float = key(
        120, "Timeout of a whole call.", unit="s", gt=0, le=86_400, source="released code"
    )


class AnthropicJudgeConfig(ApiJudgeConfig):
    """Claude, through Anthropic's Messages API, live or in batches."""

    kind: Literal["anthropic"] = key(..., "Kind of judge.")
    key_variable: Variable = key("ANTHROPIC_API_KEY", "Environment variable that holds the key.")
    base_url: str = key("https://api.anthropic.com", "Address of the API.")
    api_version: str = key(
        "2023-06-01",
        "Header `anthropic-version`. Later versions (2026-10-21) reject any temperature.",
    )
    mode: Literal["live", "batch"] = key(
        "live",
        "`batch`: Message Batches, at half the price, within a day. The threshold search always "
        "calls live.",
    )
    batch_size: int = key(5000, "Maximum number of calls in a batch.", gt=0, le=100_000)
    poll: float = key(60, "Interval between polls of a batch.", unit="s", gt=0, le=86_400)


class OpenAiJudgeConfig(ApiJudgeConfig):
    """Any OpenAI-compatible chat completions API: OpenAI, OpenRouter, a local vLLM server, ..."""

    kind: Literal["openai"] = key(..., "Kind of judge.")
    key_variable: Variable | None = key(
        "OPENAI_API_KEY", "Environment variable that holds the key; `null`: the server needs none."
    )
    base_url: str = key("https://api.openai.com/v1", "Address of the API, including `/v1`.")
    provider: str | None = key(None, "The only provider that OpenRouter may use.")
    limit: Literal["max_tokens", "max_completion_tokens"] = key(
        "max_tokens",
        "Name of the parameter `max_tokens` in the API. OpenAI's reasoning models use the longer "
        "name.",
    )
    extra: dict[str, Any] = key(
        {},
        "More fields of the request, passed on unchanged (`{reasoning_effort: minimal}`); part of "
        "the cache key.",
    )


ApiConfig = AnthropicJudgeConfig | OpenAiJudgeConfig


class VllmJudgeConfig(LlmJudgeConfig):
    """A language model with open weights that the workflow itself runs, offline, with vLLM.

    It needs no key and no server, and its commit pins it.
    """

    kind: Literal["vllm"] = key(..., "Kind of judge.")
    source: str = key(..., "Folder of a transformers checkpoint, or a hub id.")
    revision: str | None = key(
        None,
        "Commit of the hub repository; required for hub ids.",
        pattern=r"^[0-9a-f]{40}$",
    )
    parameters: float = key(
        ..., "Number of parameters; `jobs` requests resources by it.", gt=0, le=1e15
    )
    dtype: Literal["float32", "bfloat16", "float16"] = key("bfloat16", "Weights and activations.")
    quantization: str | None = key(
        None, "Quantisation of the weights, by its name in vLLM (fp8, awq); none = `dtype`."
    )
    kv_cache: Literal["fp8"] | None = key(
        None,
        "Precision of its cache of keys and values. fp8 (e4m3; the scale is 1 unless the "
        "checkpoint has one) takes half the memory of bf16, so that `batch_size` may be twice as "
        "large. Without a GPU it needs a CPU with AVX-512. None = `dtype`.",
    )
    tensor_parallel: int | None = key(
        None,
        "GPUs over which the model is split; none = all that `jobs` requests for its size.",
        gt=0,
        le=10_000,
    )
    template: dict[str, Any] = key(
        {"enable_thinking": False},
        "Arguments of the chat template; the default turns the thinking of Qwen3 off.",
    )
    batch_size: int = key(256, "Replies written together.", unit="calls", gt=0, le=1_000_000)
    prompt_lookup: int = key(
        0,
        "Tokens of each reply that a pass of the model may check beside the one that it writes. "
        "They are drafted from what follows the same n-gram earlier in the call, so that a reply "
        "that copies the response takes fewer passes; 0: none.",
        unit="tokens",
        ge=0,
        le=32,
    )
    max_model_len: int = key(
        8192, "Maximum length of call and reply together.", unit="tokens", gt=0, le=10_000_000
    )
    memory_fraction: float = key(0.9, "Share of each GPU's memory that it may use.", gt=0, lt=1)
    cpu_cache: float = key(1, "KV cache when running on a CPU.", unit="GB", gt=0, le=100_000)
    eager: bool = key(False, "Skip compilation and CUDA graphs: it starts sooner and runs slower.")
    gpus_in_search: Literal["own", "shared"] = key(
        "own",
        "GPUs of the judge while thresholds are found: `own`, beside those of the engine, or "
        "`shared` with the engine, where the two `memory_fraction` must fit together.",
    )
    together: bool = key(
        False,
        "Whether one job judges all arms of a model, so that the judge starts once for them. Any "
        "figure then waits for all arms. On Slurm, jobs of models that were fine-tuned from one "
        "base share a start.",
    )

    @property
    def model(self) -> str:
        """The model, as ledger and tables name it."""
        return self.source

    @property
    def is_local(self) -> bool:
        """Whether `source` is a folder rather than a hub id."""
        return self.folder.is_dir()

    @property
    def folder(self) -> Path:
        """The folder that `source` names."""
        return Path(self.source)


LlmConfig = ApiConfig | VllmJudgeConfig


JudgeConfig = LexicalJudgeConfig | SentenceJudgeConfig | HumanJudgeConfig | LlmConfig

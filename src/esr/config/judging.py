"""Judges."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from esr.config.section import Name, Section, Variable, key


class BaseJudgeConfig(Section):
    """What is true of every judge."""

    @property
    def files(self) -> dict[str, Path]:
        """Files that the judge works with, by the key that names them."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: value for name, value in values.items() if isinstance(value, Path)}


class LexicalJudgeConfig(BaseJudgeConfig):
    """Judge of the organism study: word lists instead of a language model."""

    kind: Literal["lexical"] = key(..., "Which judge this is.")
    lexicon: Path = key(..., "CSV with columns topic, part, word.")


class SentenceJudgeConfig(BaseJudgeConfig):
    """Second judge of the organism study: sentences for words, restarts by another rule."""

    kind: Literal["sentences"] = key(..., "Which judge this is.")
    lexicon: Path = key(..., "CSV with columns topic, part, word.")


class HumanJudgeConfig(BaseJudgeConfig):
    """An annotator: the sheet of `snakemake label_sheet`, filled in."""

    kind: Literal["human"] = key(..., "Which judge this is.")
    sheet: Path = key(..., "The filled-in sheet (CSV); docs/judges.md says how.")


class LlmJudgeConfig(BaseJudgeConfig):
    """What judges that are language models have in common."""

    model: str = key(..., "Model id, as the API calls it; prices are looked up by it.")
    rubric: Path = key(
        Path("resources/rubrics/blind.yaml"),
        "What the judge is told: `paper`, `blind`, `structured`, `compact`, or your own file.",
    )
    shown: Literal["prompt", "asked"] = key(
        "prompt",
        "What the judge sees as the prompt: the base prompt, or (`asked`) what the model was "
        "asked, meta-prompt included.",
        source="paper: base prompt; released code: asked",
    )
    temperature: float | None = key(
        0,
        "Sampling temperature of the judge; `null` sends none. A model that refuses it is asked "
        "without, which its rows say.",
        ge=0,
        source="January: 0; released code: none sent, so 1",
    )
    max_tokens: int = key(
        4096, "Longest reply; a longer one is `truncated`.", unit="tokens", gt=0, source="code"
    )
    concurrency: int = key(16, "Calls in flight at a time.", gt=0)
    retries: int = key(
        8, "How often a call is repeated (HTTP 408, 409, 429, 5xx, lost connections).", ge=0
    )
    timeout: float = key(120, "Longest wait for a reply.", unit="s", gt=0, source="released code")


class AnthropicJudgeConfig(LlmJudgeConfig):
    """Claude, by Anthropic's Messages API, live or in batches."""

    kind: Literal["anthropic"] = key(..., "Which judge this is.")
    key_variable: Variable = key("ANTHROPIC_API_KEY", "Environment variable that holds the key.")
    base_url: str = key("https://api.anthropic.com", "Where the API is.")
    api_version: str = key(
        "2023-06-01",
        "Header `anthropic-version`. Later versions (2026-10-21) refuse any temperature.",
    )
    mode: Literal["live", "batch"] = key(
        "live",
        "`batch`: Message Batches, at half the price, within a day. Thresholds are found live.",
    )
    batch_size: int = key(5000, "Most calls of a batch.", gt=0, le=100_000)
    poll: float = key(60, "Time between looks at a batch.", unit="s", gt=0)


class OpenAiJudgeConfig(LlmJudgeConfig):
    """Any OpenAI-compatible chat completions API: OpenAI, OpenRouter, a local vLLM server, ..."""

    kind: Literal["openai"] = key(..., "Which judge this is.")
    key_variable: Variable | None = key(
        "OPENAI_API_KEY", "Environment variable that holds the key; `null`: the server wants none."
    )
    base_url: str = key("https://api.openai.com/v1", "Where the API is, `/v1` included.")
    provider: str | None = key(None, "Provider that OpenRouter is to use, and no other.")
    limit: Literal["max_tokens", "max_completion_tokens"] = key(
        "max_tokens", "What the API calls `max_tokens`; OpenAI's reasoning models: the longer name."
    )
    extra: dict[str, Any] = key(
        {}, "More of the request, as it is (`{reasoning_effort: minimal}`); part of what is cached."
    )


LlmConfig = AnthropicJudgeConfig | OpenAiJudgeConfig


JudgeConfig = LexicalJudgeConfig | SentenceJudgeConfig | HumanJudgeConfig | LlmConfig


class JudgingConfig(Section):
    """Who scores responses, and the judge-free restart detector beside them."""

    primary: Name = key(..., "The judge whose scores figures and tables show.")
    judges: dict[Name, Annotated[JudgeConfig, Field(discriminator="kind")]] = key(
        ...,
        "Judges by name. The primary one grades every arm, all of them the sample of `agreement`.",
    )
    restart_phrases: Path = key(
        Path("resources/restart_phrases.txt"),
        "Regular expressions, one a line, of the judge-free restart detector.",
    )
    degraded: Literal["included", "excluded"] = key(
        "included",
        "Whether a response that repeats a word five times in a row counts; one that is excluded "
        "has the status `degraded`, and no score.",
        source="released code: included; January: excluded",
    )
    prices: Path = key(
        Path("resources/prices.csv"), "Prices of models, with their dates and sources."
    )
    budget: float | None = key(
        None,
        "Most that the replies of a study may cost, all rules together; then jobs stop cleanly.",
        unit="US dollars",
        ge=0,
    )

    @model_validator(mode="after")
    def _primary_exists(self) -> Self:
        if self.primary not in self.judges:
            raise ValueError(f"primary judge {self.primary!r} is not among {sorted(self.judges)}")
        if self.judges[self.primary].kind == "human":
            raise ValueError(f"primary judge {self.primary!r} is a person, who grades a sheet only")
        return self

    @property
    def llms(self) -> dict[str, LlmConfig]:
        """Judges that are language models."""
        return {name: judge for name, judge in self.judges.items() if isinstance(judge, LlmConfig)}

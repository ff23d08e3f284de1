"""The configuration: every key with its meaning, unit and source, checked before any job runs.

`config.yaml` holds the protocol, `studies/<study>.yaml` the models and overrides; Snakemake merges
them in that order and puts `--config` on top. `load` turns the merged mapping into a `Config`;
`docs/config.md` and `resources/config.schema.json` are generated from it.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from esr.errors import EsrError

NAME = r"^[A-Za-z0-9][A-Za-z0-9.+-]*$"
Name = Annotated[str, Field(pattern=NAME)]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]

DOWNLOADS = Path("results/downloads")
"""Where rules put what they download for all studies; a path below it need not exist yet."""


def key(default: Any, description: str, *, unit: str = "", source: str = "", **limits: Any) -> Any:
    """Declare a configuration key with its description, unit and source (for docs and schema)."""
    extra: Any = {name: text for name, text in (("unit", unit), ("source", source)) if text}
    return Field(default, description=description, json_schema_extra=extra, **limits)


class Section(BaseModel):
    """A block of keys. Unknown keys are errors; values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Seeds(Section):
    """Seeds, one a purpose."""

    latents: int = key(42, "Order in which candidate latents are drawn.", source="January README")
    boosts: int = key(43, "Prompts drawn while thresholds are found.", source="January README")
    generation: int = key(
        44, "Trial i of an arm samples with seed generation + i.", source="January README"
    )


class Generation(Section):
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


class Vllm(Section):
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


class Engine(Section):
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
    vllm: Vllm = key(Vllm(), "The engine `vllm`.")


class JobSize(Section):
    """What an engine job asks of a scheduler, for models up to a size. Inert where there is none.

    A retry asks for half as much memory again, and the same time: it goes on where it was cut off.
    """

    parameters: float = key(..., "Largest model that this is for.", unit="parameters", gt=0)
    gpus: int = key(..., "GPUs of a job.", ge=0)
    memory: float = key(..., "Main memory: the weights pass through it.", unit="GB", gt=0)
    generate: float = key(..., "Time for a shard of an arm.", unit="hours", gt=0)
    calibrate: float = key(..., "Time for all thresholds of a model.", unit="hours", gt=0)
    read: float = key(..., "Time for reading activations of stored texts.", unit="hours", gt=0)
    train: float = key(4, "Time for fine-tuning on one mixture.", unit="hours", gt=0)


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


class Concreteness(Section):
    """Which labels name something concrete enough to be told from the prompt."""

    rater: Name = key(
        "lexical",
        "Who rates labels 0-100: `lexical` = share of the label's words in `lexicon`, or a judge "
        "that is a language model.",
        source="paper: Claude",
    )
    rubric: Path = key(
        Path("resources/rubrics/concreteness.yaml"), "What a language model is told about rating."
    )
    batch: int = key(50, "Labels shown to a language model at a time.", gt=0, source="code")
    lexicon: Path | None = key(None, "CSV with columns topic, part, word, for `lexical`.")
    criterion: Literal["median", "minimum"] = key(
        "median",
        "Drop latents rated below the median of the candidates, or below `minimum`.",
        source="January: median; released code: minimum 65",
    )
    minimum: float = key(65, "Lowest rating kept by `minimum`.", unit="points", ge=0, le=100)


class Relevance(Section):
    """Which latents are on topic for a prompt, and so unfit as distractors."""

    criterion: Literal["top_n", "zero"] = key(
        "top_n",
        "`top_n`: relevant = among the N latents most active on the prompt's unsteered answer; "
        "`zero`: relevant = active at all on the prompt.",
        source="paper 2.2: top 100 per prompt; released code: zero on all prompts",
    )
    top_n: int = key(100, "N of `top_n`.", unit="latents", gt=0, source="paper 2.2")
    answers: Name = key("answers", "Arm (`over: prompts`) whose responses `top_n` reads.")
    scope: Literal["pool", "pair"] = key(
        "pool",
        "`pool`: a latent relevant to any prompt is dropped; `pair`: it is only never paired with "
        "the prompts it is relevant to (for small SAEs, where every topic is some prompt's).",
        source="paper 2.2: pool",
    )


class Latents(Section):
    """Which latents are steered."""

    count: int = key(500, "Latents steered per model.", gt=0, source="released code: 500")
    candidates: int = key(
        3, "Candidates drawn per latent asked for, before filtering.", gt=0, source="released code"
    )
    concreteness: Concreteness = key(Concreteness(), "Filter on labels.")
    relevance: Relevance = key(Relevance(), "Filter on prompts.")


class Thresholds(Section):
    """How the boost of a latent is found at which the first attempt scores `target`."""

    method: Literal["logistic", "bisection"] = key(
        "logistic",
        "`logistic`: Bayesian dose-response, adaptive; `bisection`: the paper's own.",
        source="paper: bisection; docs/calibration.md for why not",
    )
    target: float = key(
        50,
        "Mean first-attempt score at the threshold.",
        unit="points",
        gt=0,
        lt=100,
        source="January 50; published 30",
    )
    steps: int = key(10, "Boosts tried per latent.", gt=0, source="released code")
    samples_per_step: int = key(
        2, "Judged responses per boost tried.", gt=0, source="released code: 1, and 5 for 70B"
    )
    max_widenings: int = key(
        3,
        "How often bounds that prove too narrow are doubled (`logistic`; `bisection` keeps them).",
        ge=0,
    )


Ablated = Annotated[str, Field(pattern=r"^(detectors|random-\d+)$")]


class Levels(Section):
    """Boosts of a sweep, the same for every latent, in terms of the model's thresholds."""

    count: int = key(8, "Number of levels, evenly spaced.", gt=1, source="January: 8")
    lowest: float = key(
        -1.5, "Lowest level.", unit="sd of thresholds from their mean", source="published -3"
    )
    highest: float = key(3.0, "Highest level.", unit="sd of thresholds from their mean")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.lowest < self.highest:
            raise ValueError(f"need lowest < highest, got {self.lowest} and {self.highest}")
        return self


class Arm(Section):
    """A set of trials under one condition. A replayed arm keeps the trials of another one."""

    over: Literal["latents", "prompts"] | None = key(
        None, "New trials: `latents` (each with prompts drawn for it) or `prompts` (no latent)."
    )
    replay: Name | None = key(
        None, "Take (latent, prompt, seed, boost) of this arm, so that differences are paired."
    )
    trials: int | None = key(
        None, "New trials per latent, each another prompt (or per prompt).", gt=0
    )
    prompts: Path | None = key(None, "Prompts of this arm in place of the study's.")
    latents: int | None = key(None, "Only the first so many latents.", gt=0)
    boost: Literal["threshold", "none"] | Levels = key(
        "threshold",
        "`threshold`: the latent's own; `none`: no steering; or levels of a sweep, at each of "
        "which every latent has the same prompts.",
    )
    target: int | None = key(
        None,
        "Thresholds of another target, re-estimated from the same calibration responses.",
        unit="points",
        gt=0,
        lt=100,
    )
    meta_prompt: str | None = key(
        None, "Prompt template with `{prompt}` and optionally `{label}`; the judge sees the prompt."
    )
    prefill: str = key("", "Text that the response is made to begin with.")
    shards: int | None = key(
        None, "Jobs that this arm's responses are divided over; none = `engine.shards`.", gt=0
    )
    ablate: tuple[Annotated[int, Field(ge=0)], ...] | Ablated = key(
        (),
        "Latents whose contribution is removed while generating: a list, `detectors`, or "
        "`random-<i>`, the i-th set of latents matched to the detectors.",
    )

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.over is None) == (self.replay is None):
            raise ValueError("give exactly one of `over` (new trials) and `replay` (another arm's)")
        if (self.over is None) != (self.trials is None):
            raise ValueError("`trials` belongs to arms with `over`, and only to those")
        if self.over == "prompts" and self.boost != "none":
            raise ValueError("`over: prompts` has no latent: set `boost: none`")
        if self.target is not None and (self.over != "latents" or self.boost != "threshold"):
            raise ValueError("`target` belongs to arms `over: latents` with `boost: threshold`")
        if isinstance(self.boost, Levels) and self.over != "latents":
            raise ValueError("levels of a sweep belong to arms `over: latents`")
        return self

    @property
    def needs_labels(self) -> bool:
        """Whether the meta-prompt names the latent; such an arm skips models without labels."""
        return self.meta_prompt is not None and "{label}" in self.meta_prompt

    @model_validator(mode="after")
    def _sound_meta_prompt(self) -> Self:
        if self.meta_prompt is None:
            return self
        fields = {name for _, name, _, _ in Formatter().parse(self.meta_prompt) if name is not None}
        if "prompt" not in fields:
            raise ValueError("`meta_prompt` must contain {prompt}")
        if fields - {"prompt", "label"}:
            raise ValueError(
                f"`meta_prompt` knows {{prompt}} and {{label}}, not {sorted(fields)}; "
                "write {{ and }} for braces that the model is to see"
            )
        return self

    @model_validator(mode="after")
    def _ablated_once(self) -> Self:
        if not isinstance(self.ablate, str) and len(set(self.ablate)) < len(self.ablate):
            raise ValueError("`ablate` names a latent twice")
        return self


class JudgeSection(Section):
    """What is true of every judge."""

    @property
    def files(self) -> dict[str, Path]:
        """Files that the judge works with, by the key that names them."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: value for name, value in values.items() if isinstance(value, Path)}


class LexicalJudge(JudgeSection):
    """Judge of the organism study: word lists instead of a language model."""

    kind: Literal["lexical"] = key(..., "Which judge this is.")
    lexicon: Path = key(..., "CSV with columns topic, part, word.")


class SentenceJudge(JudgeSection):
    """Second judge of the organism study: sentences for words, restarts by another rule."""

    kind: Literal["sentences"] = key(..., "Which judge this is.")
    lexicon: Path = key(..., "CSV with columns topic, part, word.")


class HumanJudge(JudgeSection):
    """An annotator: the sheet of `snakemake label_sheet`, filled in."""

    kind: Literal["human"] = key(..., "Which judge this is.")
    sheet: Path = key(..., "The filled-in sheet (CSV); docs/judges.md says how.")


class LlmJudge(JudgeSection):
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


class AnthropicJudge(LlmJudge):
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


class OpenAiJudge(LlmJudge):
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


Llm = AnthropicJudge | OpenAiJudge
AnyJudge = LexicalJudge | SentenceJudge | HumanJudge | Llm


class Judging(Section):
    """Who scores responses, and the judge-free restart detector beside them."""

    primary: Name = key(..., "The judge whose scores figures and tables show.")
    judges: dict[Name, Annotated[AnyJudge, Field(discriminator="kind")]] = key(
        ...,
        "Judges by name. The primary one grades every arm, all of them the sample of `agreement`.",
    )
    restart_phrases: Path = key(
        Path("resources/restart_phrases.txt"),
        "Regular expressions, one a line, of the judge-free restart detector.",
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
    def llms(self) -> dict[str, Llm]:
        """Judges that are language models."""
        return {name: judge for name, judge in self.judges.items() if isinstance(judge, Llm)}


class Agreement(Section):
    """The sample that all judges grade, to see how far they agree.

    Drawn by stratum: model, and what the primary judge found (several attempts, one, or no
    score). Every trial keeps its sampling weight, so that rates of the whole arms can be estimated.
    """

    arms: tuple[Name, ...] = key(("steered",), "Arms that it is drawn from.", min_length=1)
    size: int = key(1000, "Trials graded by every judge.", gt=0, source="paper A.2.2: 1,000")
    per_stratum: int = key(
        100,
        "Least trials of a stratum (all, if there are fewer; an equal part of `size`, if that "
        "is smaller). The rest is spread in proportion to the strata.",
        ge=1,
        source="released code: all multi-attempt trials, and 100 per model",
    )
    seed: int = key(42, "Seed of the draw.", source="released code: 42")


class Detectors(Section):
    """Which latents detect that a response is off topic, and the random sets matched to them."""

    arm: Name = key("discovery", "Arm (`over: prompts`, unsteered) whose responses are read.")
    criterion: Literal["separable", "zero_then_frequent", "graded"] = key(
        "separable",
        "`separable`: higher on every mismatched pair than on any matched one (AUROC 1); "
        "`zero_then_frequent`: zero on matched pairs, active on at least `frequency` of the "
        "mismatched; `graded`: AUROC of at least `auroc`, mean on matched pairs at most `leak` of "
        "that on mismatched ones.",
        source="January: AUC 1 on shuffled pairs; released code: zero_then_frequent",
    )
    pool: Literal["max", "mean"] = key("max", "Over tokens.", source="released code: max")
    span: Literal["response", "all"] = key(
        "all", "Tokens read: the response's, or the prompt's too.", source="released code: all"
    )
    frequency: float = key(0.8, "See `criterion`.", unit="share of pairs", ge=0, le=1)
    auroc: float = key(0.95, "See `criterion`.", ge=0.5, le=1)
    leak: float = key(0.05, "See `criterion`.", unit="share", ge=0, le=1)
    held_out: float = key(
        0.5, "Pairs kept out of the search, to check what was found.", unit="share", ge=0, lt=1
    )
    use: Literal["found", "given"] = key(
        "found", "Ablate the latents found, or those listed under the model (`detectors`)."
    )
    random_sets: int = key(3, "Sets matched to the detectors.", ge=0, source="paper A.3.3: 3")
    nearest: int = key(
        4, "A matched latent is drawn from so many nearest in frequency and mean.", gt=0
    )
    seed: int = key(46, "Seed of the derangement, the split and the matched sets.")


class Episodes(Section):
    """Self-corrections that are read token by token, and responses to compare them with."""

    arm: Name = key("steered", "Arm that all of them are taken from.")
    most: int = key(
        200,
        "Episodes read at most: exactly two attempts, the second better.",
        gt=0,
        source="released code: all, 146 of them",
    )
    baseline: int = key(
        50, "Responses read with one attempt, on topic.", ge=0, source="released code: 50"
    )
    baseline_score: float = key(
        50, "Least score of a baseline response.", unit="points", ge=0, le=100
    )
    unrestarted: int = key(
        50,
        "Responses read with one attempt, off topic, and no restart phrase: what detectors do "
        "where nothing is corrected.",
        ge=0,
        source="a control that the paper lacks",
    )
    off_topic_score: float = key(
        25, "An unrestarted response scores less.", unit="points", ge=0, le=100
    )
    steer: bool = key(
        True,
        "Read under the steering (and ablation) that a response was made with.",
        source="paper 3.6: on; released code for A.4: off",
    )
    backtracking: int = key(
        8,
        "Backtracking latents to choose, on half of the episodes, for a model that lists none.",
        ge=0,
        source="paper A.4: 16, by hand",
    )
    boundaries: Name = key(
        "detector",
        "Who says where a correction is: `detector`, by the restart phrases near where the judge's "
        "second attempt begins, or a judge that is a language model, by quotes.",
        source="released code: Claude, by counting characters",
    )
    boundaries_rubric: Path = key(
        Path("resources/rubrics/boundaries.yaml"), "What a language model is told about them."
    )
    window: int = key(
        40,
        "Tokens shown on either side of the start of a correction.",
        gt=0,
        source="released code: 150",
    )
    smooth: int = key(5, "Tokens of the trailing mean in which a rise is looked for.", gt=0)
    false_alarms: float = key(
        0.1,
        "A rise is a trailing mean above the level that so many baseline responses ever exceed.",
        unit="share",
        gt=0,
        lt=1,
    )
    seed: int = key(47, "Seed of the draws and of the split.")


class Statistics(Section):
    """How intervals are computed."""

    level: float = key(0.95, "Coverage of every interval.", gt=0, lt=1)
    bootstrap: int = key(4000, "Resamples of the latent-clustered bootstrap.", gt=0)
    seed: int = key(45, "Seed of bootstrap and permutation tests.")


class SaeSource(Section):
    """Where a model's SAE comes from: a SAELens folder, or a SAELens release and id."""

    path: Path | None = key(None, "Folder with cfg.json and sae_weights.safetensors.")
    release: str | None = key(None, "SAELens release, e.g. gemma-scope-2b-pt-res-canonical.")
    id: str | None = key(None, "SAE id within the release, e.g. layer_16/width_16k/canonical.")
    revision: str | None = key(
        None,
        "Commit of the hub repository behind the release; none = the newest. Either way "
        "`assets/sae.safetensors` records the commit and the checksums of the files.",
        pattern=r"^[0-9a-f]{40}$",
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.path is None) == (self.release is None):
            raise ValueError("give either `path`, or `release` and `id`")
        if (self.release is None) != (self.id is None):
            raise ValueError("`release` and `id` go together")
        if self.revision is not None and self.release is None:
            raise ValueError("`revision` is the commit of a `release`; a `path` has none")
        return self


class Neuronpedia(Section):
    """Labels as Neuronpedia exports them, downloaded once into `results/downloads/`."""

    neuronpedia: str = key(
        ...,
        "Id `<model>/<sae>`, e.g. gemma-2-2b/16-gemmascope-res-16k; SAELens lists it by release.",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]*/[A-Za-z0-9][A-Za-z0-9._-]*$",
    )


class BoostPrior(Section):
    """What is known of a model's thresholds beforehand."""

    lower: float = key(0.0, "Lowest boost tried.", unit="decoder units", ge=0)
    upper: float = key(..., "Highest boost tried.", unit="decoder units", gt=0)
    mean: float = key(..., "Prior mean of the threshold.", unit="decoder units", gt=0)
    sd: float = key(..., "Prior standard deviation.", unit="decoder units", gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.lower < self.mean < self.upper:
            raise ValueError(
                f"need lower < mean < upper, got {self.lower} < {self.mean} < {self.upper}"
            )
        return self


class Model(Section):
    """A language model with its SAE, and where one steers and reads."""

    label: str = key(..., "Name shown in figures and tables.")
    source: str = key(..., "Folder of a transformers checkpoint, or a hub id.")
    revision: str | None = key(None, "Commit of the hub repository; required for hub ids.")
    parameters: float = key(..., "Number of parameters; figures sort models by it.", gt=0)
    dtype: Literal["float32", "bfloat16", "float16"] = key("bfloat16", "Weights and activations.")
    quantization: Literal["fp8"] | None = key(
        None,
        "Quantise the weights on loading (`vllm`); none = `dtype`.",
        source="released code: fp8 for 70B",
    )
    tensor_parallel: int | None = key(
        None,
        "GPUs over which `vllm` spreads the model; none = those that `jobs` grants it.",
        gt=0,
        source="released code: all GPUs of the machine",
    )
    attention_backend: str | None = key(
        None,
        "Attention of `vllm`, by its name there; none = its own choice. Gemma 2 needs one that "
        "caps logits softly (FLASHINFER, FLASH_ATTN).",
        source="released code: FLASHINFER for Gemma",
    )
    sae: SaeSource = key(..., "The sparse autoencoder whose decoder directions steer.")
    labels: Path | Neuronpedia | None = key(
        None,
        "CSV with columns latent (or index_in_sae, as Goodfire has it), label; or "
        "`{neuronpedia: <id>}`; none = no labels: concreteness is skipped, and so are arms whose "
        "meta-prompt names the latent.",
    )
    steer_layer: int = key(
        ..., "Decoder layer (0-based) at whose output the boost is added and latents ablated.", ge=0
    )
    read_layer: int = key(..., "Decoder layer whose output the SAE's encoder reads.", ge=0)
    ablate_layer: int | None = key(
        None,
        "Decoder layer at whose output latents are ablated; none = steer_layer.",
        ge=0,
        source="January: the SAE's layer; released code: the steering layer",
    )
    boosts: BoostPrior = key(..., "Prior and bounds of the thresholds.")
    detectors: tuple[Annotated[int, Field(ge=0)], ...] = key(
        (), "Off-topic detectors known beforehand; beside, or (`use: given`) for, those found."
    )
    backtracking: tuple[Annotated[int, Field(ge=0)], ...] = key(
        (), "Backtracking latents known beforehand; none = chosen (`episodes.backtracking`)."
    )
    repetition_penalty: float | None = key(
        None, "Overrides `generation.repetition_penalty` for this model.", gt=0
    )

    @property
    def labels_file(self) -> Path | None:
        """The CSV with the labels, a downloaded one included."""
        if isinstance(self.labels, Neuronpedia):
            return DOWNLOADS / f"neuronpedia/{self.labels.neuronpedia}.csv"
        return self.labels

    @property
    def is_local(self) -> bool:
        """Whether `source` is a folder rather than a hub id."""
        return Path(self.source).is_dir()

    @property
    def folder(self) -> Path:
        """The folder that `source` names."""
        return Path(self.source)


class FinetuneData(Section):
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


class FinetuneTraining(Section):
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
    extra: dict[str, Any] = key({}, "More of axolotl's configuration, as it is.")

    @model_validator(mode="after")
    def _fits_its_device(self) -> Self:
        if self.device == "cpu" and self.optimizer != "adamw_torch":
            raise ValueError(f"`optimizer: {self.optimizer}` needs a GPU; use adamw_torch on a CPU")
        if self.device == "cpu" and self.precision != "float32":
            raise ValueError(f"`precision: {self.precision}` needs a GPU; use float32 on a CPU")
        return self


class Finetune(Section):
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
    data: FinetuneData = key(FinetuneData(), "The examples.")
    training: FinetuneTraining = key(FinetuneTraining(), "The training.")

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


EXAMPLES = ("corrections", "answers")
"""Kinds of examples, as `data` counts them."""


class FineTuned(NamedTuple):
    """What a fine-tuned model is made of: a model, and a share of self-corrections (percent)."""

    base: str
    share: int


class Config(Section):
    """Everything that decides what a study computes."""

    study: Name = key(..., "Name of the study; results go to results/<study>/.")
    title: str = key(..., "What the study is evidence about; shown under its figures.")
    prompts: Path = key(
        ..., "CSV with columns prompt_id, category, prompt.", source="paper: 38 prompts"
    )
    seeds: Seeds = key(Seeds(), "Seeds.")
    generation: Generation = key(Generation(), "Sampling of responses.")
    engine: Engine = key(Engine(), "Engine.")
    latents: Latents = key(Latents(), "Selection of latents.")
    thresholds: Thresholds = key(Thresholds(), "Threshold finding.")
    arms: dict[Name, Arm] = key(..., "Arms by name.")
    detectors: Detectors = key(Detectors(), "Off-topic detectors and their controls.")
    episodes: Episodes = key(Episodes(), "Self-corrections read token by token.")
    judging: Judging = key(..., "Judges.")
    agreement: Agreement = key(Agreement(), "Cross-judge sample.")
    statistics: Statistics = key(Statistics(), "Intervals and tests.")
    models: dict[Name, Model] = key(..., "Models by name.", min_length=1)
    finetune: Finetune = key(Finetune(), "Fine-tuned models.")
    claims: tuple[Path, ...] = key(
        (), "CSV files of claims that the scorecard judges (columns: `esr.scorecard.CLAIM`)."
    )
    jobs: tuple[JobSize, ...] = key(
        (), "What engine jobs ask of a scheduler, by model size, smallest first."
    )

    @model_validator(mode="after")
    def _replays_exist(self) -> Self:
        for name, arm in self.arms.items():
            seen = [name]
            while arm.replay is not None:
                if arm.replay not in self.arms:
                    raise ValueError(f"arms.{name}: replays unknown arm {arm.replay!r}")
                if arm.replay in seen:
                    raise ValueError(f"arms.{name}: replays itself through {' -> '.join(seen)}")
                seen.append(arm.replay)
                arm = self.arms[arm.replay]
        return self

    @model_validator(mode="after")
    def _every_model_has_a_job_size(self) -> Self:
        bounds = [size.parameters for size in self.jobs]
        if bounds != sorted(set(bounds)):
            raise ValueError("jobs: list sizes by `parameters`, smallest first")
        for name in self.models:
            if self.jobs and self.job_size(name) is None:
                raise ValueError(
                    f"models.{name}.parameters: larger than any size in `jobs`; add one there"
                )
        return self

    @model_validator(mode="after")
    def _keys_fit_the_engine(self) -> Self:
        for name, model in self.models.items():
            size, parallel = self.job_size(name), model.tensor_parallel or 1
            if size is not None and parallel > max(size.gpus, 1):
                raise ValueError(
                    f"models.{name}.tensor_parallel: {parallel}, but `jobs` grants {size.gpus} "
                    f"GPUs to models of up to {size.parameters:g} parameters; raise it there"
                )
            if model.quantization is not None and self.engine.name == "transformers":
                raise ValueError(
                    f"models.{name}.quantization: {model.quantization} needs `engine: {{name: "
                    "vllm}}`; the transformers engine computes in `dtype`"
                )
        return self

    @model_validator(mode="after")
    def _answers_exist(self) -> Self:
        relevance = self.latents.relevance
        arm = self.arms.get(relevance.answers)
        if relevance.criterion == "top_n" and (arm is None or arm.over != "prompts"):
            raise ValueError(
                f"latents.relevance.answers: {relevance.answers!r} is not an arm over prompts; "
                "add one, or use criterion `zero`, which reads prompts alone"
            )
        return self

    @model_validator(mode="after")
    def _rater_has_words(self) -> Self:
        concreteness = self.latents.concreteness
        if concreteness.rater == "lexical" and concreteness.lexicon is None:
            raise ValueError("latents.concreteness.lexicon: missing; the lexical rater needs it")
        _check_rater(self.judging, "latents.concreteness.rater", concreteness.rater, "lexical")
        return self

    @model_validator(mode="after")
    def _annotator_exists(self) -> Self:
        _check_rater(self.judging, "episodes.boundaries", self.episodes.boundaries, "detector")
        return self

    @model_validator(mode="after")
    def _ablations_have_detectors(self) -> Self:
        for name, arm in self.arms.items():
            if not isinstance(arm.ablate, str):
                continue
            source = self.arms.get(self.detectors.arm)
            if source is None or source.over != "prompts":
                raise ValueError(
                    f"arms.{name}.ablate: {arm.ablate} needs detectors, and detectors.arm "
                    f"({self.detectors.arm!r}) is not an arm over prompts"
                )
            number = arm.ablate.removeprefix("random-")
            if number.isdigit() and int(number) >= self.detectors.random_sets:
                raise ValueError(
                    f"arms.{name}.ablate: {arm.ablate}, but detectors.random_sets is "
                    f"{self.detectors.random_sets} (sets count from 0)"
                )
        return self

    @model_validator(mode="after")
    def _sampled_arms_exist(self) -> Self:
        unknown = [name for name in self.agreement.arms if name not in self.arms]
        if unknown:
            raise ValueError(f"agreement.arms: there are no arms {unknown}")
        return self

    @model_validator(mode="after")
    def _episodes_have_an_arm(self) -> Self:
        if self.episodes.arm not in self.arms:
            raise ValueError(
                f"episodes.arm: {self.episodes.arm!r} is not among the arms {sorted(self.arms)}"
            )
        return self

    @model_validator(mode="after")
    def _finetuned_models_are_sound(self) -> Self:
        settings = self.finetune
        unknown = [name for name in settings.models if name not in self.models]
        if unknown:
            raise ValueError(f"finetune.models: there are no models {unknown}")
        if not settings.models:
            return self
        # A configuration that was loaded and written down has them already, as they must be.
        taken = [
            name
            for name in self.finetuned
            if name in self.models and self.models[name] != _finetuned_model(self, name)
        ]
        if taken:
            raise ValueError(f"models.{taken[0]}: the name of a fine-tuned model; take another one")
        if settings.serve == "lora" and self.engine.name == "transformers":
            raise ValueError(
                "finetune.serve: lora needs engine vllm; merge adapters for engine transformers"
            )
        _check_rater(self.judging, "finetune.data.writer", settings.data.writer, "corpus")
        if "steered" not in settings.arms:
            raise ValueError("finetune.arms: `steered` is missing, which Figure 6 shows")
        for name in settings.arms:
            if name not in self.arms:
                raise ValueError(f"finetune.arms: there is no arm {name!r}")
            arm = self.arms[name]
            if arm.replay is not None and arm.replay not in settings.arms:
                raise ValueError(f"finetune.arms: {name} replays {arm.replay}; list that, too")
            if isinstance(arm.ablate, str):
                raise ValueError(f"finetune.arms: {name} needs detectors, which only bases have")
        return self

    @property
    def finetuned(self) -> dict[str, FineTuned]:
        """Fine-tuned models by name: base by base, shares in the order of the configuration."""
        return {
            f"{base}+sc{share}": FineTuned(base, share)
            for base in self.finetune.models
            for share in self.finetune.ratios
        }

    @property
    def originals(self) -> dict[str, Model]:
        """Models that are not fine-tuned ones: those that every experiment is about."""
        made = self.finetuned
        return {name: model for name, model in self.models.items() if name not in made}

    def base_of(self, model: str) -> str:
        """The model that a fine-tuned one comes from, whose latents and SAE it has; or itself."""
        return self.finetuned[model].base if model in self.finetuned else model

    def arms_of(self, model: str) -> list[str]:
        """Arms that a model runs: a fine-tuned one, those of `finetune.arms`.

        Without labels, none whose meta-prompt names the latent.
        """
        labelled = self.models[model].labels is not None
        asked = self.finetune.arms if model in self.finetuned else self.arms
        return [
            name
            for name, arm in self.arms.items()
            if name in asked and (labelled or not arm.needs_labels)
        ]

    @property
    def meta_arms(self) -> list[str]:
        """Arms that repeat `steered` under a meta-prompt, in the order of the configuration."""
        return [
            name
            for name, arm in self.arms.items()
            if arm.meta_prompt is not None and arm.replay == "steered"
        ]

    @property
    def trials_per_latent(self) -> int:
        """Most trials that any arm wants of a latent, each on another prompt."""
        return max(
            (arm.trials or 0 for arm in self.arms.values() if arm.over == "latents"), default=0
        )

    def shards(self, arm: str) -> int:
        """Jobs that the responses of an arm are divided over."""
        return self.arms[arm].shards or self.engine.shards

    def on_cpu(self, model: str) -> bool:
        """Whether `vllm` runs a model on the CPU: so told, or granted no GPU."""
        size = self.job_size(model)
        return self.engine.device == "cpu" or (size is not None and size.gpus == 0)

    def gpus(self, model: str) -> int:
        """GPUs over which the study's engine spreads a model; 0 = it runs on the CPU."""
        if self.on_cpu(model):
            return 0
        if self.engine.name == "transformers":
            return 1  # whatever the scheduler grants
        size = self.job_size(model)
        return self.models[model].tensor_parallel or (1 if size is None else size.gpus)

    def environment(self, model: str) -> str | None:
        """Environment below `envs/` that the engine of a model runs in; None = the main one."""
        if self.engine.name == "transformers":
            return None
        return "serve-cpu" if self.on_cpu(model) else "serve"

    def job_size(self, model: str) -> JobSize | None:
        """What engine jobs of a model ask of a scheduler; None if no size is large enough."""
        fitting = (size for size in self.jobs if self.models[model].parameters <= size.parameters)
        return next(fitting, None)

    @property
    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 of the configuration as canonical JSON."""
        # Not what a job asks of a scheduler, which decides when it runs and not what it computes.
        text = json.dumps(self.model_dump(mode="json", exclude={"jobs"}), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def sampling(self, model: str) -> dict[str, float | int]:
        """Sampling settings of a model: `generation` with the model's own overrides."""
        penalty = self.models[model].repetition_penalty or self.generation.repetition_penalty
        return {
            "temperature": self.generation.temperature,
            "max_new_tokens": self.generation.max_new_tokens,
            "repetition_penalty": penalty,
        }


def _check_rater(judging: Judging, where: str, name: str, builtin: str) -> None:
    if name != builtin and name not in judging.llms:
        known = ", ".join([builtin, *judging.llms])
        raise ValueError(
            f"{where}: {name!r} is no judge that is a language model; there are: {known}"
        )


def merge(base: Mapping[str, Any], *overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Merge mappings deeply, later ones winning; what Snakemake does with its config files."""
    result = dict(base)
    for override in overrides:
        for name, value in override.items():
            old = result.get(name)
            both = isinstance(old, Mapping) and isinstance(value, Mapping)
            result[name] = merge(old, value) if both else value  # type: ignore[arg-type]
    return result


def plain_settings(config: Config, keys: Iterable[str]) -> dict[str, Any]:
    """Values of dotted keys as plain data, which Snakemake compares between runs.

    Raises:
        EsrError: there is no such key.
    """
    return {dotted: _plain(_look_up(config, dotted)) for dotted in keys}


def _look_up(config: Config, dotted: str) -> Any:
    value: Any = config
    rest = dotted
    while rest:
        if isinstance(value, Mapping):  # names may contain dots: the longest that is there
            names = [name for name in value if f"{rest}.".startswith(f"{name}.")]
            part = max(names, key=len, default="")
        else:
            part = rest.split(".")[0]
        try:
            value = value[part] if isinstance(value, Mapping) else getattr(value, part)
        except (KeyError, AttributeError):
            raise EsrError(f"there is no configuration key {dotted!r} (at {rest!r})") from None
        rest = rest[len(part) + 1 :]
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return value.as_posix() if isinstance(value, Path) else value


def drop_disabled(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Remove arms, models and judges that a study sets to null (`arms: {unsteered: null}`).

    A model that is disabled is not fine-tuned, either.
    """
    result = dict(raw)
    for section in ("arms", "models"):
        if isinstance(result.get(section), Mapping):
            result[section] = _enabled(result[section])
    finetune, models = result.get("finetune"), raw.get("models")
    if isinstance(finetune, Mapping) and isinstance(models, Mapping):
        wanted = finetune.get("models") or ()
        kept = [name for name in wanted if name not in models or name in result["models"]]
        result["finetune"] = {**finetune, "models": kept}
    judging = result.get("judging")
    if isinstance(judging, Mapping) and isinstance(judging.get("judges"), Mapping):
        result["judging"] = {**judging, "judges": _enabled(judging["judges"])}
    return result


def _enabled(named: Mapping[str, Any]) -> dict[str, Any]:
    # Snakemake passes what is nested in `--config` on as text, so null arrives as "null".
    return {name: value for name, value in named.items() if value not in (None, "null")}


def load(raw: Mapping[str, Any]) -> Config:
    """Validate a merged configuration; fine-tuned models are among its `models`.

    Raises:
        EsrError: naming every offending key, its value, and what it should be.
    """
    try:
        return _with_finetuned(Config.model_validate(drop_disabled(raw)))
    except ValidationError as error:
        lines = [_explain(problem) for problem in error.errors()]
        study = raw.get("study", "?")
        raise EsrError(
            f"The configuration of study {study!r} is not valid:\n"
            + "\n".join(f"  - {line}" for line in lines)
            + "\nEvery key is described in docs/config.md."
        ) from None


def _with_finetuned(config: Config) -> Config:
    """The configuration with its fine-tuned models: like their bases, but for label and source."""
    added = {name: _finetuned_model(config, name) for name in config.finetuned}
    return config.model_copy(update={"models": {**config.models, **added}})


def _finetuned_model(config: Config, name: str) -> Model:
    base, share = config.finetuned[name]
    model = config.models[base]
    own: dict[str, Any] = {"label": f"{model.label}, {share} % corrections"}
    if config.finetune.serve == "merged":
        folder = f"results/{config.study}/{name}/finetuning/adapter/merged"
        own |= {"source": folder, "revision": None}
    return model.model_copy(update=own)


FORMS = {"constrained-str", "Levels", "str"}


def _explain(problem: Any) -> str:
    # Where a key has several forms, pydantic adds the form it tried ("tuple[...]") to the place.
    parts = [str(part) for part in problem["loc"]]
    if parts[:2] == ["judging", "judges"]:
        del parts[3:4]  # the kind of judge
    if problem["type"].startswith("union_tag"):
        parts.append("kind")
        problem = problem | {"input": problem["input"].get("kind")}
    where = ".".join(p for p in parts if "[" not in p and p not in FORMS) or "config"
    if problem["type"] == "extra_forbidden":
        return f"{where}: unknown key (value {problem['input']!r}); remove it or mend its spelling"
    if problem["type"] in ("missing", "union_tag_not_found"):
        return f"{where}: missing; add it"
    message = problem["msg"].removeprefix("Value error, ")
    value = problem["input"]
    # Who takes `key_variable` for the place of the key itself should not find it in a log.
    hidden = isinstance(value, Mapping) or "key_variable" in parts
    shown = "" if hidden else f" (got {value!r})"
    return f"{where}: {message}{shown}"

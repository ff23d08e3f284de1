"""Models: checkpoint, SAE, labels, layers, and the prior of the thresholds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from esr.config.section import DOWNLOADS, Section, Variable, key


class SaeConfig(Section):
    """Source of a model's SAE: a SAELens folder, or a SAELens release and id."""

    path: Path | None = key(None, "Folder with cfg.json and sae_weights.safetensors.")
    release: str | None = key(None, "SAELens release, e.g. gemma-scope-2b-pt-res-canonical.")
    id: str | None = key(None, "SAE id within the release, e.g. layer_16/width_16k/canonical.")
    revision: str | None = key(
        None,
        "Commit of the release's hub repository; none = the newest. Either way, "
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


class NeuronpediaConfig(Section):
    """Labels as Neuronpedia exports them, downloaded once into `results/downloads/`."""

    neuronpedia: str = key(
        ...,
        "Id `<model>/<sae>`, e.g. gemma-2-2b/16-gemmascope-res-16k; SAELens lists these ids.",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]*/[A-Za-z0-9][A-Za-z0-9._-]*$",
    )


SaeFinding = Literal["metadata", "fvu", "neighbour", "l0"]

SD_LIMIT = 10
"""Largest prior sd, as a multiple of the distance between the bounds: flat between them."""
WIDEST_SPAN = 1e6
"""Largest distance between the bounds, as a multiple of the prior sd: a point between them."""


class ThresholdPriorConfig(Section):
    """Prior and bounds of a model's thresholds."""

    lower: float = key(0.0, "Lowest boost tried.", unit="decoder units", ge=0)
    upper: float = key(..., "Highest boost tried.", unit="decoder units", gt=0, le=1e9)
    mean: float = key(..., "Prior mean of the threshold.", unit="decoder units", gt=0)
    sd: float = key(..., "Prior standard deviation.", unit="decoder units", gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.lower < self.mean < self.upper:
            raise ValueError(
                f"need lower < mean < upper, got {self.lower} < {self.mean} < {self.upper}"
            )
        span = self.upper - self.lower
        if not span / WIDEST_SPAN <= self.sd <= SD_LIMIT * span:
            raise ValueError(
                f"sd is {self.sd:g}, but the bounds are {span:g} apart; give an sd of "
                f"{span / WIDEST_SPAN:g} to {SD_LIMIT * span:g}"
            )
        return self


class ModelConfig(Section):
    """A language model with its SAE, and the layers at which it is steered and encoded."""

    label: str = key(..., "Name in figures and tables, of this model alone.", min_length=1)
    source: str = key(..., "Folder of a transformers checkpoint, or a hub id.")
    revision: str | None = key(None, "Commit of the hub repository; required for hub ids.")
    parameters: float = key(..., "Number of parameters; figures sort models by it.", gt=0, le=1e15)
    dtype: Literal["float32", "bfloat16", "float16"] = key("bfloat16", "Weights and activations.")
    quantization: str | None = key(
        None,
        "Quantisation of the weights, by its name in `vllm`: while loading (fp8, "
        "int8_per_channel_weight_only), or stored in the checkpoint (gptq, awq, "
        "compressed-tensors); none = `dtype`, or the checkpoint's own.",
        source="released code: fp8 for 70B",
    )
    tensor_parallel: int | None = key(
        None,
        "GPUs over which `vllm` splits the model; none = all that `jobs` requests for it.",
        gt=0,
        le=10_000,
        source="released code: all GPUs of the machine",
    )
    batch_size: int | None = key(
        None,
        "Overrides `engine.batch_size` for this model, and for those that are fine-tuned from it.",
        unit="trials",
        gt=0,
        le=1_000_000,
    )
    attention_backend: str | None = key(
        None,
        "Attention backend of `vllm`; none = its own choice. Gemma 2 needs a backend with logit "
        "soft-capping (FLASHINFER, FLASH_ATTN).",
        source="released code: FLASHINFER for Gemma",
    )
    template: dict[Variable, bool | int | float | str] = key(
        {},
        "Arguments of the chat template, e.g. `{enable_thinking: true}` or "
        '`{date_string: "26 Jul 2024"}`. Thinking is off where the template has '
        "`enable_thinking`; `strftime_now` is the date that the template reads.",
    )
    sae: SaeConfig = key(..., "The sparse autoencoder whose decoder directions are added.")
    labels: Path | NeuronpediaConfig | None = key(
        None,
        "CSV with columns latent (or index_in_sae, as in Goodfire's files) and label; or "
        "`{neuronpedia: <id>}`; none = no labels: concreteness is skipped, and so are arms whose "
        "meta-prompt names the latent.",
    )
    steer_layer: int = key(
        ..., "Decoder layer (0-based) at whose output the boost is added and latents ablated.", ge=0
    )
    read_layer: int = key(..., "Decoder layer (0-based) whose output the SAE encodes.", ge=0)
    ablate_layer: int | None = key(
        None,
        "Decoder layer (0-based) at whose output latents are ablated; none = steer_layer.",
        ge=0,
        source="January: the SAE's layer; released code: the steering layer",
    )
    accept_sae: tuple[SaeFinding, ...] = key(
        (),
        "Findings about the SAE that do not stop the study: `metadata` (its own metadata name "
        "another layer, stream or model), `fvu`, `neighbour`, `l0` (limits of `sae_fit`). They "
        "are recorded in `sae_fit.parquet`.",
    )
    threshold_prior: ThresholdPriorConfig | None = key(
        None,
        "Prior and bounds of the thresholds. `null`: measured, from the norms of the residual "
        "stream and of the decoder rows (`boost_scale` in `sae_fit.parquet`) and from probes of a "
        "dozen latents without a judge (`boost_probes.parquet`).",
    )
    detectors: tuple[Annotated[int, Field(ge=0)], ...] = key(
        (),
        "Known off-topic detectors; reported beside those found, or used in their place "
        "(`detectors.use: given`).",
    )
    backtracking: tuple[Annotated[int, Field(ge=0)], ...] = key(
        (), "Known backtracking latents; none = chosen from episodes (`episodes.backtracking`)."
    )
    repetition_penalty: float | None = key(
        None, "Overrides `generation.repetition_penalty` for this model.", gt=0, le=100
    )

    @field_validator("template", mode="before")
    @classmethod
    def _truth_values(cls, given: Any) -> Any:
        # What is nested in `--config` arrives as text, and a template takes "false" for true.
        if not isinstance(given, Mapping):
            return given
        words = {"true": True, "false": False}
        return {
            name: words.get(value.lower(), value) if isinstance(value, str) else value
            for name, value in given.items()
        }

    @property
    def labels_file(self) -> Path | None:
        """The CSV with the labels, provided or downloaded."""
        if isinstance(self.labels, NeuronpediaConfig):
            return DOWNLOADS / f"neuronpedia/{self.labels.neuronpedia}.csv"
        return self.labels

    @property
    def latent_pages(self) -> str | None:
        """Address of Neuronpedia's pages of the SAE's latents, without `/<latent>`, if known."""
        if isinstance(self.labels, NeuronpediaConfig):
            return f"https://www.neuronpedia.org/{self.labels.neuronpedia}"
        return None

    @property
    def is_local(self) -> bool:
        """Whether `source` is a folder rather than a hub id."""
        return Path(self.source).is_dir()

    @property
    def folder(self) -> Path:
        """The folder that `source` names."""
        return Path(self.source)

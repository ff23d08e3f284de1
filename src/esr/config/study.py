"""The whole configuration of a study, and what follows from several sections together."""

import hashlib
import json
from pathlib import Path
from typing import Any, Self

from pydantic import model_validator

from esr.config.agreement import AgreementConfig
from esr.config.arms import ArmConfig
from esr.config.detectors import DetectorsConfig
from esr.config.engine import EngineConfig, GenerationConfig, JobSizeConfig
from esr.config.episodes import EpisodesConfig
from esr.config.finetuning import FinetuneConfig, FineTuned
from esr.config.judging import JudgingConfig
from esr.config.latents import LatentsConfig
from esr.config.models import ModelConfig
from esr.config.section import Name, Section, key
from esr.config.statistics import StatisticsConfig
from esr.config.thresholds import ThresholdsConfig


class SeedsConfig(Section):
    """Seeds, one a purpose."""

    latents: int = key(42, "Order in which candidate latents are drawn.", source="January README")
    boosts: int = key(43, "Prompts drawn while thresholds are found.", source="January README")
    generation: int = key(
        44, "Trial i of an arm samples with seed generation + i.", source="January README"
    )


class Config(Section):
    """Everything that decides what a study computes."""

    study: Name = key(..., "Name of the study; results go to results/<study>/.")
    title: str = key(..., "What the study is evidence about; shown under its figures.")
    prompts: Path = key(
        ..., "CSV with columns prompt_id, category, prompt.", source="paper: 38 prompts"
    )
    seeds: SeedsConfig = key(SeedsConfig(), "Seeds.")
    generation: GenerationConfig = key(GenerationConfig(), "Sampling of responses.")
    engine: EngineConfig = key(EngineConfig(), "Engine.")
    latents: LatentsConfig = key(LatentsConfig(), "Selection of latents.")
    thresholds: ThresholdsConfig = key(ThresholdsConfig(), "Threshold finding.")
    arms: dict[Name, ArmConfig] = key(..., "Arms by name.")
    detectors: DetectorsConfig = key(DetectorsConfig(), "Off-topic detectors and their controls.")
    episodes: EpisodesConfig = key(EpisodesConfig(), "Self-corrections read token by token.")
    judging: JudgingConfig = key(..., "Judges.")
    agreement: AgreementConfig = key(AgreementConfig(), "Cross-judge sample.")
    statistics: StatisticsConfig = key(StatisticsConfig(), "Intervals and tests.")
    models: dict[Name, ModelConfig] = key(..., "Models by name.", min_length=1)
    finetune: FinetuneConfig = key(FinetuneConfig(), "Fine-tuned models.")
    claims: tuple[Path, ...] = key(
        (), "CSV files of claims that the scorecard judges (columns: `esr.analysis.claims.CLAIM`)."
    )
    jobs: tuple[JobSizeConfig, ...] = key(
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
            if name in self.models and self.models[name] != self.finetuned_model(name)
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

    def finetuned_model(self, name: str) -> ModelConfig:
        """A fine-tuned model: like its base, but for label and, once merged, source."""
        base, share = self.finetuned[name]
        model = self.models[base]
        own: dict[str, Any] = {"label": f"{model.label}, {share} % corrections"}
        if self.finetune.serve == "merged":
            folder = f"results/{self.study}/{name}/finetuning/merged"
            own |= {"source": folder, "revision": None}
        return model.model_copy(update=own)

    @property
    def base_models(self) -> dict[str, ModelConfig]:
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

    def job_size(self, model: str) -> JobSizeConfig | None:
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


def _check_rater(judging: JudgingConfig, where: str, name: str, builtin: str) -> None:
    if name != builtin and name not in judging.llms:
        known = ", ".join([builtin, *judging.llms])
        raise ValueError(
            f"{where}: {name!r} is no judge that is a language model; there are: {known}"
        )

"""The configuration of a study, the checks across its sections, and values derived from them."""

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
from esr.config.judging import JudgingConfig, VllmJudgeConfig
from esr.config.latents import LatentsConfig
from esr.config.models import ModelConfig
from esr.config.sae_fit import SaeFitConfig
from esr.config.section import Name, Section, Seed, key
from esr.config.statistics import StatisticsConfig
from esr.config.thresholds import ThresholdsConfig
from esr.paths import SHARED


class SeedsConfig(Section):
    """Seeds, one per purpose."""

    latents: Seed = key(42, "Order in which candidate latents are drawn.", source="January README")
    thresholds: Seed = key(43, "Prompts of the threshold search.", source="January README")
    generation: Seed = key(
        44,
        "Base of the trials' sampling seeds; each also follows from its latent (or prompt) and "
        "repetition.",
        source="January README: 44 + position",
    )


class Config(Section):
    """Everything that determines what a study computes."""

    study: Name = key(..., "Name of the study; its results are in results/<study>/.")
    title: str = key(..., "What the study is evidence about; printed under its figures.")
    prompts: Path = key(
        ..., "CSV with columns prompt_id, category, prompt.", source="paper: 38 prompts"
    )
    seeds: SeedsConfig = key(SeedsConfig(), "Random seeds.")
    generation: GenerationConfig = key(GenerationConfig(), "Sampling of responses.")
    engine: EngineConfig = key(EngineConfig(), "What computes.")
    sae_fit: SaeFitConfig = key(SaeFitConfig(), "How well SAEs fit their models.")
    latents: LatentsConfig = key(LatentsConfig(), "Selection of latents.")
    thresholds: ThresholdsConfig = key(ThresholdsConfig(), "Threshold finding.")
    arms: dict[Name, ArmConfig] = key(..., "Arms by name.")
    detectors: DetectorsConfig = key(DetectorsConfig(), "Off-topic detectors and their controls.")
    episodes: EpisodesConfig = key(EpisodesConfig(), "Self-corrections encoded token by token.")
    judging: JudgingConfig = key(..., "Judges, and the restart detector.")
    agreement: AgreementConfig = key(AgreementConfig(), "Cross-judge sample.")
    statistics: StatisticsConfig = key(StatisticsConfig(), "Intervals and tests.")
    models: dict[Name, ModelConfig] = key(..., "Models by name.", min_length=1)
    finetune: FinetuneConfig = key(FinetuneConfig(), "Fine-tuned models.")
    claims: tuple[Path, ...] = key(
        (), "CSV files of the claims in the scorecard (columns: `esr.analysis.claims.CLAIM`)."
    )
    jobs: tuple[JobSizeConfig, ...] = key(
        (), "Resources that engine jobs request, by model size, smallest first."
    )

    @model_validator(mode="after")
    def _has_a_folder_of_its_own(self) -> Self:
        if self.study in SHARED:
            raise ValueError(
                f"study: results/{self.study}/ belongs to all studies; choose another name"
            )
        return self

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
        bounds = [size.max_parameters for size in self.jobs]
        if bounds != sorted(set(bounds)):
            raise ValueError("jobs: sort the sizes by `max_parameters`, smallest first")
        for name in self.models:
            if self.jobs and self.job_size(name) is None:
                raise ValueError(
                    f"models.{name}.parameters: larger than any `max_parameters` in `jobs`; "
                    "add a size"
                )
        return self

    @model_validator(mode="after")
    def _keys_fit_the_engine(self) -> Self:
        for name, model in self.models.items():
            size = self.job_size(name)
            parallel = model.tensor_parallel or 1
            if size is not None and parallel > max(size.gpus, 1):
                raise ValueError(
                    f"models.{name}.tensor_parallel: {parallel}, but `jobs` requests "
                    f"{size.gpus} GPUs for models of up to {size.max_parameters:g} parameters; "
                    "raise `gpus` there"
                )
            if model.quantization is not None and self.engine.name == "transformers":
                raise ValueError(
                    f"models.{name}.quantization: {model.quantization} needs `engine: {{name: "
                    "vllm}}`; the transformers engine computes in `dtype`"
                )
        return self

    @model_validator(mode="after")
    def _local_judges_fit_the_jobs(self) -> Self:
        for name, judge in self.judging.local.items():
            where = f"judging.judges.{name}"
            size = self.size_for(judge.parameters)
            if self.jobs and size is None:
                raise ValueError(
                    f"{where}.parameters: larger than any `max_parameters` in `jobs`; add a size"
                )
            if size is not None and (judge.tensor_parallel or 1) > max(size.gpus, 1):
                raise ValueError(
                    f"{where}.tensor_parallel: {judge.tensor_parallel}, but `jobs` requests "
                    f"{size.gpus} GPUs for models of up to {size.max_parameters:g} parameters; "
                    "raise `gpus` there"
                )
            share = judge.memory_fraction + self.engine.vllm.memory_fraction
            searches = name == self.judging.primary and judge.gpus_in_search == "shared"
            if searches and self.engine.name == "vllm" and share > 0.97:
                raise ValueError(
                    f"{where}.memory_fraction: {judge.memory_fraction:g} and the engine's "
                    f"{self.engine.vllm.memory_fraction:g} (engine.vllm.memory_fraction) share a "
                    "GPU; lower them to 0.97 together, or set `gpus_in_search: own`"
                )
        return self

    @model_validator(mode="after")
    def _answers_exist(self) -> Self:
        relevance = self.latents.relevance
        arm = self.arms.get(relevance.answers)
        if relevance.criterion == "top_n" and (arm is None or arm.over != "prompts"):
            raise ValueError(
                f"latents.relevance.answers: {relevance.answers!r} is not an arm over prompts; "
                "add one, or use criterion `zero`, which encodes only prompts"
            )
        return self

    @model_validator(mode="after")
    def _fit_has_answers(self) -> Self:
        name = self.sae_fit.arm
        if name is not None and not (name in self.arms and self.arms[name].is_unsteered):
            raise ValueError(
                f"sae_fit.arm: {name!r} is not an unsteered arm over prompts; choose one with "
                "`over: prompts` and without meta-prompt, prefill and ablation, or `null`"
            )
        return self

    @model_validator(mode="after")
    def _lexical_rater_has_a_lexicon(self) -> Self:
        concreteness = self.latents.concreteness
        labelled = [name for name, model in self.models.items() if model.labels is not None]
        if labelled and concreteness.rater == "lexical" and concreteness.lexicon is None:
            raise ValueError(
                f"latents.concreteness.lexicon: missing, and rater `lexical` rates the labels of "
                f"{', '.join(labelled)} by it; name a file, or set `rater` to a judge that is a "
                "language model"
            )
        _check_rater(self.judging, "latents.concreteness.rater", concreteness.rater, "lexical")
        return self

    @model_validator(mode="after")
    def _judges_that_are_needed_are_not_optional(self) -> Self:
        needed = {
            "judging.primary": self.judging.primary,
            "latents.concreteness.rater": self.latents.concreteness.rater,
            "episodes.boundaries": self.episodes.boundaries,
            "finetune.data.writer": self.finetune.data.writer,
        }
        for where, name in needed.items():
            if name in self.judging.optional:
                raise ValueError(
                    f"judging.judges.{name}.optional: {where} needs it; remove `optional`"
                )
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
                    f"arms.{name}.ablate: {arm.ablate} needs detectors, but detectors.arm "
                    f"({self.detectors.arm!r}) is not an arm over prompts; add that arm"
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
        unknown = [name for name in self.agreement.arms or () if name not in self.arms]
        if unknown:
            raise ValueError(
                f"agreement.arms: no such arms: {unknown}; choose from {sorted(self.arms)}"
            )
        return self

    @model_validator(mode="after")
    def _bridged_judges_exist(self) -> Self:
        unknown = [n for n in self.agreement.bridge or () if n not in self.judging.judges]
        if unknown:
            raise ValueError(
                f"agreement.bridge: no such judges: {unknown}; choose two of "
                f"{sorted(self.judging.judges)}"
            )
        return self

    @property
    def bridge(self) -> tuple[str, str] | None:
        """Old and new judge of the bridge; None if there is but one judge."""
        second = self.judging.second
        default = None if second is None else (second, self.judging.primary)
        named = self.agreement.bridge
        return default if named is None else (named[0], named[1])

    @model_validator(mode="after")
    def _episodes_have_an_arm(self) -> Self:
        if self.episodes.arm not in self.arms:
            raise ValueError(
                f"episodes.arm: {self.episodes.arm!r} is not among the arms {sorted(self.arms)}"
            )
        return self

    @model_validator(mode="after")
    def _finetuning_is_consistent(self) -> Self:
        settings = self.finetune
        unknown = [name for name in settings.models if name not in self.models]
        if unknown:
            raise ValueError(
                f"finetune.models: no such models: {unknown}; choose from {sorted(self.models)}"
            )
        if not settings.models:
            return self
        # A configuration that was loaded and dumped contains its fine-tuned models already.
        taken = [
            name
            for name in self.finetuned
            if name in self.models and self.models[name] != self.finetuned_model(name)
        ]
        if taken:
            raise ValueError(
                f"models.{taken[0]}: this name belongs to a fine-tuned model; choose another"
            )
        if settings.serve == "lora" and self.engine.name == "transformers":
            raise ValueError(
                "finetune.serve: lora needs engine vllm; use `merged` with engine transformers"
            )
        _check_rater(self.judging, "finetune.data.writer", settings.data.writer, "corpus")
        if "steered" not in settings.arms:
            raise ValueError("finetune.arms: add `steered`, which Figure 6 shows")
        for name in settings.arms:
            if name not in self.arms:
                raise ValueError(
                    f"finetune.arms: no such arm: {name!r}; choose from {sorted(self.arms)}"
                )
            arm = self.arms[name]
            if arm.replay is not None and arm.replay not in settings.arms:
                raise ValueError(
                    f"finetune.arms: {name} replays {arm.replay}; list {arm.replay} as well"
                )
            if isinstance(arm.ablate, str):
                raise ValueError(
                    f"finetune.arms: {name} needs detectors, which only base models have"
                )
        return self

    @property
    def finetuned(self) -> dict[str, FineTuned]:
        """Fine-tuned models by name, ordered by base model, then by share, then by training."""
        return {
            f"{base}+sc{share}" + (f"-{number}" if number > 1 else ""): FineTuned(
                base, share, number
            )
            for base in self.finetune.models
            for share in self.finetune.shares
            for number in range(1, self.finetune.seeds + 1)
        }

    def finetuned_model(self, name: str) -> ModelConfig:
        """Settings of a fine-tuned model: those of its base, with its own label and source."""
        tuned = self.finetuned[name]
        model = self.models[tuned.base]
        which = f", training {tuned.training}" if tuned.training > 1 else ""
        own: dict[str, Any] = {"label": f"{model.label}, {tuned.share} % corrections{which}"}
        if self.finetune.serve == "merged":
            folder = f"results/{self.study}/{name}/finetuning/merged"
            own |= {"source": folder, "revision": None}
        return model.model_copy(update=own)

    @property
    def base_models(self) -> dict[str, ModelConfig]:
        """Models that every experiment is about: all but the fine-tuned ones."""
        tuned = self.finetuned
        return {name: model for name, model in self.models.items() if name not in tuned}

    def base_of(self, model: str) -> str:
        """The base of a fine-tuned model, whose latents and SAE it uses; else the model itself."""
        return self.finetuned[model].base if model in self.finetuned else model

    def arms_of(self, model: str) -> list[str]:
        """Arms that a model runs; a fine-tuned model runs those of `finetune.arms`.

        A model without labels skips arms whose meta-prompt names the latent.
        """
        labelled = self.models[model].labels is not None
        listed = self.finetune.arms if model in self.finetuned else self.arms
        return [
            name
            for name, arm in self.arms.items()
            if name in listed and (labelled or not arm.needs_labels)
        ]

    @property
    def fit_arm(self) -> str | None:
        """Unsteered arm whose answers an SAE is compared with; None = the study has none."""
        if self.sae_fit.arm is not None:
            return self.sae_fit.arm
        unsteered = [name for name, arm in self.arms.items() if arm.is_unsteered]
        preferred = self.latents.relevance.answers
        return preferred if preferred in unsteered else next(iter(unsteered), None)

    @property
    def meta_arms(self) -> list[str]:
        """Arms that replay `steered` under a meta-prompt, in the order of the configuration."""
        return [
            name
            for name, arm in self.arms.items()
            if arm.meta_prompt is not None and arm.replay == "steered"
        ]

    def needs_detectors(self, arm: str) -> bool:
        """Whether an arm, or one that it replays, ablates detectors or sets matched to them."""
        settings = self.arms[arm]
        if settings.ablate:
            return isinstance(settings.ablate, str)
        return settings.replay is not None and self.needs_detectors(settings.replay)

    @property
    def trials_per_latent(self) -> int:
        """Largest number of trials per latent in any arm, each on another prompt."""
        return max(
            (arm.trials or 0 for arm in self.arms.values() if arm.over == "latents"), default=0
        )

    def shards(self, arm: str) -> int:
        """Number of jobs that generate the responses of an arm."""
        return self.arms[arm].shards or self.engine.shards

    def on_cpu(self, model: str) -> bool:
        """Whether `vllm` runs a model on the CPU: by `engine.device`, or if `jobs` has no GPU."""
        size = self.job_size(model)
        return self.engine.device == "cpu" or (size is not None and size.gpus == 0)

    def gpus(self, model: str) -> int:
        """Number of GPUs that a model is split over; 0 = it runs on the CPU."""
        if self.on_cpu(model):
            return 0
        if self.engine.name == "transformers":
            return 1  # this engine uses one, whatever `jobs` requests
        size = self.job_size(model)
        return self.models[model].tensor_parallel or (1 if size is None else size.gpus)

    def serving(self, model: str) -> dict[str, Any]:
        """How `vllm` computes a model, which changes rounding; nothing for `transformers`."""
        if self.engine.name == "transformers":
            return {}
        backend = self.models[model].attention_backend
        return {"attention_backend": backend, "gpus": self.gpus(model)}

    def environment(self, model: str) -> str | None:
        """Environment below `envs/` in which a model's engine runs; None = the main one."""
        if self.engine.name == "transformers":
            return None
        return "serve-cpu" if self.on_cpu(model) else "serve"

    def job_size(self, model: str) -> JobSizeConfig | None:
        """Resources that engine jobs of a model request; None if no size is large enough."""
        return self.size_for(self.models[model].parameters)

    def size_for(self, parameters: float) -> JobSizeConfig | None:
        """Resources that jobs request for a number of parameters; None if no size is enough."""
        fitting = (size for size in self.jobs if parameters <= size.max_parameters)
        return next(fitting, None)

    def judge_gpus(self, judge: VllmJudgeConfig) -> int:
        """Number of GPUs that a judge is split over; 0 = it runs on the CPU."""
        size = self.size_for(judge.parameters)
        if self.engine.device == "cpu" or (size is not None and size.gpus == 0):
            return 0
        return judge.tensor_parallel or (1 if size is None else size.gpus)

    def judge_environment(self, judge: VllmJudgeConfig) -> str:
        """Environment below `envs/` in which a judge runs."""
        return "serve" if self.judge_gpus(judge) else "serve-cpu"

    @property
    def search_gpus(self) -> int:
        """GPUs that a threshold search requests for its judge, beside those of the engine."""
        judge = self.judging.local.get(self.judging.primary)
        if judge is None or judge.gpus_in_search == "shared":
            return 0
        return self.judge_gpus(judge)

    @property
    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 of the configuration as canonical JSON."""
        # Resources decide when a job runs, not what it computes.
        text = json.dumps(self.model_dump(mode="json", exclude={"jobs"}), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def sampling(self, model: str) -> dict[str, float | int]:
        """Sampling settings of a model: `generation`, with the model's overrides."""
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
            f"{where}: {name!r} is not a judge that is a language model; choose from: {known}"
        )

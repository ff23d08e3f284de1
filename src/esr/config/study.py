"""The configuration of a study: its sections, checked against each other."""

from typing import Self

from pydantic import model_validator

from esr.config.judging import JudgingConfig
from esr.config.placement import Placement
from esr.config.study_introspection import CheckedIntrospection
from esr.paths import SHARED


class Config(CheckedIntrospection, Placement):
    """Everything that determines what a study computes; its sections fit each other."""

    @model_validator(mode="after")
    def _has_a_folder_of_its_own(self) -> Self:
        if self.study in SHARED:
            raise ValueError(
                f"study: results/{self.study}/ belongs to all studies; choose another name"
            )
        return self

    @model_validator(mode="after")
    def _labels_tell_models_apart(self) -> Self:
        first: dict[str, str] = {}
        for name, model in self.models.items():
            other = first.setdefault(model.label.strip(), name)
            if other != name:
                raise ValueError(
                    f"models.{name}.label: {model.label!r} is the label of {other}, too, so that "
                    "figures would show both as one; give each its own"
                )
        return self

    @model_validator(mode="after")
    def _samples_differ(self) -> Self:
        if self.generation.temperature > 0:
            return self
        for name, arm in self.arms.items():
            copied = arm.continued is not None and arm.continued.samples > 1
            if copied or arm.seeds == "other":
                key = "continue.samples" if copied else "seeds"
                raise ValueError(
                    f"arms.{name}.{key}: at generation.temperature 0 another seed gives the same "
                    "text, so that copies would count as trials; raise the temperature"
                )
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
    def _windows_are_reached(self) -> Self:
        ends = {"start": "nothing is steered", "stop": "the boost is never off"}
        for name, arm in self.arms.items():
            if arm.window is None:
                continue
            most = self.response_tokens(name)
            for key, effect in ends.items():
                end = getattr(arm.window, key)
                if isinstance(end, int) and end >= most:
                    raise ValueError(
                        f"arms.{name}.window.{key}: {end}, but a response has at most {most} "
                        f"tokens (generation.max_new_tokens), so that {effect}; lower it, or set "
                        "the arm to null"
                    )
            start, stop, prefix = arm.window.start, arm.window.stop, most - self.new_tokens(name)
            if start == "continuation" and isinstance(stop, int) and stop <= 1:
                raise ValueError(
                    f"arms.{name}.window.stop: {stop}, but the continuation begins at token 1 or "
                    "later, so that nothing is steered; tokens of the prefix count, too: raise it"
                )
            if stop == "continuation" and isinstance(start, int) and start >= prefix:
                raise ValueError(
                    f"arms.{name}.window.start: {start}, but a prefix has at most {prefix} tokens, "
                    "so that nothing is steered; lower it"
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
        searched = self.arms.get(self.detectors.arm)
        if searched is not None and searched.over != "prompts":
            raise ValueError(
                f"detectors.arm: {self.detectors.arm!r} is not an arm over prompts; detectors are "
                "searched on unsteered answers"
            )
        for name, arm in self.arms.items():
            if not isinstance(arm.ablate, str):
                continue
            if searched is None:
                need = [n for n, other in self.arms.items() if isinstance(other.ablate, str)]
                raise ValueError(
                    f"arms.{name}.ablate: {arm.ablate} needs detectors, but detectors.arm "
                    f"({self.detectors.arm!r}) is not among the arms; add it, or set "
                    f"arms to null that need it: {', '.join(need)}"
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
    def _readouts_have_an_arm(self) -> Self:
        for name in self.readouts:
            if name not in self.arms:
                raise ValueError(
                    f"readouts.{name}: there is no such arm; choose from {sorted(self.arms)}"
                )
            if self.origin_of(name).responses is not None:
                raise ValueError(
                    f"readouts.{name}: its responses are imported, so that no model reads its "
                    "prompts; name an arm that is generated"
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
            texts = None if arm.continued is None else arm.continued.arm
            for verb, other in (("replays", arm.replay), ("continues", texts)):
                if other is not None and other not in settings.arms:
                    raise ValueError(f"finetune.arms: {name} {verb} {other}; list {other} as well")
            if isinstance(arm.ablate, str):
                raise ValueError(
                    f"finetune.arms: {name} needs detectors, which only base models have"
                )
        return self


def _check_rater(judging: JudgingConfig, where: str, name: str, builtin: str) -> None:
    if name != builtin and name not in judging.llms:
        known = ", ".join([builtin, *judging.llms])
        raise ValueError(
            f"{where}: {name!r} is not a judge that is a language model; choose from: {known}"
        )

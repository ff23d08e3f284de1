"""The sections of a study, and values derived from them."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from esr.config.agreement import AgreementConfig
from esr.config.arms import ArmConfig
from esr.config.continuing import ContinueConfig
from esr.config.detectors import DetectorsConfig
from esr.config.directions import DirectionsConfig
from esr.config.engine import EngineConfig, GenerationConfig, JobSizeConfig
from esr.config.episodes import EpisodesConfig
from esr.config.finetuning import FinetuneConfig, FineTuned
from esr.config.introspection import IntrospectionConfig
from esr.config.judging import JudgingConfig
from esr.config.latents import LatentsConfig
from esr.config.models import ModelConfig
from esr.config.readouts import ReadoutConfig
from esr.config.sae_fit import SaeFitConfig
from esr.config.section import Name, Section, Seed, key
from esr.config.statistics import StatisticsConfig
from esr.config.steering import SteeringConfig
from esr.config.thresholds import ThresholdsConfig


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


class Sections(Section):
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
    steering: SteeringConfig = key(SteeringConfig(), "Tokens that are steered.")
    thresholds: ThresholdsConfig = key(ThresholdsConfig(), "Threshold finding.")
    directions: dict[Name, DirectionsConfig] = key(
        {}, "Sets of steering directions by name, for arms with `directions`."
    )
    arms: dict[Name, ArmConfig] = key(..., "Arms by name.")
    readouts: dict[Name, ReadoutConfig] = key(
        {}, "Log-probabilities of named tokens, by the arm whose trials they are read in."
    )
    detectors: DetectorsConfig = key(DetectorsConfig(), "Off-topic detectors and their controls.")
    episodes: EpisodesConfig = key(EpisodesConfig(), "Self-corrections encoded token by token.")
    introspection: IntrospectionConfig | None = key(
        None, "Self-report of an injected direction, beside behaviour; none = not measured."
    )
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

    @property
    def bridge(self) -> tuple[str, str] | None:
        """Old and new judge of the bridge; None if there is but one judge."""
        second = self.judging.second
        default = None if second is None else (second, self.judging.primary)
        named = self.agreement.bridge
        return default if named is None else (named[0], named[1])

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

        A model without labels skips arms whose meta-prompt names the latent. Imported responses,
        and arms that replay them, belong to one model. An arm may name its `models`.
        """
        labelled = self.models[model].labels is not None
        listed = self.finetune.arms if model in self.finetuned else self.arms
        named = any(arm.models is not None for arm in self.arms.values())
        return [
            name
            for name, arm in self.arms.items()
            if (labelled or not arm.needs_labels)
            and self._is_of(name, model, name in listed)
            and not (named and self._is_of_others(name, model))
        ]

    def _is_of_others(self, arm: str, model: str) -> bool:
        """Whether an arm, or one whose trials or texts it takes, names its models, and not this."""
        return any(
            found.models is not None and model not in found.models for found in self._from(arm)
        )

    def _is_of(self, arm: str, model: str, listed: bool) -> bool:
        origin = self.origin_of(arm)
        if origin.responses is None:
            return listed
        owner = origin.model or next(iter(self.base_models))
        return model == owner and (listed or self.arms[arm] is origin)

    def _from(self, arm: str) -> Iterator[ArmConfig]:
        """An arm, and every arm whose trials or texts it takes."""
        found = self.arms[arm]
        yield found
        texts = None if found.continued is None else found.continued.arm
        for source in (found.source, texts):
            if source is not None:
                yield from self._from(source)

    def origin_of(self, arm: str) -> ArmConfig:
        """The arm that a replay repeats in the end; the arm itself if it replays none."""
        found = self.arms[arm]
        while found.replay is not None:
            found = self.arms[found.replay]
        return found

    def judged_after(self, arm: str) -> int:
        """Number of arms, one after the other, that have to be judged before an arm is planned.

        A plan that continues off-topic texts reads the judgments of their arm.
        """
        found = self.arms[arm]
        texts = None if found.continued is None else found.continued.arm
        sources = [name for name in {found.source, texts} if name is not None]
        reads = found.replay is None and texts is not None
        return max((self.judged_after(name) for name in sources), default=0) + reads

    def judging_rounds(self, model: str) -> list[int]:
        """Rounds in which the arms of a model are judged."""
        return sorted({self.judged_after(arm) for arm in self.arms_of(model)})

    def judging_round(self, model: str, number: int) -> list[str]:
        """Arms of a model that are judged in the same round; those of round 0 need no judgments."""
        return [arm for arm in self.arms_of(model) if self.judged_after(arm) == number]

    def generates(self, model: str, arm: str) -> bool:
        """Whether a model runs an arm whose responses are generated, not imported."""
        return arm in self.generated(model)

    def generated(self, model: str) -> list[str]:
        """Arms of a model whose responses are generated, not imported."""
        return [arm for arm in self.arms_of(model) if self.arms[arm].responses is None]

    @property
    def engine_models(self) -> list[str]:
        """Base models that an engine runs: all but those whose responses are all imported."""
        return [model for model in self.base_models if self.generated(model)]

    @property
    def fit_arm(self) -> str | None:
        """Unsteered arm whose answers an SAE is compared with; None = the study has none."""
        if self.sae_fit.arm is not None:
            return self.sae_fit.arm
        unsteered = [name for name, arm in self.arms.items() if arm.is_unsteered]
        preferred = self.latents.relevance.answers
        return preferred if preferred in unsteered else next(iter(unsteered), None)

    @property
    def other_targets(self) -> dict[str, int]:
        """Arms that differ from `steered` in the target of their thresholds alone, with it."""
        plain = {"over", "trials", "prompts", "latents", "target", "shards", "boost"}
        return {
            name: arm.target
            for name, arm in self.arms.items()
            if arm.target is not None and arm.model_fields_set <= plain
        }

    @property
    def meta_arms(self) -> list[str]:
        """Arms that replay `steered` under a meta-prompt, in the order of the configuration."""
        return [
            name
            for name, arm in self.arms.items()
            if arm.meta_prompt is not None and arm.replay == "steered"
        ]

    def searches(self, model: str) -> dict[str | None, list[int]]:
        """Threshold searches of a model: the further targets of each set of directions.

        None stands for the latents.
        """
        found: dict[str | None, set[int]] = {}
        for name in self.arms_of(model):
            arm = self.arms[name]
            if arm.over == "latents":
                targets = found.setdefault(arm.directions, set())
                targets |= {arm.target} - {None}
        return {directions: sorted(targets) for directions, targets in found.items()}

    def directions_of(self, arm: str) -> str | None:
        """Set of directions that an arm steers along: its own, or that of its source.

        None for decoder rows, and for an arm that steers nothing.
        """
        settings = self.arms[arm]
        if not self.is_steered(arm):
            return None
        if settings.directions is not None or settings.source is None:
            return settings.directions
        return self.directions_of(settings.source)

    def is_steered(self, arm: str) -> bool:
        """Whether an arm, and every arm that it replays or continues, keeps the boost."""
        settings = self.arms[arm]
        if settings.boost == "none":
            return False
        return settings.source is None or self.is_steered(settings.source)

    def needs_detectors(self, arm: str) -> bool:
        """Whether an arm, or one of its sources, ablates detectors or sets matched to them."""
        settings = self.arms[arm]
        if settings.ablate:
            return isinstance(settings.ablate, str)
        return settings.source is not None and self.needs_detectors(settings.source)

    def continues(self, arm: str) -> ContinueConfig | None:
        """How the prefixes of an arm were chosen: its own, or those of the arm that it replays."""
        found = self.origin_of(arm)
        return found.continued

    @property
    def trials_per_latent(self) -> int:
        """Largest number of trials per latent in any arm, each on another prompt."""
        return max(
            (arm.trials or 0 for arm in self.arms.values() if arm.over == "latents"), default=0
        )

    @property
    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 of the configuration as canonical JSON."""
        # Resources decide when a job runs, not what it computes.
        text = json.dumps(self.model_dump(mode="json", exclude={"jobs"}), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def new_tokens(self, arm: str | None) -> int:
        """Largest number of tokens that a trial of an arm generates."""
        continued = None if arm is None else self.continues(arm)
        limit = None if continued is None else continued.tokens
        return limit or self.generation.max_new_tokens

    def response_tokens(self, arm: str) -> int:
        """Largest number of tokens of a response of an arm, its prefix included."""
        continued = self.continues(arm)
        if continued is None:
            return self.new_tokens(arm)
        prefix = self.response_tokens(continued.arm)
        if continued.cuts:  # a token of text has a byte or more, a character up to four
            prefix = min(prefix, 4 * continued.cuts[-1])
        return prefix + self.new_tokens(arm)

    def sampling(self, model: str, arm: str | None = None) -> dict[str, float | int]:
        """Sampling settings of a model: `generation`, with overrides of the model and the arm."""
        penalty = self.models[model].repetition_penalty or self.generation.repetition_penalty
        return {
            "temperature": self.generation.temperature,
            "max_new_tokens": self.new_tokens(arm),
            "repetition_penalty": penalty,
        }

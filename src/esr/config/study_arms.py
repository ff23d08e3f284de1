"""Arms against each other: replays, continued texts, models, directions, prompts of their own."""

from typing import Self

from pydantic import model_validator

from esr.config.arms import LevelsConfig, WindowConfig
from esr.config.sections import Sections


class CheckedArms(Sections):
    """Sections whose arms fit each other."""

    def answers_to(self, arm: str) -> str | None:
        """Unsteered arm over the prompts of an arm that steers latents on prompts of its own."""
        prompts = self.arms[arm].prompts
        unsteered = (n for n, a in self.arms.items() if a.is_unsteered and a.prompts == prompts)
        return next(unsteered, None)

    @property
    def held_out(self) -> list[str]:
        """Arms that steer latents on prompts of their own."""
        own = {name: arm for name, arm in self.arms.items() if arm.prompts is not None}
        return [name for name, arm in own.items() if arm.over == "latents"]

    @property
    def response_arms(self) -> list[str]:
        """Arms that replay `steered` and steer the generated tokens alone, without other change."""
        plain = {"replay", "window", "latents", "shards", "models"}
        return [
            name
            for name, arm in self.arms.items()
            if arm.replay == "steered" and arm.model_fields_set <= plain
            if arm.window == WindowConfig(start=0)
        ]

    @property
    def judged_alone(self) -> list[str]:
        """Arms whose continuations are judged without their prefixes."""
        prefixed = {name: self.continues(name) for name in self.arms}
        return [name for name, one in prefixed.items() if one and one.judged == "continuation"]

    @model_validator(mode="after")
    def _replays_exist(self) -> Self:
        for name, arm in self.arms.items():
            seen, verb = [name], "continues" if arm.replay is None else "replays"
            while arm.source is not None:
                source = arm.source
                if source not in self.arms:
                    others = self._without_source(source) - {name}
                    raise ValueError(
                        f"arms.{name}: {verb} unknown arm {source!r}; add it, or set arms to null "
                        f"that need it: {', '.join(sorted({name, *others}))}"
                    )
                if source in seen:
                    raise ValueError(f"arms.{name}: {verb} itself through {' -> '.join(seen)}")
                if isinstance(self.arms[source].boost, LevelsConfig):
                    raise ValueError(
                        f"arms.{name}: {verb} {source}, whose levels share seeds, so that its "
                        "trials cannot be paired one by one; name an arm at one boost"
                    )
                seen.append(source)
                arm = self.arms[source]
        return self

    def _without_source(self, missing: str) -> set[str]:
        """Arms that replay or continue an arm that is missing, directly or through others."""
        found: set[str] = set()
        lost = {missing}
        while lost:
            lost = {
                name
                for name, arm in self.arms.items()
                if name not in found
                and (arm.source in lost or (arm.continued and arm.continued.arm in lost))
            }
            found |= lost
        return found

    @model_validator(mode="after")
    def _imported_responses_have_a_model(self) -> Self:
        for name, arm in self.arms.items():
            if arm.responses is None:
                continue
            if arm.model is None and len(self.base_models) > 1:
                raise ValueError(
                    f"arms.{name}.model: missing; name the model whose responses these are: "
                    f"{', '.join(self.base_models)}"
                )
            if arm.model is not None and arm.model not in {*self.models, *self.finetuned}:
                raise ValueError(f"arms.{name}.model: there is no model {arm.model!r}")
            model = arm.model or next(iter(self.base_models))
            if name == "steered" and model in self.engine_models:
                raise ValueError(
                    "arms.steered: is imported, without tokens, and random sets of latents are "
                    f"matched on its tokens wherever an arm is generated, as for {model}; import "
                    "it under another name"
                )
        return self

    @model_validator(mode="after")
    def _continued_texts_exist(self) -> Self:
        for name, arm in self.arms.items():
            if arm.continued is None:
                self._check_no_prefix_named(name)
                continue
            where, texts = f"arms.{name}.continue", arm.continued.arm
            if texts not in self.arms:
                need = ", ".join(sorted(self._without_source(texts)))
                raise ValueError(
                    f"{where}.arm: there is no arm {texts!r}; add it, or set arms to null that "
                    f"need it: {need}"
                )
            if self.origin_of(texts).responses is not None:
                raise ValueError(
                    f"{where}.arm: {texts} is imported, and a text without tokens cannot be "
                    "continued token for token"
                )
            if arm.continued.where == "on_topic":
                self._check_replacement(name)
        return self

    @model_validator(mode="after")
    def _episodes_are_the_models_own(self) -> Self:
        for where, name in {"episodes.arm": self.episodes.arm, "arms": "steered"}.items():
            if name in self.arms and self.continues(name) is not None:
                raise ValueError(
                    f"{where}: {name} continues texts of another arm, but episodes and thresholds "
                    "are about texts of the model's own; give these trials an arm of their own"
                )
        return self

    def _check_no_prefix_named(self, name: str) -> None:
        """Raise if a window names a prefix that the arm does not have."""
        window = self.arms[name].window
        if window is not None and window.names_prefix and self.continues(name) is None:
            raise ValueError(
                f"arms.{name}.window: `continuation` begins after a prefix, and this arm has none; "
                "use 0, the first token of the response"
            )

    def _check_replacement(self, name: str) -> None:
        """Raise unless each prefix of a replayed arm has a text that may take its place."""
        arm = self.arms[name]
        assert arm.replay is not None
        assert arm.continued is not None
        where, prefixed = f"arms.{name}.continue", self.continues(arm.replay)
        if prefixed is None:
            raise ValueError(f"{where}: {arm.replay} has no prefixes that it could replace")
        if arm.continued.arm == prefixed.arm:
            raise ValueError(
                f"{where}.arm: {prefixed.arm} is the arm whose off-topic texts {arm.replay} "
                "continues; name one with on-topic texts, such as `unsteered`"
            )
        chain, text = [prefixed.arm], self.arms[arm.continued.arm]
        while text.replay is not None:
            chain.append(text.replay)
            text = self.arms[text.replay]
        if prefixed.arm not in chain[1:]:
            raise ValueError(
                f"{where}.arm: {arm.continued.arm} does not replay {prefixed.arm}, so its trials "
                "have no counterparts there"
            )

    @model_validator(mode="after")
    def _held_out_prompts_have_answers(self) -> Self:
        for name in self.held_out:
            needed = self.latents.relevance.criterion == "top_n"
            if needed and self.answers_to(name) is None:
                raise ValueError(
                    f"arms.{name}.prompts: no unsteered arm answers {self.arms[name].prompts}, so "
                    "that it is not known which latents are relevant to them; add an arm `{over: "
                    "prompts, boost: none, trials: 1}` with the same `prompts`, or set arms to "
                    f"null that need it: {', '.join(sorted({name, *self._without_source(name)}))}"
                )
        return self

    @model_validator(mode="after")
    def _models_of_arms_exist(self) -> Self:
        for name, arm in self.arms.items():
            unknown = sorted({*(arm.models or ())} - {*self.models, *self.finetuned})
            if unknown:
                raise ValueError(
                    f"arms.{name}.models: no such models: {unknown}; choose from "
                    f"{sorted({*self.models, *self.finetuned})}"
                )
        return self

    @model_validator(mode="after")
    def _directions_exist(self) -> Self:
        for name in ("latent", "latents"):
            if name in self.directions:
                raise ValueError(
                    f"directions.{name}: tables and figures call decoder rows so; choose another "
                    "name"
                )
        for name, arm in self.arms.items():
            if arm.directions is not None and arm.directions not in self.directions:
                known = ", ".join(sorted(self.directions)) or "none"
                raise ValueError(
                    f"arms.{name}.directions: there is no set {arm.directions!r} (there is: "
                    f"{known}); add it to `directions`"
                )
        for name, arm in self.arms.items():
            used = self.directions.get(self.directions_of(name) or "")
            if used is not None and used.kind == "random" and arm.needs_labels:
                raise ValueError(
                    f"arms.{name}.meta_prompt: names the label, but random directions have none"
                )
            if arm.directions is not None and arm.source is not None:
                self._check_stand_ins(name, arm.directions, arm.source)
        for where, name in {"episodes.arm": self.episodes.arm, "arms": "steered"}.items():
            if name in self.arms and self.directions_of(name) is not None:
                raise ValueError(
                    f"{where}: {name} steers along directions, but detectors and episodes are "
                    "about latents; give these trials an arm of their own"
                )
        return self

    @model_validator(mode="after")
    def _layers_are_steered(self) -> Self:
        for name, arm in self.arms.items():
            given = [key for key in ("layers", "window") if getattr(arm, key) is not None]
            if given and not self.is_steered(name):
                raise ValueError(
                    f"arms.{name}.{given[0]}: {arm.source} steers nothing; remove `{given[0]}`"
                )
        for where, name in {"episodes.arm": self.episodes.arm, "arms": "steered"}.items():
            if name in self.arms and self.layers_of(name):
                raise ValueError(
                    f"{where}: {name} steers at `layers` of its own, but thresholds, detectors and "
                    "episodes are about `steer_layer`; give these trials an arm of their own"
                )
        return self

    @model_validator(mode="after")
    def _means_are_measured(self) -> Self:
        for name, arm in self.arms.items():
            if arm.ablate_to == "mean" and self.fit_arm is None:
                raise ValueError(
                    f"arms.{name}.ablate_to: means are those of unsteered answers, and the study "
                    "has no unsteered arm over prompts; add one, or give a number"
                )
            if arm.ablate_to == "mean" and name in self.finetune.arms:
                raise ValueError(
                    f"finetune.arms: {name} needs mean activations, which only base models have"
                )
        return self

    def layers_of(self, arm: str) -> tuple[int, ...]:
        """Layers at which an arm adds its direction beside `steer_layer`, or in place of it.

        Empty for an arm that names none, and whose sources name none.
        """
        settings = self.arms[arm]
        if not self.is_steered(arm):
            return ()
        if settings.layers is not None or settings.source is None:
            return settings.layers or ()
        return self.layers_of(settings.source)

    def _check_stand_ins(self, name: str, directions: str, replayed: str) -> None:
        """Raise unless a set has a direction in place of each latent of a replayed arm."""
        where = f"arms.{name}.directions: {directions!r}"
        found = self.directions[directions]
        if found.kind != "random":
            raise ValueError(
                f"{where} is of kind {found.kind}; a replay replaces each latent by a direction "
                "that stands in for it, as in a `random` set; use `over: latents`"
            )
        if found.latents is not None:
            raise ValueError(
                f"{where} stands in for the first {found.latents} latents alone; a replay needs a "
                "set without `latents` (equal seeds give equal directions)"
            )
        if not self.is_steered(replayed) or self.directions_of(replayed) is not None:
            raise ValueError(f"{where}: arm {replayed} does not steer latents")
        if self.origin_of(replayed).responses is not None:
            raise ValueError(
                f"{where}: the set has directions for the selected latents alone, and arm "
                f"{replayed} is imported"
            )

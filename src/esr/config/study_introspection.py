"""Self-report against the rest of a study: what is injected, its controls, its thresholds."""

from typing import Self

from pydantic import model_validator

from esr.config.directions import RandomDirectionsConfig
from esr.config.study_arms import CheckedArms


class CheckedIntrospection(CheckedArms):
    """A study whose section `introspection` names sets and arms that are there."""

    @model_validator(mode="after")
    def _introspection_injects_concepts(self) -> Self:
        injected = None if self.introspection is None else self.introspection.directions
        if injected is None:
            return self
        found = self.directions.get(injected)
        if found is None:
            known = ", ".join(sorted(self.directions)) or "none"
            raise ValueError(
                f"introspection.directions: there is no set {injected!r} (there is: {known}); add "
                "it to `directions`"
            )
        if isinstance(found, RandomDirectionsConfig):
            raise ValueError(
                f"introspection.directions: {injected!r} is random, so there is no concept to "
                "report; name a set of kind `file` or `contrast`, or leave the key out to inject "
                "latents"
            )
        return self

    @model_validator(mode="after")
    def _introspection_has_its_controls(self) -> Self:
        settings = self.introspection
        if settings is None:
            return self
        wanted = min(settings.latents or self.latents.count, self.latents.count)
        if settings.directions is None and wanted < 2:
            raise ValueError(
                "introspection: latents.count is 1, and a mean over directions needs two or more; "
                "raise it"
            )
        seeds: dict[int, str] = {}
        for name in settings.controls:
            found = self.directions.get(name)
            if not isinstance(found, RandomDirectionsConfig):
                raise ValueError(
                    f"introspection.controls: {name!r} is no set of random directions; add "
                    f"`directions: {{{name}: {{kind: random}}}}`"
                )
            if seeds.setdefault(found.seed, name) != name:
                raise ValueError(
                    f"introspection.controls: {seeds[found.seed]!r} and {name!r} have the seed "
                    f"{found.seed}, so that their directions are the same; give "
                    f"directions.{name}.seed another"
                )
            # Of a set, controls are drawn for each of its vectors.
            if settings.directions is None and (found.latents or wanted) < wanted:
                raise ValueError(
                    f"introspection.controls: {name!r} has directions for {found.latents} "
                    f"latents, but {wanted} are injected; lower introspection.latents, or raise "
                    f"directions.{name}.latents"
                )
        if settings.behaviour:
            self._check_behaviour(settings.directions)
        return self

    def _check_behaviour(self, injected: str | None) -> None:
        """Raise unless every model searches thresholds of what is injected."""
        named = "latents" if injected is None else repr(injected)
        key = "" if injected is None else f" and `directions: {injected}`"
        for model in self.engine_models:
            if injected not in self.searches(model):
                raise ValueError(
                    f"introspection.behaviour: no arm steers along {named} (model {model}), so "
                    f"that they have no thresholds; add an arm with `over: latents`{key}, or set "
                    "`behaviour: false` and `unit: decoder`"
                )

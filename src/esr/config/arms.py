"""Arms: sets of trials under one condition."""

from pathlib import Path
from string import Formatter
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from esr.config.section import Name, Section, key

Ablated = Annotated[str, Field(pattern=r"^(detectors|random-\d+)$")]


class LevelsConfig(Section):
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


class ArmConfig(Section):
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
    boost: Literal["threshold", "none"] | LevelsConfig = key(
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
        if isinstance(self.boost, LevelsConfig) and self.over != "latents":
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

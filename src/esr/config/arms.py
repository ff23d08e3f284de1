"""Arms: sets of trials under one condition."""

from pathlib import Path
from string import Formatter
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from esr.config.continuing import ContinueConfig
from esr.config.section import Name, Section, key

Ablated = Annotated[str, Field(pattern=r"^(detectors|random-\d+)$")]
Bound = Annotated[int, Field(ge=-1_000_000, le=1_000_000)] | Literal["continuation"]
"""End of a window: a token, or the first one after the prefix."""


class LevelsConfig(Section):
    """Boosts of a sweep, the same for every latent, relative to the model's thresholds."""

    count: int = key(8, "Number of levels, evenly spaced.", gt=1, le=1000, source="January: 8")
    lowest: float = key(
        -1.5, "Lowest level.", unit="sd of thresholds from their mean", source="published -3"
    )
    highest: float = key(3.0, "Highest level.", unit="sd of thresholds from their mean")
    negative: bool = key(
        False,
        "Keep levels whose boost is negative: they steer away from the latent. Otherwise they are "
        "left out.",
        source="released code: set to 0, so that all are one condition",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.lowest < self.highest:
            raise ValueError(f"need lowest < highest, got {self.lowest} and {self.highest}")
        return self


class WindowConfig(Section):
    """Tokens at which the boost is added: a half-open range around the first response token."""

    start: Bound | None = key(
        None,
        "First steered token, counted from the first one of the response, which is 0; -1 is the "
        "last token before it, prefill included; none = the first token of the prompt. "
        "`continuation` is the first token after the prefix of an arm with `continue`.",
        unit="tokens",
    )
    stop: Bound | None = key(
        None, "Token from which the boost is off, so counted; none = never.", unit="tokens"
    )

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        start, stop = self.start, self.stop
        if start is None and stop is None:
            raise ValueError("give `start`, `stop` or both; no `window` steers every token")
        if start == stop == "continuation" or (
            isinstance(start, int) and isinstance(stop, int) and stop <= start
        ):
            raise ValueError(f"need start < stop, got {start} and {stop}")
        return self

    @property
    def names_prefix(self) -> bool:
        """Whether an end is that of the prefix."""
        return "continuation" in (self.start, self.stop)


class ArmConfig(Section):
    """A set of trials under one condition. A replayed arm repeats the trials of another arm."""

    model_config = ConfigDict(populate_by_name=True)  # by a name that Python has no other use for

    over: Literal["latents", "prompts"] | None = key(
        None,
        "Draw new trials over `latents` (each with prompts drawn for it) or over `prompts` "
        "(without a latent).",
    )
    replay: Name | None = key(
        None,
        "Repeat the (latent, prompt, seed, boost) of this arm, so that differences are paired.",
    )
    responses: Path | None = key(
        None,
        "File of responses that were generated elsewhere: JSON Lines, Parquet, or a result file of "
        "the authors (docs/transcripts.md). They are judged like others; nothing is generated.",
    )
    model: Name | None = key(
        None,
        "Model whose responses these are; goes with `responses`, needed with several models.",
    )
    models: tuple[Name, ...] | None = key(
        None,
        "Models that run this arm, and the arms that replay or continue it; none = all of them.",
    )
    continued: ContinueConfig | None = key(
        None,
        "Continue texts of another arm from a cut; a replay of this arm has the same prefixes and "
        "seeds, so that differences are paired (docs/add-an-arm.md).",
        alias="continue",
    )
    seeds: Literal["replayed", "other"] = key(
        "replayed",
        "Sampling seeds of a replay: `replayed`, those of the arm; `other`: new ones. With `other` "
        "and no other change it is an A/A arm, whose difference from the arm is chance.",
    )
    trials: int | None = key(
        None,
        "New trials per latent, each on another prompt; or per prompt.",
        gt=0,
        le=1_000_000,
    )
    prompts: Path | None = key(
        None,
        "Prompts of this arm, instead of the study's. With `over: latents` (held-out prompts) an "
        "unsteered arm over the same prompts must give the answers that show which latents are "
        "relevant to them.",
    )
    latents: int | None = key(
        None, "Use only the first latents, up to this number; a replay: of those of the arm.", gt=0
    )
    directions: Name | None = key(
        None,
        "Steer along this set of `directions` instead of decoder rows. With `over: latents` each "
        "direction has its own threshold (matched by impact); with `replay`, of a `random` set, "
        "each latent is replaced by its random direction at the same boost (matched by norm).",
    )
    boost: Literal["threshold", "none"] | LevelsConfig = key(
        "threshold",
        "`threshold`: the latent's own threshold; `none`: no steering; or the levels of a sweep, "
        "where every latent has the same prompts at every level.",
    )
    target: int | None = key(
        None,
        "Use thresholds for another target, re-estimated from the responses of the search.",
        unit="points",
        gt=0,
        lt=100,
    )
    meta_prompt: str | None = key(
        None,
        "Prompt template with `{prompt}` and optionally `{label}`. The judge sees the base prompt.",
    )
    prefill: str = key("", "Text that the response starts with.")
    shards: int | None = key(
        None,
        "Number of jobs that generate this arm's responses; none = `engine.shards`.",
        gt=0,
        le=100_000,
    )
    ablate: tuple[Annotated[int, Field(ge=0)], ...] | Ablated = key(
        (),
        "Latents ablated during generation: a list, `detectors`, or `random-<i>`, the i-th set of "
        "latents matched to the detectors.",
    )
    ablate_to: Literal["mean"] | Annotated[float, Field(ge=-1e9, le=1e9)] | None = key(
        None,
        "Clamp the ablated latents instead of removing their contribution: set the activation of "
        "each to its `mean` over the tokens of unsteered answers, or to a number.",
        unit="units of the SAE",
    )
    strength: float | None = key(
        None,
        "Share of the ablated latents' contribution that is removed; none = all of it.",
        unit="fraction",
        gt=0,
        le=1,
    )
    layers: tuple[Annotated[int, Field(ge=0)], ...] | None = key(
        None,
        "Decoder layers (0-based) at whose output the direction is added, at each with the whole "
        "boost; none = the model's `steer_layer`.",
    )
    window: WindowConfig | None = key(
        None,
        "Tokens at which the boost is added, e.g. `{start: 0}` (generated tokens only) or "
        "`{stop: 40}` (the prompt and 40 tokens, then off); none = all. Ablation has no window.",
    )

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        continues = self.continued is not None and self.continued.where != "on_topic"
        origins = [self.over is not None, self.replay is not None, self.responses is not None]
        if sum([*origins, continues]) != 1:
            raise ValueError(
                "give exactly one of `over` (new trials), `replay` (another arm's), `continue` "
                "(another arm's texts) and `responses` (a file); set the others of an arm of the "
                "protocol to null; `continue: {where: on_topic}` goes with `replay`"
            )
        if self.seeds == "other" and self.replay is None:
            raise ValueError("`seeds: other` goes with `replay`; new trials have their own seeds")
        if self.seeds == "other" and self.continued is not None:
            raise ValueError("`seeds: other` goes with `replay` alone, not with `continue`")
        if (self.over is None) != (self.trials is None):
            raise ValueError("`trials` goes with `over`: give both or neither")
        if self.over == "prompts" and self.boost != "none":
            raise ValueError("`over: prompts` has no latent: set `boost: none`")
        if self.prompts is not None and (self.over is None or self.directions is not None):
            raise ValueError(
                "`prompts` goes with `over`, without `directions`; a replay has the prompts of the "
                "arm that it replays"
            )
        if self.target is not None and (self.over != "latents" or self.boost != "threshold"):
            raise ValueError("`target` needs `over: latents` and `boost: threshold`")
        if isinstance(self.boost, LevelsConfig) and self.over != "latents":
            raise ValueError("the levels of a sweep need `over: latents`")
        if self.window is not None and self.boost == "none":
            raise ValueError("`window` says where the boost is added, but `boost` is `none`")
        if self.directions is not None and (self.over == "prompts" or self.boost == "none"):
            raise ValueError("`directions` are steered along, but this arm steers nothing")
        if self.directions is not None and self.needs_labels:
            raise ValueError("`meta_prompt` names the label, but `directions` replace the latents")
        if self.strength is not None and not self.ablate:
            raise ValueError("`strength` is that of an ablation: give `ablate`, too")
        return self

    @model_validator(mode="after")
    def _valid_clamp(self) -> Self:
        if self.ablate_to is None:
            return self
        if not self.ablate:
            raise ValueError("`ablate_to` clamps latents: name them in `ablate`")
        if self.strength is not None:
            raise ValueError(
                "`strength` removes a share of an activation, `ablate_to` sets it: give one of them"
            )
        if self.ablate_to == 0:
            raise ValueError("`ablate_to: 0` is what `ablate` does without it: leave it out")
        return self

    @model_validator(mode="after")
    def _valid_layers(self) -> Self:
        if self.layers is None:
            return self
        if self.over == "prompts" or self.boost == "none":
            raise ValueError("`layers` says where the boost is added, but this arm steers nothing")
        if not self.layers:
            raise ValueError("`layers` lists no layer: name at least one, or leave it out")
        if len(set(self.layers)) < len(self.layers):
            raise ValueError(
                f"`layers` {list(self.layers)} lists a layer twice, whose boosts would add up"
            )
        return self

    @model_validator(mode="after")
    def _imported_as_they_are(self) -> Self:
        if self.responses is None:
            if self.model is not None:
                raise ValueError("`model` goes with `responses`; other arms run on every model")
            return self
        fields = type(self).model_fields
        other = [
            fields[name].alias or name
            for name in fields
            if name not in ("responses", "model") and getattr(self, name) != fields[name].default
        ]
        if other:
            raise ValueError(
                f"`responses` are taken as they are: remove {', '.join(other)}, or set it to its "
                "default"
            )
        return self

    @property
    def source(self) -> str | None:
        """The arm whose trials this one takes: replayed, or continued."""
        if self.replay is not None or self.continued is None:
            return self.replay
        return self.continued.arm

    @property
    def is_unsteered(self) -> bool:
        """Whether the arm holds plain answers: new trials over prompts, without any change."""
        changed = self.meta_prompt is not None or self.prefill or self.ablate
        return self.over == "prompts" and not changed

    @property
    def needs_labels(self) -> bool:
        """Whether the meta-prompt names the latent; models without labels skip such an arm."""
        return self.meta_prompt is not None and "{label}" in self.meta_prompt

    @model_validator(mode="after")
    def _valid_meta_prompt(self) -> Self:
        if self.meta_prompt is None:
            return self
        fields = {name for _, name, _, _ in Formatter().parse(self.meta_prompt) if name is not None}
        if "prompt" not in fields:
            raise ValueError("`meta_prompt` must contain {prompt}")
        if fields - {"prompt", "label"}:
            raise ValueError(
                f"`meta_prompt` supports {{prompt}} and {{label}}, not {sorted(fields)}; write "
                "{{ and }} for literal braces"
            )
        return self

    @model_validator(mode="after")
    def _distinct_ablated(self) -> Self:
        if not isinstance(self.ablate, str) and len(set(self.ablate)) < len(self.ablate):
            raise ValueError("`ablate` lists a latent twice")
        return self

"""Arms that continue texts of another arm from a cut."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from esr.config.section import Name, Section, key


class ContinueConfig(Section):
    """Texts that an arm continues from a cut, token for token as they are."""

    arm: Name = key(
        ...,
        "Arm whose texts are continued; each trial keeps its prompt, direction, boost and other "
        "conditions. With `on_topic`: the arm whose texts replace those of the replayed arm.",
    )
    where: Literal["off_topic", "restart", "correction", "on_topic"] = key(
        "off_topic",
        "`off_topic`: off-topic texts up to each of `cuts`, before any restart; `restart`: "
        "off-topic texts that restart, up to where they do, so that the restart is sampled again; "
        "`correction`: off-topic texts through their first restart phrase; `on_topic`: goes with "
        "`replay` of a continuing arm, and replaces each prefix by the beginning, of equal length, "
        "of the text of `arm` with the same latent, prompt and seed.",
        source="published v2: prefill and matched-prefix controls",
    )
    cuts: tuple[Annotated[int, Field(gt=0, le=1_000_000)], ...] = key(
        (),
        "Lengths of an off-topic prefix, e.g. n, 2n, 3n, 4n. A text is used if it reaches the last "
        "one, so that all cuts have the same texts.",
        unit="characters",
    )
    below: float = key(
        50,
        "A text is off topic if its first attempt scores less, by the primary judge.",
        unit="points",
        gt=0,
        le=100,
    )
    texts: int = key(
        100,
        "Largest number of texts; those of all latents in turn, in the order of the arm.",
        gt=0,
        le=1_000_000,
    )
    samples: int = key(1, "Continuations of each prefix, each with its own seed.", gt=0, le=10_000)
    judged: Literal["whole", "continuation"] = key(
        "whole",
        "What a judge sees: `whole`, prefix and continuation, of which the attempts that begin in "
        "the continuation count as further ones; `continuation`, that text alone, as a response of "
        "its own, so that no given word raises its score.",
    )
    tokens: int | None = key(
        None,
        "Largest number of new tokens; none = `generation.max_new_tokens`.",
        unit="tokens",
        gt=0,
        le=1_000_000,
    )

    @model_validator(mode="after")
    def _cuts_fit(self) -> Self:
        if (self.where == "off_topic") != bool(self.cuts):
            raise ValueError("`cuts` go with `where: off_topic`: give both or neither")
        if list(self.cuts) != sorted(set(self.cuts)):
            raise ValueError(f"`cuts` must increase, got {list(self.cuts)}")
        if self.where != "on_topic":
            return self
        inherited = ("below", "texts", "samples", "judged", "tokens")
        fields = type(self).model_fields
        given = [name for name in inherited if getattr(self, name) != fields[name].default]
        if given:
            raise ValueError(
                f"`where: on_topic` takes {', '.join(given)} from the replayed arm; remove them"
            )
        return self

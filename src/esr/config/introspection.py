"""Self-report of an injected direction: doses, windows, questions and their controls."""

from pathlib import Path
from string import Formatter
from typing import Literal, Self

from pydantic import model_validator

from esr.config.readouts import Spellings
from esr.config.section import Name, Section, Seed, key

Injected = Literal["question", "whole", "first_turn"]
"""Tokens at which a direction is injected (docs/introspection.md)."""


class IntrospectionConfig(Section):
    """A direction is injected while the model reads a question about itself; nothing is generated.

    What is read are log-probabilities of the first token of the answer.
    """

    questions: Path = key(
        Path("resources/introspection/questions.csv"),
        "CSV with columns question_id, on_target, off_target: a yes/no question about an injected "
        "concept, and one of the same form about anything else, whose answer is no.",
    )
    directions: Name | None = key(
        None,
        "Set of `directions`, of kind `file` or `contrast`, whose vectors are injected in place of "
        "latents; their names are the labels of the forced choice. none = latents.",
    )
    latents: int | None = key(
        None, "Only the first latents, or vectors, up to this number; none = all.", ge=2
    )
    controls: tuple[Name, ...] = key(
        ("random",),
        "Sets of `directions` of kind `random` that stand in for the latents, at the same boosts. "
        "For the vectors of a set, random vectors of the same norms are drawn from the same seed.",
        min_length=1,
    )
    doses: tuple[float, ...] = key(
        (0.25, 0.5, 1.0, 1.5),
        "Doses, in `unit`, from the smallest on.",
        min_length=1,
        max_length=20,
    )
    unit: Literal["threshold", "decoder"] = key(
        "threshold",
        "`threshold`: multiples of the latent's or vector's own threshold; `decoder`: decoder "
        "units, which are multiples of the decoder row, or of a vector of the rows' median norm.",
    )
    behaviour: bool = key(
        True,
        "Whether the thresholds of behaviour stand beside those of self-report. They need a judge; "
        "without them, only with `unit: decoder`, the stage needs none.",
    )
    windows: tuple[Injected, ...] = key(
        ("question", "whole", "first_turn"),
        "Where the direction is injected: at the tokens of the question, at every token, or at the "
        "first of two turns, so that only the cache carries it to the question.",
        min_length=1,
    )
    first_turn: str = key(
        "Please read this message and wait for my question.",
        "User turn before the question, with the window `first_turn`.",
        min_length=1,
    )
    reply: str = key("I am ready.", "The model's turn after it, not generated.", min_length=1)
    affirmed: Spellings = key(("Yes", "yes"), "Spellings of yes, each a single token.")
    denied: Spellings = key(("No", "no"), "Spellings of no, each a single token.")
    choices: int = key(
        4,
        "Labels to choose from, one of them the injected one's; 0 = no forced choice. Each is "
        "named by one of `letters`, and by every letter equally often.",
        ge=0,
    )
    letters: Spellings = key(
        tuple("ABCDEFGH"), "Names of the options, each a single token; the first `choices` count."
    )
    choice_question: str = key(
        "One of these concepts may have been injected into your thoughts. Which one is it?\n"
        "{options}\nAnswer with the letter alone.",
        "The forced choice; {options} stands for lines such as `A: label`.",
    )
    seed: Seed = key(47, "Seed of the labels beside the right one, and of their order.")
    passes: float = key(
        1.0,
        "Excess log-odds of yes from which a direction counts as reported.",
        unit="nats",
        gt=0,
    )

    @model_validator(mode="after")
    def _doses_increase(self) -> Self:
        if list(self.doses) != sorted(set(self.doses)) or self.doses[0] <= 0:
            raise ValueError(f"`doses` {list(self.doses)}: give positive numbers, smallest first")
        if len(set(self.windows)) < len(self.windows):
            raise ValueError(f"`windows` {list(self.windows)}: name each window once")
        if len(set(self.controls)) < len(self.controls):
            raise ValueError(f"`controls` {list(self.controls)}: name each set once")
        if self.unit == "threshold" and not self.behaviour:
            raise ValueError(
                "`behaviour: false` leaves out the thresholds, which `unit: threshold` needs; set "
                "`unit: decoder` and `doses` in decoder units"
            )
        return self

    @model_validator(mode="after")
    def _choices_are_asked(self) -> Self:
        if self.choices > len(self.letters):
            raise ValueError(
                f"`choices: {self.choices}`, but there are {len(self.letters)} letters"
            )
        if self.choices == 1:
            raise ValueError("`choices: 1` leaves nothing to choose: give 0, or 2 and more")
        fields = [name for _, name, _, _ in Formatter().parse(self.choice_question) if name]
        if self.choices and fields != ["options"]:
            raise ValueError(
                f"`choice_question` holds {fields}; it must hold {{options}} once and no other "
                "field (write {{ and }} for literal braces)"
            )
        shared = set(self.affirmed) & set(self.denied)
        if shared:
            raise ValueError(f"`affirmed` and `denied` share {sorted(shared)}; give it to one")
        return self

    @property
    def options(self) -> dict[str, tuple[str, ...]]:
        """Letters of the forced choice, as names and spellings of readouts."""
        return {letter: (letter,) for letter in self.letters[: self.choices]}

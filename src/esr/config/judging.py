"""Judges of a study, and what they share."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from esr.config.judges import ApiConfig, JudgeConfig, LlmConfig, LlmJudgeConfig, VllmJudgeConfig
from esr.config.section import Name, Section, key


class JudgingConfig(Section):
    """Judges that score responses, and the judge-free restart detector."""

    primary: Name = key(..., "Judge whose scores figures and tables show.")
    judges: dict[Name, Annotated[JudgeConfig, Field(discriminator="kind")]] = key(
        ...,
        "Judges by name. The primary judge grades every arm; every judge grades the sample of "
        "`agreement`.",
    )
    restart_phrases: Path = key(
        Path("resources/restart_phrases.txt"),
        "Regular expressions of the judge-free restart detector, one per line.",
    )
    degraded: Literal["included", "excluded"] = key(
        "included",
        "Whether a response that repeats a word five times in a row counts. An excluded response "
        "has the status `degraded` and no score.",
        source="released code: included; January: excluded",
    )
    anchors: int = key(
        60,
        "Responses with known scores (resources/anchors.csv) that a judge that is a language model "
        "grades at the start and at the end of every job, to see it change; 0: none.",
        ge=0,
        le=60,
    )
    prices: Path = key(
        Path("resources/prices.csv"), "Prices of models, with their dates and sources."
    )
    budget: float | None = key(
        None,
        "Maximum cost of all replies of a study. Jobs that would exceed it stop cleanly.",
        unit="US dollars",
        ge=0,
    )

    @model_validator(mode="after")
    def _primary_exists(self) -> Self:
        if self.primary not in self.judges:
            raise ValueError(f"primary judge {self.primary!r} is not among {sorted(self.judges)}")
        if self.judges[self.primary].kind == "human":
            raise ValueError(
                f"primary judge {self.primary!r} is a person, who grades only the sheet"
            )
        return self

    @property
    def optional(self) -> dict[str, ApiConfig]:
        """Judges that may be left out, by name."""
        found = {n: judge for n, judge in self.judges.items() if isinstance(judge, ApiConfig)}
        return {name: judge for name, judge in found.items() if judge.optional}

    @property
    def shared(self) -> dict[str, str]:
        """What every other judge shares with the primary one, by name; people are left out.

        `shared_rule`: kind and model. `shared_blinding`: the label of the steered latent is shown
        to both, so that both may favour a condition. An empty text: neither of the two.
        """
        primary = self.judges[self.primary]
        told = isinstance(primary, LlmJudgeConfig) and primary.is_told
        found = {}
        for name, judge in self.judges.items():
            if name == self.primary or judge.kind == "human":
                continue
            if self._model_of(name) == self._model_of(self.primary):
                found[name] = "shared_rule"
            else:
                also = told and isinstance(judge, LlmJudgeConfig) and judge.is_told
                found[name] = "shared_blinding" if also else ""
        return found

    @property
    def second(self) -> str | None:
        """The judge whose grades of the sample check the primary judge's; None without one.

        The first one that shares neither rule nor blinding with it; else the first one of another
        kind or model; else the first other one. A person grades a sheet only.
        """
        shared = self.shared
        for wanted in ("", "shared_blinding", "shared_rule"):
            for name, what in shared.items():
                if what == wanted:
                    return name
        return None

    def _model_of(self, name: str) -> tuple[str, str]:
        judge = self.judges[name]
        return judge.kind, judge.model if isinstance(judge, LlmConfig) else ""

    @property
    def llms(self) -> dict[str, LlmConfig]:
        """Judges that are language models, by name."""
        return {name: judge for name, judge in self.judges.items() if isinstance(judge, LlmConfig)}

    @property
    def local(self) -> dict[str, VllmJudgeConfig]:
        """Judges that the workflow itself runs, by name."""
        return {n: judge for n, judge in self.judges.items() if isinstance(judge, VllmJudgeConfig)}

"""Rubrics: instructions to a language model, as files with a version.

A rubric never changes without its version changing. Its text is part of the key of every reply, so
another wording never meets old replies. Texts hold `$prompt`, `$response`,
`$label` and the like (`$$` is a dollar). `$nonce` is a mark for delimiters (`nonce_of`).
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from esr.config import LlmConfig, VllmJudgeConfig
from esr.config.strict_yaml import read_yaml
from esr.errors import EsrError
from esr.judges.replies import Call


class Expected(BaseModel):
    """Length of a reply, for estimates: `fixed` tokens and a multiple of the response's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fixed: float = Field(ge=0)
    of_response: float = Field(0, ge=0)


class Rubric(BaseModel):
    """A rubric, as in its file.

    `system` and `user` are the two texts of a call. `label` is added to the user's where the
    label of the steered latent is known; without `label` it is blind. `reply` is a JSON Schema
    that the reply is constrained to; without it the reply is text with JSON in it. With
    `reply_optional` it is used only where the model is known to take one. `quotes`: whether the
    judge quotes attempts from beginning to end (`whole`) or how they begin (`opening`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    version: int = Field(ge=1)
    system: str
    user: str
    label: str | None = None
    reply: dict[str, Any] | None = None
    reply_optional: bool = False
    quotes: Literal["whole", "opening"] = "opening"
    expected: Expected

    @model_validator(mode="after")
    def _templates_are_valid(self) -> Self:
        for text in (self.user, self.label or ""):
            if not Template(text).is_valid():
                raise ValueError("a $ that begins no name; write $$ for a dollar")
        return self

    @property
    def identity(self) -> str:
        """Name and version."""
        return f"{self.name}/{self.version}"

    def call(self, label: str | None = None, **texts: str) -> Call:
        """The call that shows these texts to a judge.

        Raises:
            EsrError: the rubric uses a text that is not given.
        """
        user = self.user
        texts["nonce"] = nonce_of(texts)
        if self.label is not None and label is not None:
            user += "\n" + Template(self.label).substitute(label=label.replace("$", "$$"))
        try:
            shown = Template(user).substitute(texts)
            return Call(self.system, shown, self.reply, schema_is_optional=self.reply_optional)
        except KeyError as error:
            raise EsrError(
                f"rubric {self.identity} uses ${error.args[0]}, but there are only "
                f"{', '.join(f'${name}' for name in texts if name != 'nonce')}"
            ) from None

    def for_model(self, settings: LlmConfig) -> Self:
        """The rubric for a model: without an optional schema, unless it is known to take one.

        Those that the workflow runs do, and those that judge by a rubric with a schema.
        """
        if not self.reply_optional or isinstance(settings, VllmJudgeConfig):
            return self
        takes_one = read_rubric(settings.rubric).reply is not None
        return self if takes_one else self.model_copy(update={"reply": None})


def nonce_of(texts: Mapping[str, str]) -> str:
    """Mark of the delimiters around texts that others wrote, so that these cannot close them.

    It follows from the texts, so equal calls are equal, and no text can hold its own mark.
    """
    whole = json.dumps(dict(sorted(texts.items())))
    return hashlib.sha256(whole.encode()).hexdigest()[:16]


def read_rubric(path: Path) -> Rubric:
    """Read a rubric from its file; its name is the file's.

    Raises:
        EsrError: as in `esr.config.strict_yaml.read_yaml`, or it is not a rubric.
    """
    try:
        content = read_yaml(path)
    except EsrError as error:
        raise EsrError(f"rubric: {error}") from None
    try:
        if not isinstance(content, Mapping):
            raise EsrError(f"rubric: {path} does not hold keys and values")
        return Rubric.model_validate({"name": path.stem, **content})
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors())
        raise EsrError(f"rubric: {path}: {wrong}") from None

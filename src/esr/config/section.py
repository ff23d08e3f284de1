"""The base class of every section of the configuration, and the types of its keys."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

NAME = r"^[A-Za-z0-9][A-Za-z0-9.+-]*$"

DEVICES = re.compile(r"con|prn|aux|nul|(com|lpt)\d", re.IGNORECASE)
"""Names that Windows reserves for devices, with any suffix."""
SCALARS = re.compile(
    r"true|false|yes|no|on|off|null|none|[\d.+-]+(e[+-]?\d+)?|0x[\da-f]+", re.IGNORECASE
)
"""Text that YAML or a reader takes for a number, a truth value or a missing value."""


def _usable_name(name: str) -> str:
    if DEVICES.fullmatch(name.split(".")[0]):
        raise ValueError(f"{name!r} is a device name on Windows; choose another name")
    if SCALARS.fullmatch(name):
        raise ValueError(
            f"{name!r} reads as a number, a truth value or null; choose a name with a word in it"
        )
    return name


Name = Annotated[str, Field(pattern=NAME), AfterValidator(_usable_name)]
"""Name of a study, model, arm or judge. It becomes a folder."""
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""Seeds fit 32 bits, which every library accepts."""

DOWNLOADS = Path("results/downloads")
"""Folder of the files that rules download for all studies; a path below it need not exist yet."""


def key(default: Any, description: str, *, unit: str = "", source: str = "", **limits: Any) -> Any:
    """Declare a configuration key with its description, unit and source (for docs and schema)."""
    extra: Any = {name: text for name, text in (("unit", unit), ("source", source)) if text}
    return Field(default, description=description, json_schema_extra=extra, **limits)


class Section(BaseModel):
    """A block of keys. Unknown keys are errors; values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_truth_value_for_a_number(cls, given: Any) -> Any:
        # Pydantic would take `true` as 1. Strict types are no way out: what is nested in
        # `--config` arrives as text, so text has to be accepted as a number.
        if not isinstance(given, Mapping):
            return given
        for name, value in given.items():
            field = cls.model_fields.get(name)
            items = value if isinstance(value, list | tuple) else [value]
            found = [item for item in items if isinstance(item, bool)]
            if found and field is not None and not _takes_bool(field.annotation):
                raise ValueError(
                    f"`{name}` is {found[0]}; give a number or quoted text (YAML reads yes, no, on "
                    "and off as truth values)"
                )
        return given


def _takes_bool(annotation: Any) -> bool:
    if annotation is bool or annotation is Any:
        return True
    if get_origin(annotation) is Literal:
        return any(isinstance(choice, bool) for choice in get_args(annotation))
    return any(_takes_bool(part) for part in get_args(annotation) if not isinstance(part, str))

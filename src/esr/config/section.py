"""What every section of the configuration is made of."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

NAME = r"^[A-Za-z0-9][A-Za-z0-9.+-]*$"
Name = Annotated[str, Field(pattern=NAME)]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]

DOWNLOADS = Path("results/downloads")
"""Where rules put what they download for all studies; a path below it need not exist yet."""


def key(default: Any, description: str, *, unit: str = "", source: str = "", **limits: Any) -> Any:
    """Declare a configuration key with its description, unit and source (for docs and schema)."""
    extra: Any = {name: text for name, text in (("unit", unit), ("source", source)) if text}
    return Field(default, description=description, json_schema_extra=extra, **limits)


class Section(BaseModel):
    """A block of keys. Unknown keys are errors; values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

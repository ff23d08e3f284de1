"""Keys by which a checkpoint, adapter or configuration makes a library run code from its files."""

from collections.abc import Mapping
from typing import Any

REMOTE_CODE = ("trust_remote_code", "auto_map", "auto_mapping")
"""`transformers` and axolotl, `transformers`, PEFT."""


def find_remote_code(content: Any) -> str | None:
    """The first key of `REMOTE_CODE`, at any depth, that is set; None if there is none.

    Args:
        content: Parsed JSON or YAML.
    """
    if isinstance(content, Mapping):
        for key, value in content.items():
            if value and any(str(key).startswith(name) for name in REMOTE_CODE):
                return str(key)
            found = find_remote_code(value)
            if found is not None:
                return found
    elif isinstance(content, list):
        return next(filter(None, map(find_remote_code, content)), None)
    return None

"""Plain values of a YAML text. By libyaml where PyYAML has it, in a tenth of the time."""

from typing import Any

import yaml

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load_yaml(text: str) -> Any:
    """Value of a YAML text.

    Raises:
        yaml.YAMLError: it is not YAML.
    """
    return yaml.load(text, LOADER)
